//! A device that takes its time: completion out of order, and resets while it holds requests.
#![allow(clippy::unwrap_used)]

use vioduct_loopback::{Depth, Holding, Order, Release, Rig, RingFormat, Setup};
use vioduct_spec::Features;

fn rig(depth: Depth, format: RingFormat, features: Features) -> (Rig, Release) {
    let (model, release) = Holding::new(16).unwrap();
    let packed = if format == RingFormat::Packed { Features::RING_PACKED } else { Features::NONE };
    let setup = Setup { depth, features: features | packed, queue_size: 16 };
    let mut rig = Rig::new(Box::new(model), setup).unwrap();
    rig.bring_up().unwrap();
    (rig, release)
}

fn each(features: Features, test: impl Fn(&mut Rig, &Release, &str)) {
    for depth in Depth::ALL {
        for format in [RingFormat::Split, RingFormat::Packed] {
            let (mut rig, release) = rig(depth, format, features);
            test(&mut rig, &release, &format!("{depth} {format:?}"));
        }
    }
}

fn submit(rig: &mut Rig, count: usize) {
    for _ in 0..count {
        rig.submit(0, &[], &[4]).unwrap();
    }
    let _ = rig.kick(0).unwrap();
    rig.run();
}

/// The turns, as the device has counted them, of the replies that the driver gets now.
fn turns(rig: &mut Rig) -> Vec<u8> {
    std::iter::from_fn(|| rig.take(0).unwrap()).map(|reply| reply.bytes[0]).collect()
}

/// virtio 1.3 §2.7: without IN_ORDER a device may use buffers in any order, and the driver tells them apart.
#[test]
fn replies_come_in_the_device_s_order() {
    each(Features::NONE, |rig, release, context| {
        submit(rig, 4);
        assert_eq!(turns(rig), [0u8; 0], "{context}");
        release.complete(3, Order::Backward);
        rig.run();
        assert_eq!(turns(rig), [4, 3, 2], "{context}");
        submit(rig, 2);
        release.complete(usize::MAX, Order::Forward);
        rig.run();
        assert_eq!(turns(rig), [1, 5, 6], "{context}");
        assert_eq!(rig.in_flight(0).unwrap(), 0, "{context}");
    });
}

/// virtio 1.3 §2.7.9: with IN_ORDER a buffer that is ready early waits for those before it.
#[test]
fn in_order_replies_wait_for_those_before() {
    each(Features::IN_ORDER, |rig, release, context| {
        submit(rig, 3);
        release.complete(2, Order::Backward);
        rig.run();
        assert_eq!(turns(rig), [0u8; 0], "{context}");
        release.complete(1, Order::Backward);
        rig.run();
        assert_eq!(turns(rig), [1, 2, 3], "{context}");
    });
}

/// A reset while the device holds requests: it lets go of them, and works again.
#[test]
fn a_reset_ends_what_the_device_holds() {
    each(Features::RING_RESET, |rig, release, context| {
        submit(rig, 5);
        rig.bring_up().unwrap();
        submit(rig, 2);
        rig.transport().reset_queue(0).unwrap();
        rig.forget_queue(0);
        rig.enable_queue(0).unwrap();
        submit(rig, 3);
        release.complete(usize::MAX, Order::Forward);
        rig.run();
        assert_eq!(turns(rig).len(), 3, "{context}");
        rig.check_live().unwrap();
    });
}
