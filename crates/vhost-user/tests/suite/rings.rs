//! Rings: start, stop, positions, in every order in which front-ends do it.

use crate::rig::devices::Adder;
use crate::rig::front::{Front, Plan, guest_memory};
use crate::rig::peer::*;
use crate::rig::running::Running;
use std::sync::Arc;
use vioduct_virtio_device::{EventFd, Features};
use vioduct_virtqueue::Kick;

const FORMATS: [Features; 4] = [
    Features::NONE,
    Features::EVENT_IDX,
    Features::RING_PACKED,
    Features::RING_PACKED.with(Features::EVENT_IDX).with(Features::IN_ORDER),
];

#[test]
fn requests_are_served_in_every_format() {
    let running = Running::new(|| Adder::new(1));
    for features in FORMATS {
        let mut front = Front::start(&running.path, Plan::new(features));
        let sums: Vec<u64> = (1..=100).map(|number| front.add(0, number)).collect();
        let expected: Vec<u64> = (1..=100).map(|number| number * (number + 1) / 2).collect();
        assert_eq!(sums, expected, "{features}");
    }
}

#[test]
fn each_queue_is_served_by_itself() {
    let running = Running::new(|| Adder::new(4));
    let mut front = Front::start(&running.path, Plan { queues: 4, ..Plan::new(Features::NONE) });
    assert_eq!(front.peer.ask_long(GET_QUEUE_NUM), 4);
    let mut sum = 0;
    for number in 1..=40 {
        sum += number;
        assert_eq!(front.add((number % 4) as u16, number), sum);
    }
}

/// Without protocol features there is nothing but a kick to start a ring with.
#[test]
fn a_ring_runs_at_its_kick_where_protocol_features_are_not_set() {
    let running = Running::new(|| Adder::new(1));
    for features in FORMATS {
        let plan = Plan { features: features | Features::VERSION_1, ..Plan::new(Features::NONE) };
        let mut front = Front::start(&running.path, plan);
        assert_eq!(front.add(0, 5), 5, "{features}");
    }
}

/// A ring that is started and not enabled, or enabled and not started, is left alone.
#[test]
fn a_ring_runs_only_while_it_is_started_and_enabled() {
    let running = Running::new(|| Adder::new(1));
    let mut front = Front::start(&running.path, Plan::new(Features::NONE));
    front.do_(SET_VRING_ENABLE, &words(&[0, 0]), &[]);
    let _ = front.submit(0, 3);
    front.kick(0);
    front.peer.barrier();
    assert_eq!(front.take(0), None, "disabled");
    front.do_(SET_VRING_ENABLE, &words(&[0, 1]), &[]);
    assert_eq!(front.await_reply(0), 3, "a kick that came meanwhile is made up for");
    let base = front.stop_ring(0);
    let _ = front.submit(0, 4);
    front.do_(SET_VRING_ENABLE, &words(&[0, 1]), &[]);
    front.kick(0);
    front.peer.barrier();
    assert_eq!((front.take(0), base), (None, 1), "stopped");
    front.do_(SET_VRING_KICK, &longs(&[0]), &[&EventFd::new().unwrap()]);
    assert_eq!(front.await_reply(0), 7);
}

/// Stop and go on at every place of a ring, through three rounds of it.
#[test]
fn a_stopped_ring_goes_on_where_it_stood() {
    let running = Running::new(|| Adder::new(1));
    for features in FORMATS {
        let size = if features.contains(Features::RING_PACKED) { 7 } else { 8 };
        let mut front = Front::start(&running.path, Plan { size, ..Plan::new(features) });
        let mut bases = Vec::new();
        for number in 1..=3 * u64::from(size) {
            let sum = number * (number + 1) / 2;
            assert_eq!(front.add(0, number), sum, "{features}, request {number}");
            let base = front.stop_ring(0);
            bases.push(base);
            front.start_ring(0, base);
        }
        let expected: Vec<u32> = match features.contains(Features::RING_PACKED) {
            false => (1..=24).collect(),
            // Two descriptors a request: 14 of them are two rounds of the ring, and the wrap counters show it.
            true => (1..=21)
                .map(|count: u32| {
                    let (index, wrap) = (2 * count % 7, 1 - 2 * count / 7 % 2);
                    (index | wrap << 15) * 0x1_0001
                })
                .collect(),
        };
        assert_eq!(bases, expected, "{features}");
    }
}

/// Base 0 is a packed ring's after one round, and also what some front-ends give a ring that begins.
#[test]
fn a_packed_ring_with_base_0_is_fresh_or_has_gone_round() {
    let running = Running::new(|| Adder::new(1));
    let mut front = Front::start(&running.path, Plan { size: 4, ..Plan::new(Features::RING_PACKED) });
    assert_eq!(front.add(0, 1), 1, "started with base 0");
    assert_eq!(front.add(0, 2), 3);
    let base = front.stop_ring(0);
    assert_eq!(base, 0, "gone round");
    let _ = front.submit(0, 4);
    front.start_ring(0, base);
    assert_eq!(front.await_reply(0), 7, "a request made available before the start");
    assert_eq!(front.add(0, 8), 15);
    let base = front.stop_ring(0);
    assert_eq!(base, 0x8000_8000);
    front.start_ring(0, base);
    assert_eq!(front.add(0, 16), 31);
}

