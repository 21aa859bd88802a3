//! Shared memory: tables, slots, and what is refused.

use crate::rig::devices::Adder;
use crate::rig::front::{Front, GUEST_START, MEMORY_LEN, Plan, USER_SHIFT, file_of, guest_memory};
use crate::rig::payloads::{Region, sealed_file, slot, table};
use crate::rig::peer::*;
use crate::rig::running::Running;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::os::fd::AsFd;
use std::sync::Arc;
use vioduct_vhost_user::{Limits, SharedFiles};
use vioduct_virtio_device::Features;

fn peer(running: &Running) -> Peer {
    let peer = running.peer();
    peer.agree(MEM_SLOTS);
    peer
}

#[test]
fn rings_go_on_when_memory_is_added_removed_and_replaced() {
    let running = Running::new(|| Adder::new(2));
    for features in [Features::NONE, Features::RING_PACKED] {
        let mut front = Front::start(&running.path, Plan { queues: 2, ..Plan::new(features) });
        assert_eq!((front.add(0, 1), front.add(1, 1)), (1, 2));
        let more = slot([0x1_0000_0000, 0x10_0000, 0x10_0000, 0x1000]);
        front.peer.must(ADD_MEM_REG, &more, &[sealed_file(0x20_0000).as_fd()]);
        assert_eq!((front.add(0, 1), front.add(1, 1)), (3, 4));
        front.peer.must(REM_MEM_REG, &more, &[]);
        assert_eq!((front.add(0, 1), front.add(1, 1)), (5, 6));
        front.share();
        assert_eq!((front.add(0, 1), front.add(1, 1)), (7, 8));
    }
}

/// A request whose buffers are in a region that came later, the other side of a border that rings do not cross.
#[test]
fn a_buffer_may_cross_from_one_region_into_the_next() {
    let running = Running::new(|| Adder::new(1));
    let mut front = Front::in_reset(running.peer(), Plan::new(Features::NONE), Arc::new(guest_memory()));
    front.negotiate();
    let file = file_of(&front.memory);
    let half = MEMORY_LEN / 2;
    let low = [GUEST_START, half, GUEST_START + USER_SHIFT, 0];
    let high = [GUEST_START + half, half, USER_SHIFT, half];
    front.peer.must(SET_MEM_TABLE, &table(&[low, high]), &[file.as_fd(), file.as_fd()]);
    front.start_ring(0, 0);
    let _ = front.place(0);
    while front.place(8).addr.0 + 12 < GUEST_START + half {}
    let _ = front.place(4);
    assert_eq!(front.add(0, 0x0102_0304_0506_0708), 0x0102_0304_0506_0708);
}

/// A ring in memory that is taken away cannot go on; the request says so, and the rest of the device does.
#[test]
fn a_ring_without_memory_stops() {
    let running = Running::new(|| Adder::new(1));
    let mut front = Front::start(&running.path, Plan::new(Features::NONE));
    assert_eq!(front.add(0, 1), 1);
    let region = slot([GUEST_START, MEMORY_LEN, GUEST_START + USER_SHIFT, 0]);
    assert_eq!(front.peer.status(REM_MEM_REG, &region, &[]), 1);
    let _ = front.submit(0, 1);
    front.kick(0);
    front.peer.barrier();
    assert_eq!(front.take(0), None);
    front.share();
    assert_eq!(front.await_reply(0), 2);
}

#[test]
fn as_many_slots_as_are_promised() {
    let running = Running::new(|| Adder::new(1));
    let peer = peer(&running);
    let file = sealed_file(0x1000);
    let slots = peer.ask_long(GET_MAX_MEM_SLOTS);
    let at = |slot_number: u64| slot([slot_number << 20, 0x1000, slot_number << 20, 0]);
    assert_eq!(slots, 509);
    let outcomes: Vec<u64> = (0..=slots).map(|n| peer.status(ADD_MEM_REG, &at(n), &[file.as_fd()])).collect();
    assert_eq!(outcomes.iter().sum::<u64>(), 1, "one more is refused");
    assert_eq!(outcomes.last(), Some(&1));
    peer.must(REM_MEM_REG, &at(7), &[file.as_fd()]);
    assert_eq!(peer.status(REM_MEM_REG, &at(7), &[]), 1, "it is not there any more");
    peer.must(ADD_MEM_REG, &at(7), &[file.as_fd()]);
}

