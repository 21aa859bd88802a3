//! Configuration space, status, reset.

use crate::rig::devices::Adder;
use crate::rig::front::{Front, Plan};
use crate::rig::payloads::span;
use crate::rig::peer::*;
use crate::rig::running::Running;
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::Features;

fn read(peer: &Peer, offset: u32, len: u32) -> Vec<u8> {
    peer.ask(GET_CONFIG, &span(offset, len, 0, &vec![0; len as usize]), &[])
}

#[test]
fn the_configuration_space_is_read_and_zero_beyond() {
    let running = Running::new(VirtioDemo::default);
    let peer = running.peer();
    peer.agree(CONFIG);
    assert_eq!(read(&peer, 0, 4), span(0, 4, 0, &[0x33, 0x13, 0, 0]));
    assert_eq!(read(&peer, 1, 5), span(1, 5, 0, &[0x13, 0, 0, 0, 0]));
    assert_eq!(read(&peer, 200, 2), span(200, 2, 0, &[0, 0]));
    let without_bytes = peer.ask(GET_CONFIG, &span(0, 2, 0, &[]), &[]);
    assert_eq!(without_bytes, span(0, 2, 0, &[0x33, 0x13]));
}

/// A reply without bytes is the protocol's error.
#[test]
fn a_read_that_cannot_be_is_answered_with_nothing() {
    let running = Running::new(VirtioDemo::default);
    let peer = running.peer();
    peer.agree(CONFIG);
    for (offset, len) in [(0, 0), (4096, 1), (u32::MAX, 2), (1, 4096), (0, u32::MAX)] {
        assert_eq!(peer.ask(GET_CONFIG, &span(offset, len, 0, &[]), &[]), [], "{offset} {len}");
    }
}

#[test]
fn the_configuration_space_is_written_where_it_may_be() {
    let running = Running::new(|| Adder::new(1));
    let peer = running.peer();
    peer.agree(CONFIG);
    peer.must(SET_CONFIG, &span(1, 2, 0, &[1, 2]), &[]);
    assert_eq!(read(&peer, 0, 4), span(0, 4, 0, &[0, 1, 2, 0]));
    for (offset, len) in [(15, 2), (16, 1), (u32::MAX, 1)] {
        assert_eq!(peer.status(SET_CONFIG, &span(offset, len, 0, &vec![9; len as usize]), &[]), 1);
        peer.send(SET_CONFIG, &span(offset, len, 0, &vec![9; len as usize]), &[]);
    }
    assert_eq!(read(&peer, 0, 4), span(0, 4, 0, &[0, 1, 2, 0]), "a guest's stray write ends nothing");
}

#[test]
fn a_read_only_configuration_space_stays_as_it_is() {
    let running = Running::new(VirtioDemo::default);
    let peer = running.peer();
    peer.agree(CONFIG);
    assert_eq!(peer.status(SET_CONFIG, &span(0, 4, 0, &[9; 4]), &[]), 1);
    assert_eq!(read(&peer, 0, 4), span(0, 4, 0, &[0x33, 0x13, 0, 0]));
}

#[test]
fn reset_takes_the_device_back_to_its_beginning() {
    let running = Running::new(|| Adder::new(1));
    for features in [Features::NONE, Features::RING_PACKED] {
        let mut front = Front::start(&running.path, Plan::new(features));
        assert_eq!(front.add(0, 7), 7);
        front.do_(RESET_DEVICE, &[], &[]);
        assert_eq!(read(&front.peer, 0, 1), span(0, 1, 0, &[0]));
        assert_eq!(front.peer.status(SET_VRING_ENABLE, &words(&[0, 1]), &[]), 0, "enabled, but not started");
        assert_eq!(front.peer.status(SET_VRING_KICK, &longs(&[0]), &fds(&[&front.rings[0].kick])), 1);
        front.do_(SET_FEATURES, &longs(&[front.plan.features.0]), &[]);
        front.rings[0].driver.reset();
        front.start_ring(0, 0);
        assert_eq!(front.add(0, 1), 1);
    }
}

/// A front-end that can say reset says status 0 for less; one that cannot means it.
#[test]
fn status_0_is_a_reset_where_there_is_no_other() {
    let running = Running::new(|| Adder::new(1));
    for (protocol, left) in [(RESET_DEVICE_FEATURE, 7), (0, 0)] {
        let plan = Plan { protocol: REPLY_ACK | STATUS | CONFIG | protocol, ..Plan::new(Features::NONE) };
        let mut front = Front::start(&running.path, plan);
        assert_eq!(front.add(0, 7), 7);
        front.do_(SET_STATUS, &longs(&[0]), &[]);
        assert_eq!(front.peer.ask_long(GET_STATUS), 0);
        assert_eq!(read(&front.peer, 0, 1), span(0, 1, 0, &[left]));
    }
}

#[test]
fn s2_1_features_ok_holds_only_once_features_are_set() {
    let running = Running::new(|| Adder::new(1));
    let peer = running.peer();
    peer.agree(STATUS);
    peer.must(SET_STATUS, &longs(&[11]), &[]);
    assert_eq!(peer.ask_long(GET_STATUS), 3);
    peer.must(SET_FEATURES, &longs(&[(Features::VERSION_1 | Features::bit(30)).0]), &[]);
    peer.must(SET_STATUS, &longs(&[11]), &[]);
    assert_eq!(peer.ask_long(GET_STATUS), 11);
    assert_eq!(peer.status(SET_STATUS, &longs(&[256]), &[]), 1);
}

/// A driver's fault: the ring's error descriptor, the status, and a device that a renewed negotiation brings back.
#[test]
fn a_faulty_ring_is_reported_and_recovered_from() {
    let running = Running::new(|| Adder::new(1));
    let mut front = Front::start(&running.path, Plan::new(Features::NONE));
    assert_eq!(front.add(0, 5), 5);
    let driver_area = front.rings[0].driver.layout().driver_area;
    vioduct_virtqueue::Memory::write(&*front.memory, driver_area.checked_add(2).unwrap(), &[0xff, 0x7f])
        .unwrap();
    front.kick(0);
    assert!(crate::rig::front::wait(&front.rings[0].error));
    assert_eq!(front.peer.ask_long(GET_STATUS), 64, "NEEDS_RESET");
    assert_eq!(front.stop_ring(0), 0, "as it was set, for where it stood means nothing");
    front.rings[0].driver.reset();
    front.do_(SET_FEATURES, &longs(&[front.plan.features.0]), &[]);
    assert_eq!(front.peer.ask_long(GET_STATUS), 0);
    front.start_ring(0, 0);
    assert_eq!(front.add(0, 1), 6);
}

#[test]
fn features_are_those_that_rings_can_carry() {
    let running = Running::new(|| Adder::new(1));
    let peer = running.peer();
    let offered = Features(peer.ask_long(GET_FEATURES));
    let carried =
        Features::RING | Features::RING_RESET | Features::bit(5) | Features::bit(26) | Features::bit(30);
    assert_eq!(offered, carried);
    peer.agree(0);
    for extra in [Features::NOTIFICATION_DATA, Features::ACCESS_PLATFORM, Features::bit(0), Features::bit(63)]
    {
        assert_eq!(peer.status(SET_FEATURES, &longs(&[(Features::VERSION_1 | extra).0]), &[]), 1, "{extra}");
    }
    assert_eq!(peer.status(SET_FEATURES, &longs(&[0]), &[]), 1, "legacy");
}
