//! The log of pages that a device has written.

use crate::rig::devices::Adder;
use crate::rig::front::{Front, GUEST_START, Plan};
use crate::rig::payloads::sealed_file;
use crate::rig::peer::*;
use crate::rig::running::Running;
use rustix::io::{pread, pwrite};
use std::os::fd::{AsFd, OwnedFd};
use vioduct_virtio_device::Features;
use vioduct_virtqueue::{AreaSizes, RingFormat};

const LOG_ALL: Features = Features::bit(26);
const LOG_RING: u32 = 1;
/// Enough for guest memory, which ends at 0x4080_0000.
const LOG_LEN: u64 = 0x4080_0000 / 4096 / 8;

fn plan(features: Features) -> Plan {
    let plan = Plan::new(features);
    Plan { protocol: plan.protocol | LOG_SHMFD, ..plan }
}

fn set_log(front: &Front, len: u64, offset: u64, file: &OwnedFd) {
    let reply = front.peer.ask(SET_LOG_BASE, &longs(&[len, offset]), &[file.as_fd()]);
    assert_eq!(reply, longs(&[0]));
}

/// The pages that are marked, which are taken out.
fn take(file: &OwnedFd, offset: u64) -> Vec<u64> {
    let mut bytes = vec![0; LOG_LEN as usize];
    assert_eq!(pread(file, &mut bytes, offset).unwrap(), bytes.len());
    pwrite(file, &vec![0; bytes.len()], offset).unwrap();
    let marked = |place: &u64| bytes[*place as usize / 8] >> (place % 8) & 1 == 1;
    (0..LOG_LEN * 8).filter(marked).collect()
}

fn say_address(front: &Front, flags: u32, log: u64) {
    let layout = front.rings[0].driver.layout();
    let user = |at: vioduct_virtqueue::IoAddr| at.0 + crate::rig::front::USER_SHIFT;
    let areas = [user(layout.descriptor_area), user(layout.device_area), user(layout.driver_area), log];
    front.do_(SET_VRING_ADDR, &[words(&[0, flags]), longs(&areas)].concat(), &[]);
}

fn set_features(front: &Front, more: Features) {
    front.do_(SET_FEATURES, &longs(&[(front.plan.features | more).0]), &[]);
}

/// As a live migration does it: the log, then data, then rings; then off again. Buffers are a page apart from each other.
#[test]
fn what_a_device_writes_is_logged_while_the_front_end_wants_it() {
    let running = Running::new(|| Adder::new(1));
    for features in [Features::NONE, Features::EVENT_IDX, Features::RING_PACKED] {
        let mut front = Front::start(&running.path, plan(features));
        let file = sealed_file(LOG_LEN + 0x2000);
        let mut sum = 0;
        let mut add = |front: &mut Front| {
            front.next = (front.next + 8).next_multiple_of(4096) - 8;
            sum += 1;
            // The request ends a page, so the reply begins the next.
            let reply = front.next + 8;
            assert_eq!(front.add(0, 1), sum);
            reply / 4096
        };
        add(&mut front);
        set_log(&front, LOG_LEN, 0x1000, &file);
        add(&mut front);
        assert_eq!(take(&file, 0x1000), [], "nothing is wanted");
        set_features(&front, LOG_ALL);
        let data = add(&mut front);
        assert_eq!(take(&file, 0x1000), [data], "data");
        say_address(&front, LOG_RING, 0x10_0000);
        let data = add(&mut front);
        // A device area is logged where the front-end says; the descriptors of a packed ring where they are.
        let mut ring = vec![0x10_0000 / 4096];
        if features.contains(Features::RING_PACKED) {
            ring.push(GUEST_START / 4096);
        }
        ring.push(data);
        assert_eq!(take(&file, 0x1000), ring, "data and ring");
        set_features(&front, Features::NONE);
        add(&mut front);
        ring.pop();
        assert_eq!(take(&file, 0x1000), ring, "the ring alone");
        say_address(&front, 0, 0);
        // The device may have asked for kicks, which is a write to the ring, after the log was taken.
        let _ = take(&file, 0x1000);
        add(&mut front);
        assert_eq!(take(&file, 0x1000), [], "nothing any more");
        assert_eq!(pread(&file, &mut [0; 0x1000], 0).unwrap(), 0x1000);
    }
}

