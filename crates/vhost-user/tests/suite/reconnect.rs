//! Clients that go away at any byte, and several at a time.

use crate::rig::devices::Adder;
use crate::rig::front::{Front, Plan};
use crate::rig::peer::*;
use crate::rig::running::Running;
use vioduct_virtio_device::Features;

#[test]
fn clients_have_devices_of_their_own() {
    let running = Running::new(|| Adder::new(1));
    let mut one = Front::start(&running.path, Plan::new(Features::NONE));
    let mut other = Front::start(&running.path, Plan::new(Features::RING_PACKED));
    assert_eq!((one.add(0, 1), other.add(0, 10)), (1, 10));
    assert_eq!((one.add(0, 1), other.add(0, 10)), (2, 20));
    drop(one);
    assert_eq!(other.add(0, 10), 30);
    let mut third = Front::start(&running.path, Plan::new(Features::NONE));
    assert_eq!((third.add(0, 100), other.add(0, 10)), (100, 40));
}

/// Half a message keeps nobody waiting but its sender.
#[test]
fn row64_a_client_that_stops_within_a_message_blocks_no_other() {
    let running = Running::new(|| Adder::new(1));
    let stuck: Vec<Peer> = (1..20)
        .map(|len| {
            let peer = running.peer();
            peer.send_bytes(&message(SET_FEATURES, 1, &longs(&[1]))[..len], &[]);
            peer
        })
        .collect();
    let mut front = Front::start(&running.path, Plan::new(Features::NONE));
    assert_eq!(front.add(0, 3), 3);
    drop(stuck);
}