/// Every way for a region not to be one. What is refused changes nothing.
#[test]
fn row62_a_memory_region_that_cannot_be_is_refused() {
    const TOP: u64 = !0xfff;
    let running = Running::new(|| Adder::new(1));
    let peer = peer(&running);
    let file = sealed_file(0x4000);
    peer.must(SET_MEM_TABLE, &table(&[[0x10_0000, 0x2000, 0x90_0000, 0]]), &[file.as_fd()]);
    let bad: &[(&str, Region)] = &[
        ("empty", [0, 0, 0, 0]),
        ("guest address wraps", [TOP, 0x1000, 0, 0]),
        ("user address wraps", [0, 0x2000, TOP, 0]),
        ("offset wraps", [0, 0x2000, 0, TOP]),
        ("longer than the file", [0, 0x5000, 0, 0]),
        ("beyond the file", [0, 0x1000, 0, 0x4000]),
        ("partly beyond the file", [0, 0x2000, 0, 0x3000]),
        ("guest address within a page", [0x800, 0x1000, 0, 0]),
        ("offset within a page", [0, 0x1000, 0, 0x10]),
        ("overlaps by guest address", [0x10_1000, 0x1000, 0, 0]),
        ("contains by guest address", [0xf_f000, 0x4000, 0, 0]),
        ("overlaps by user address", [0, 0x1000, 0x90_1000, 0]),
        ("more than the address space", [0, u64::MAX >> 1, 0, 0]),
    ];
    for (what, region) in bad {
        assert_eq!(peer.status(ADD_MEM_REG, &slot(*region), &[file.as_fd()]), 1, "{what}");
        assert_eq!(
            peer.status(SET_MEM_TABLE, &table(&[*region]), &[file.as_fd()]),
            u64::from(!what.contains("by ")),
            "{what}"
        );
        peer.must(SET_MEM_TABLE, &table(&[[0x10_0000, 0x2000, 0x90_0000, 0]]), &[file.as_fd()]);
    }
    peer.must(REM_MEM_REG, &slot([0x10_0000, 0x2000, 0x90_0000, 0]), &[]);
}

/// Two regions of one table overlap each other.
#[test]
fn row62_a_table_that_overlaps_itself_is_refused() {
    let running = Running::new(|| Adder::new(1));
    let peer = peer(&running);
    let file = sealed_file(0x4000);
    let (one, other) = ([0, 0x2000, 0, 0], [0x1000, 0x1000, 0x10_0000, 0]);
    assert_eq!(peer.status(SET_MEM_TABLE, &table(&[one, other]), &[file.as_fd(), file.as_fd()]), 1);
}

/// A mapping of a file that is cut short would kill the server at the next access.
#[test]
fn row62_a_file_that_can_be_shrunk_is_refused_unless_clients_are_trusted() {
    let file = memfd_create("memory", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, 0x4000).unwrap();
    let region = table(&[[0, 0x1000, 0, 0]]);
    let strict = Running::new(|| Adder::new(1));
    assert_eq!(peer(&strict).status(SET_MEM_TABLE, &region, &[file.as_fd()]), 1);
    let limits = Limits { shared_files: SharedFiles::Any, ..Limits::default() };
    let trusting = Running::with_limits(limits, || Adder::new(1));
    assert_eq!(peer(&trusting).status(SET_MEM_TABLE, &region, &[file.as_fd()]), 0);
}

#[test]
fn row62_a_client_cannot_take_the_whole_address_space() {
    let limits = Limits { guest_memory_bytes: 0x10_0000, ..Limits::default() };
    let running = Running::with_limits(limits, || Adder::new(1));
    let peer = peer(&running);
    let file = sealed_file(1 << 40);
    let region = |at: u64, len: u64| slot([at, len, at, 0]);
    peer.must(ADD_MEM_REG, &region(0, 0xf_f000), &[file.as_fd()]);
    assert_eq!(peer.status(ADD_MEM_REG, &region(1 << 30, 0x2000), &[file.as_fd()]), 1);
    peer.must(ADD_MEM_REG, &region(1 << 30, 0x1000), &[file.as_fd()]);
}