/// A device area over two pages is logged whole.
#[test]
fn every_page_of_a_device_area_is_logged() {
    let running = Running::new(|| Adder::new(1));
    let mut front = Front::start(&running.path, Plan { size: 1024, ..plan(Features::NONE) });
    let file = sealed_file(LOG_LEN);
    set_log(&front, LOG_LEN, 0, &file);
    say_address(&front, LOG_RING, 0x3ff8);
    assert_eq!(front.add(0, 1), 1);
    let len = AreaSizes::of(RingFormat::Split, 1024).device_len as u64;
    assert_eq!((take(&file, 0), len), (vec![3, 4, 5], 8198));
}

/// Toggled while requests are under way: none is lost, and what is written while the log is on is in it.
#[test]
fn row61_the_log_may_be_toggled_under_load() {
    let running = Running::new(|| Adder::new(1));
    let mut front = Front::start(&running.path, plan(Features::RING_PACKED));
    let file = sealed_file(LOG_LEN);
    set_log(&front, LOG_LEN, 0, &file);
    let mut expected = 0;
    for round in 0..50 {
        for _ in 0..5 {
            let _ = front.submit(0, 1);
        }
        front.kick(0);
        set_features(&front, if round % 2 == 0 { LOG_ALL } else { Features::NONE });
        for _ in 0..5 {
            expected += 1;
            assert_eq!(front.await_reply(0), expected);
        }
    }
    assert!(!take(&file, 0).is_empty());
}

/// A log that ends before memory does, or a ring that is to be logged anywhere: bits beyond the log are not set anywhere else.
#[test]
fn row48_pages_beyond_the_log_are_dropped() {
    let running = Running::new(|| Adder::new(1));
    let mut front = Front::start(&running.path, plan(Features::NONE));
    let file = sealed_file(0x3000);
    set_log(&front, 0x1000, 0x1000, &file);
    set_features(&front, LOG_ALL);
    let mut sum = 0;
    for log in [0, 0x1000 * 8 * 4096 - 4, 0x1000 * 8 * 4096, GUEST_START, u64::MAX, u64::MAX - 16] {
        say_address(&front, LOG_RING, log);
        sum += 1;
        assert_eq!(front.add(0, 1), sum);
    }
    let mut bytes = [0; 0x3000];
    assert_eq!(pread(&file, &mut bytes, 0).unwrap(), 0x3000);
    assert_eq!(bytes[..0x1000], [0; 0x1000]);
    assert_eq!(bytes[0x2000..], [0; 0x1000]);
    assert_eq!((bytes[0x1000], bytes[0x1fff]), (1, 0x80), "the first page and the last");
}

/// Offset and length: their sum wraps, or is beyond the file; the log is empty, unaligned, or too long.
#[test]
fn row48_a_log_outside_of_its_file_is_refused() {
    let running = Running::new(|| Adder::new(1));
    let file = sealed_file(0x4000);
    for (len, offset) in [
        (0, 0),
        (0x4001, 0),
        (0x1000, 0x4000),
        (0x2000, 0x3000),
        (u64::MAX, 1),
        (0x1000, u64::MAX - 0xfff),
        (u64::MAX - 0xfff, 0x1000),
        (0x1000, 8),
        (1 << 41, 0),
    ] {
        let peer = running.peer();
        peer.agree(LOG_SHMFD);
        peer.send(SET_LOG_BASE, &longs(&[len, offset]), &[file.as_fd()]);
        peer.expect_end();
    }
}