/// As user-mode Linux does when a driver is unbound and bound again: no base is asked for, and the rings are other ones.
#[test]
fn a_driver_may_come_again_without_stopping_its_rings() {
    let running = Running::new(|| Adder::new(1));
    for (before, after) in
        [(Features::NONE, Features::RING_PACKED), (Features::RING_PACKED, Features::RING_PACKED)]
    {
        let mut front = Front::start(&running.path, Plan::new(before));
        assert_eq!(front.add(0, 1), 1);
        front.do_(SET_VRING_ENABLE, &words(&[0, 0]), &[]);
        let mut again = Front::in_reset(front.peer, Plan::new(after), Arc::new(guest_memory()));
        again.do_(SET_FEATURES, &longs(&[again.plan.features.0]), &[]);
        again.share();
        again.start_ring(0, 0);
        assert_eq!(again.add(0, 2), 3);
    }
}

#[test]
fn a_new_kick_and_a_new_call_take_the_place_of_the_old() {
    let running = Running::new(|| Adder::new(1));
    let mut front = Front::start(&running.path, Plan::new(Features::NONE));
    assert_eq!(front.add(0, 1), 1);
    let event = || EventFd::new().unwrap();
    let old_call = std::mem::replace(&mut front.rings[0].call, event());
    front.do_(SET_VRING_CALL, &longs(&[0]), &[&front.rings[0].call]);
    // The driver may have found the first reply before it was called for it.
    let _ = old_call.take();
    assert_eq!((front.add(0, 1), old_call.take()), (2, 0));
    let _old_kick = std::mem::replace(&mut front.rings[0].kick, event());
    front.do_(SET_VRING_KICK, &longs(&[0]), &[&front.rings[0].kick]);
    assert_eq!(front.add(0, 1), 3);
}

/// A used buffer that nobody could be told of is told of when there is someone.
#[test]
fn a_call_that_comes_late_is_made_up_for() {
    let running = Running::new(|| Adder::new(1));
    let mut front = Front::in_reset(running.peer(), Plan::new(Features::NONE), Arc::new(guest_memory()));
    front.negotiate();
    front.share();
    front.set_up_ring(0, 0);
    let _ = front.submit(0, 9);
    front.do_(SET_VRING_KICK, &longs(&[0]), &[&front.rings[0].kick]);
    front.do_(SET_VRING_ENABLE, &words(&[0, 1]), &[]);
    while front.rings[0].driver.enable_callback() == vioduct_virtqueue::MoreWork::None {
        std::thread::yield_now();
    }
    front.do_(SET_VRING_CALL, &longs(&[0]), &[&front.rings[0].call]);
    assert!(crate::rig::front::wait(&front.rings[0].call));
    assert_eq!(front.take(0), Some(9));
}

/// Bit 8: no descriptor. The ring is polled, and so are its used buffers.
#[test]
fn a_front_end_without_descriptors_is_polled() {
    const NO_FD: u64 = 1 << 8;
    let running = Running::new(|| Adder::new(1));
    let mut front = Front::in_reset(running.peer(), Plan::new(Features::NONE), Arc::new(guest_memory()));
    front.negotiate();
    front.share();
    front.set_up_ring(0, 0);
    for request in [SET_VRING_CALL, SET_VRING_ERR, SET_VRING_KICK] {
        front.do_(request, &longs(&[NO_FD]), &[]);
    }
    front.do_(SET_VRING_ENABLE, &words(&[0, 1]), &[]);
    for sum in 1..=5 {
        let _: Kick = front.submit(0, 1);
        let reply = loop {
            match front.take(0) {
                Some(reply) => break reply,
                None => std::thread::yield_now(),
            }
        };
        assert_eq!(reply, sum);
    }
}

/// What a ring needs is missing: the request that would start it says so.
#[test]
fn a_ring_that_is_not_set_up_does_not_start() {
    let running = Running::new(|| Adder::new(1));
    let front = Front::in_reset(running.peer(), Plan::new(Features::NONE), Arc::new(guest_memory()));
    front.negotiate();
    front.do_(SET_VRING_KICK, &longs(&[0]), &[&front.rings[0].kick]);
    let start = || front.peer.status(SET_VRING_ENABLE, &words(&[0, 1]), &[]);
    assert_eq!(start(), 1, "no size");
    front.do_(SET_VRING_NUM, &words(&[0, 16]), &[]);
    assert_eq!(start(), 1, "no addresses");
    front.set_up_ring(0, 0);
    assert_eq!(start(), 1, "no memory");
    front.share();
    assert_eq!(start(), 0);
}

#[test]
fn the_set_up_of_a_running_ring_is_fixed() {
    let running = Running::new(|| Adder::new(1));
    let mut front = Front::start(&running.path, Plan::new(Features::NONE));
    let refused = |front: &Front, request, payload: &[u8]| {
        assert_eq!(front.peer.status(request, payload, &[]), 1, "request {request}");
    };
    refused(&front, SET_VRING_NUM, &words(&[0, 8]));
    refused(&front, SET_VRING_BASE, &words(&[0, 0]));
    refused(&front, SET_VRING_ADDR, &[words(&[0, 0]), longs(&[0x1000, 0x2000, 0x3000, 0])].concat());
    refused(&front, SET_FEATURES, &longs(&[(front.plan.features | Features::RING_PACKED).0]));
    front.do_(SET_FEATURES, &longs(&[front.plan.features.0]), &[]);
    assert_eq!(front.add(0, 6), 6, "and it goes on");
}
