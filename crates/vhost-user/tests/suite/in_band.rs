//! What the device says by itself, and notifications as messages.

use crate::rig::devices::Adder;
use crate::rig::front::{Front, Plan, guest_memory};
use crate::rig::peer::*;
use crate::rig::running::Running;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use vioduct_virtio_device::Features;

const CONFIG_CHANGE: u32 = 2;
const RING_CALL: u32 = 4;
const RING_ERROR: u32 = 5;

/// Opens a channel for requests of the back-end; the front-end's end of it.
fn channel(front: &Front) -> Peer {
    let (ours, theirs) = UnixStream::pair().unwrap();
    front.do_(SET_BACKEND_REQ_FD, &[], &[&theirs]);
    Peer::over(ours)
}

fn answer(channel: &Peer, request: u32) {
    channel.send_bytes(&message(request, VERSION | REPLY, &longs(&[0])), &[]);
}

fn in_band(features: Features) -> Plan {
    let plan = Plan::new(features);
    Plan { protocol: plan.protocol | IN_BAND | BACKEND_REQ, ..plan }
}

/// The front-end is told, answers, and is told again of what changed since.
#[test]
fn a_change_of_configuration_is_told_and_answered() {
    let running = Running::new(|| Adder::new(1));
    let plan = Plan::new(Features::NONE);
    let mut front = Front::start(&running.path, Plan { protocol: plan.protocol | BACKEND_REQ, ..plan });
    let channel = channel(&front);
    for number in 1..=3 {
        front.add(0, number);
    }
    let first = channel.receive().unwrap();
    assert_eq!((first.request, first.flags, first.payload), (CONFIG_CHANGE, VERSION | NEED_REPLY, vec![]));
    answer(&channel, CONFIG_CHANGE);
    let second = channel.receive().unwrap();
    assert_eq!(second.request, CONFIG_CHANGE, "two changes since, of which one notice is enough");
    answer(&channel, CONFIG_CHANGE);
    front.peer.barrier();
    channel.socket.set_nonblocking(true).unwrap();
    assert_eq!(channel.receive().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

/// Without REPLY_ACK nobody waits for an answer.
#[test]
fn a_change_of_configuration_is_told_without_answers() {
    let running = Running::new(|| Adder::new(1));
    let plan = Plan { protocol: CONFIG | BACKEND_REQ, ..Plan::new(Features::NONE) };
    let mut front = Front::start(&running.path, plan);
    let channel = channel(&front);
    for number in 1..=3 {
        front.add(0, number);
        let notice = channel.receive().unwrap();
        assert_eq!((notice.request, notice.flags), (CONFIG_CHANGE, VERSION));
    }
}

#[test]
fn kicks_and_calls_are_messages() {
    let running = Running::new(|| Adder::new(2));
    for features in [Features::NONE, Features::EVENT_IDX, Features::RING_PACKED] {
        let plan = Plan { queues: 2, ..in_band(features) };
        let mut front = Front::in_reset(running.peer(), plan, Arc::new(guest_memory()));
        front.negotiate();
        let channel = channel(&front);
        front.share();
        for q in 0..2 {
            front.set_up_ring(q, 0);
            front.do_(SET_VRING_ENABLE, &words(&[q.into(), 1]), &[]);
        }
        for (sum, q) in (1..=20).zip([0u16, 1].into_iter().cycle()) {
            let _ = front.rings[usize::from(q)].driver.enable_callback();
            let _ = front.submit(q, 1);
            front.do_(VRING_KICK, &words(&[q.into(), 0]), &[]);
            // The sum has changed: a notice of that may come first.
            loop {
                let notice = channel.receive().unwrap();
                answer(&channel, notice.request);
                if notice.request == RING_CALL {
                    assert_eq!(notice.payload, words(&[q.into(), 0]));
                    break;
                }
                assert_eq!(notice.request, CONFIG_CHANGE);
            }
            assert_eq!(front.take(q), Some(sum), "{features}");
        }
    }
}

#[test]
fn an_error_is_a_message() {
    let running = Running::new(|| Adder::new(1));
    let mut front = Front::in_reset(running.peer(), in_band(Features::NONE), Arc::new(guest_memory()));
    front.negotiate();
    let channel = channel(&front);
    front.share();
    front.set_up_ring(0, 0);
    front.do_(SET_VRING_ENABLE, &words(&[0, 1]), &[]);
    let driver_area = front.rings[0].driver.layout().driver_area;
    vioduct_virtqueue::Memory::write(&*front.memory, driver_area.checked_add(2).unwrap(), &[0xff, 0x7f])
        .unwrap();
    front.do_(VRING_KICK, &words(&[0, 0]), &[]);
    let notice = channel.receive().unwrap();
    assert_eq!((notice.request, notice.payload), (RING_ERROR, words(&[0, 0])));
    let _ = front.take(0);
}

/// A descriptor is preferred to messages, in either direction.
#[test]
fn a_ring_with_descriptors_uses_them() {
    let running = Running::new(|| Adder::new(1));
    let mut front = Front::start(&running.path, in_band(Features::NONE));
    let _channel = channel(&front);
    assert_eq!((front.add(0, 1), front.add(0, 1)), (1, 2));
}

/// In-band notifications without answers, or without a channel, are an error that only the end of the connection can tell.
#[test]
fn in_band_notifications_need_a_channel_and_answers() {
    let running = Running::new(|| Adder::new(1));
    for lacking in [IN_BAND, IN_BAND | BACKEND_REQ, IN_BAND | REPLY_ACK] {
        let peer = running.peer();
        peer.send_bytes(&message(SET_PROTOCOL_FEATURES, VERSION | NEED_REPLY, &longs(&[lacking])), &[]);
        peer.expect_end();
    }
}

/// A front-end that answers with nonsense, or goes on with the connection alone, loses the channel and nothing else.
#[test]
fn row65_a_channel_that_is_misused_is_closed() {
    let running = Running::new(|| Adder::new(1));
    let plan = Plan::new(Features::NONE);
    let mut front = Front::start(&running.path, Plan { protocol: plan.protocol | BACKEND_REQ, ..plan });
    let nonsense = [message(CONFIG_CHANGE, VERSION, &longs(&[0])), message(99, 5, &longs(&[0])), vec![0; 20]];
    let mut sum = 0;
    for bytes in nonsense {
        let channel = channel(&front);
        sum += 1;
        assert_eq!(front.add(0, 1), sum);
        assert_eq!(channel.receive().unwrap().request, CONFIG_CHANGE);
        channel.send_bytes(&bytes, &[channel.socket.as_fd()]);
        channel.expect_end();
    }
    drop(channel(&front));
    assert_eq!(front.add(0, 1), sum + 1);
}

/// The channel must be one.
#[test]
fn row65_a_channel_that_is_no_socket_is_refused() {
    let running = Running::new(|| Adder::new(1));
    let peer = running.peer();
    peer.agree(BACKEND_REQ);
    let event = vioduct_virtio_device::EventFd::new().unwrap();
    assert_eq!(peer.status(SET_BACKEND_REQ_FD, &[], &[event.as_fd()]), 1);
}
