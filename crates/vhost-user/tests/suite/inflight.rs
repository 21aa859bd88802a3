//! Records of what is in flight: who makes them, who may give which back.

use crate::rig::devices::Adder;
use crate::rig::front::{Front, Plan};
use crate::rig::payloads::{inflight, sealed_file};
use crate::rig::peer::*;
use crate::rig::running::Running;
use rustix::fs::fstat;
use rustix::io::pwrite;
use std::os::fd::{AsFd, OwnedFd};
use vioduct_virtio_device::Features;

fn plan(features: Features) -> Plan {
    let plan = Plan::new(features);
    Plan { protocol: plan.protocol | INFLIGHT_SHMFD, ..plan }
}

/// What the server answers to a request for records.
fn make(peer: &Peer, payload: &[u8]) -> (Vec<u8>, OwnedFd) {
    peer.send(GET_INFLIGHT_FD, payload, &[]);
    let mut reply = peer.expect_reply(GET_INFLIGHT_FD);
    assert_eq!(reply.fds.len(), 1);
    (reply.payload, reply.fds.remove(0))
}

fn agreed(running: &Running) -> Peer {
    let peer = running.peer();
    peer.agree(INFLIGHT_SHMFD);
    peer
}

#[test]
fn records_are_made_as_long_as_they_must_be() {
    let running = Running::new(|| Adder::new(4));
    let peer = agreed(&running);
    let (reply, file) = make(&peer, &inflight(0, 0, 4, 128));
    let len = u64::from_ne_bytes(reply[..8].try_into().unwrap());
    // A packed ring's: 32 bytes and 32 for each of 128 descriptors, by cache lines.
    assert_eq!((reply, len), (inflight(len, 0, 4, 128), 4 * 4160));
    assert_eq!(fstat(&file).unwrap().st_size as u64, len);
    // With the padding of C, the reply has it too.
    let padded = [inflight(0, 0, 1, 16), vec![0; 4]].concat();
    let (reply, _) = make(&peer, &padded);
    assert_eq!(reply.len(), 24);
}

/// A device that serves with records does what one without does, stops and resumes included.
#[test]
fn rings_with_records_stop_and_go_on() {
    let running = Running::new(|| Adder::new(1));
    for features in [
        Features::NONE,
        Features::IN_ORDER,
        Features::RING_PACKED,
        Features::RING_PACKED | Features::IN_ORDER,
    ] {
        let mut front = Front::start(&running.path, plan(features));
        front.stop_ring(0);
        front.rings[0].driver.reset();
        let (records, file) = make(&front.peer, &inflight(0, 0, 1, 16));
        front.do_(SET_INFLIGHT_FD, &records, &[&file]);
        front.start_ring(0, 0);
        for number in 1..=50 {
            assert_eq!(front.add(0, 1), number, "{features}");
            if number % 7 == 0 {
                let base = front.stop_ring(0);
                front.do_(SET_INFLIGHT_FD, &records, &[&file]);
                front.start_ring(0, base);
            }
        }
    }
}

/// Repeated without end, each replaces the one before; the descriptor is the client's.
#[test]
fn row51_records_may_be_asked_for_again_and_again() {
    let running = Running::new(|| Adder::new(1));
    let peer = agreed(&running);
    let (records, file) = make(&peer, &inflight(0, 0, 1, 256));
    for _ in 0..5000 {
        let _ = make(&peer, &inflight(0, 0, 1, 256));
        peer.must(SET_INFLIGHT_FD, &records, &[file.as_fd()]);
    }
}

/// Rings that the device does not have, sizes that no ring has, lengths that wrap.
#[test]
fn row54_records_of_rings_that_there_are_not_are_refused() {
    let running = Running::new(|| Adder::new(2));
    let file = sealed_file(0x10_0000);
    for (rings, size) in [(0, 16), (3, 16), (u16::MAX, 16), (1, 0), (2, 32769), (1, u16::MAX)] {
        let peer = agreed(&running);
        assert_eq!(peer.status(SET_INFLIGHT_FD, &inflight(0x10_0000, 0, rings, size), &[file.as_fd()]), 1);
        peer.send(GET_INFLIGHT_FD, &inflight(0, 0, rings, size), &[]);
        peer.expect_end();
    }
}

/// What is announced, what the file has, and what the records take must agree.
#[test]
fn row55_records_that_do_not_fit_are_refused() {
    let running = Running::new(|| Adder::new(2));
    let peer = agreed(&running);
    let file = sealed_file(0x2000);
    let set = |len, offset, rings, size| {
        peer.status(SET_INFLIGHT_FD, &inflight(len, offset, rings, size), &[file.as_fd()])
    };
    assert_eq!(set(2 * 576, 0, 2, 16), 0);
    assert_eq!(set(2 * 576 - 1, 0, 2, 16), 1, "announced as too short");
    assert_eq!(set(u64::MAX, 0, 2, 16), 0, "announced as longer: what counts is what is needed");
    assert_eq!(set(u64::MAX, 0, 2, 16384), 1, "longer than the file");
    assert_eq!(set(2 * 576, 0x2000 - 1152, 2, 16), 0);
    assert_eq!(set(2 * 576, 0x2000 - 1136, 2, 16), 1, "beyond the end of the file");
    assert_eq!(set(2 * 576, u64::MAX - 15, 2, 16), 1, "wraps");
    assert_eq!(set(2 * 576, 8, 2, 16), 1, "unaligned");
}

#[test]
fn row55_records_are_fixed_while_a_ring_runs_and_fit_the_ring() {
    let running = Running::new(|| Adder::new(1));
    let mut front = Front::start(&running.path, plan(Features::NONE));
    let (small, small_file) = make(&front.peer, &inflight(0, 0, 1, 8));
    assert_eq!(front.peer.status(SET_INFLIGHT_FD, &small, &[small_file.as_fd()]), 1);
    assert_eq!(front.add(0, 1), 1);
    let base = front.stop_ring(0);
    front.do_(SET_INFLIGHT_FD, &small, &[&small_file]);
    front.do_(SET_VRING_BASE, &words(&[0, base]), &[]);
    let kick = [front.rings[0].kick.as_fd()];
    assert_eq!(front.peer.status(SET_VRING_KICK, &longs(&[0]), &kick), 1, "a ring of 16 in records of 8");
}

/// The client writes into the records while the device serves, and before it starts again. The device goes on or refuses to
/// start; it does nothing else.
#[test]
fn row56_records_that_change_meanwhile_harm_their_client_alone() {
    let running = Running::new(|| Adder::new(1));
    let mut other = Front::start(&running.path, plan(Features::NONE));
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for round in 1..=200 {
        let features = if round % 2 == 0 { Features::RING_PACKED } else { Features::NONE };
        let mut front = Front::start(&running.path, plan(features));
        front.stop_ring(0);
        front.rings[0].driver.reset();
        let (records, file) = make(&front.peer, &inflight(0, 0, 1, 16));
        front.do_(SET_INFLIGHT_FD, &records, &[&file]);
        front.start_ring(0, 0);
        for number in 1..=3 {
            assert_eq!(front.add(0, 1), number, "a running queue reads no records");
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            pwrite(&file, &random.to_ne_bytes(), random % 500).unwrap();
        }
        let base = front.stop_ring(0);
        front.do_(SET_INFLIGHT_FD, &records, &[&file]);
        front.do_(SET_VRING_BASE, &words(&[0, base]), &[]);
        let status = front.peer.status(SET_VRING_KICK, &longs(&[0]), &[front.rings[0].kick.as_fd()]);
        assert!(status <= 1);
        assert_eq!(other.add(0, 1), round);
    }
}
