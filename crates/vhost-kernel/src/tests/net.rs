//! vhost-net: pairs of queues, each with a TAP, and a control queue that is not the kernel's.

use super::fake::{Device, Fake, Idle, KERNEL, bring_up, in_reset, taps as taps_of};
use crate::kind::{Framing, Kind};
use vioduct_spec::net::{CTRL_VQ, MQ, MRG_RXBUF as MERGEABLE};
use vioduct_spec::{Features, Status};
use vioduct_virtio_device::Backend;

const MAC: Features = Features::bit(5);

fn net(fake: &Fake, pairs: u16, framing: Framing) -> Device<Idle> {
    let kind = Kind::Net { taps: taps_of(pairs.into()), framing };
    in_reset(Idle { queues: 2 * pairs + 1, features: MERGEABLE | MAC }, kind, fake, pairs.into())
}

#[test]
fn each_queue_starts_by_itself_and_the_control_queue_elsewhere() {
    let fake = Fake::new();
    let mut rig = net(&fake, 2, Framing::Header);
    let set_up = ["SetOwner", "GetFeatures", "NewWorker", "AttachVringWorker { ring: 1, worker: 5 }"];
    assert_eq!(fake.asked(), [set_up, set_up].concat());
    bring_up(&mut rig);
    let asked = fake.asked();
    let with = |word: &str| -> Vec<_> { asked.iter().filter(|request| request.contains(word)).collect() };
    assert_eq!(with("SetMemTable").len(), 2, "once for each node");
    assert_eq!(
        with("TAP"),
        ["NetSetBackend 0 TAP", "NetSetBackend 1 TAP"].repeat(2).iter().collect::<Vec<_>>()
    );
    let last = asked.iter().rposition(|request| request.starts_with("SetVring")).unwrap();
    assert_eq!(asked[last + 1], "NetSetBackend 1 TAP", "rings are told before they run");
}

/// virtio 1.3 §5.1.2: without `MQ` the control queue is the third queue, whatever else there might be.
#[test]
fn a_driver_of_one_pair_has_its_control_queue_where_the_second_pair_would_begin() {
    for (negotiated, taps) in [(CTRL_VQ, 2), (CTRL_VQ | MQ, 4), (Features::NONE, 4)] {
        let fake = Fake::new();
        let kind = Kind::Net { taps: taps_of(2), framing: Framing::Header };
        let mut rig = in_reset(Idle { queues: 5, features: CTRL_VQ | MQ }, kind, &fake, 2);
        rig.negotiate(negotiated).unwrap();
        (0..5).for_each(|q| rig.enable_queue(q).unwrap());
        rig.write_status(Status::DRIVER_OK).unwrap();
        let started = fake.asked().iter().filter(|request| request.contains("TAP")).count();
        assert_eq!(started, taps, "{negotiated}");
    }
}

#[test]
fn the_tap_goes_before_the_index_is_taken() {
    let fake = Fake::new();
    let mut rig = net(&fake, 1, Framing::Header);
    bring_up(&mut rig);
    fake.asked();
    fake.state().bases = [3, 9];
    let position = rig.endpoint.backend_mut().stop_queue(1).unwrap().unwrap();
    assert_eq!((position.available.index, position.used.index), (9, 9));
    assert_eq!(fake.asked(), ["NetSetBackend 1 -1", "GetVringBase 1"]);
    assert_eq!(rig.endpoint.backend_mut().stop_queue(1).unwrap(), None, "it has stopped already");
    assert_eq!(fake.asked(), [""; 0]);
}

#[test]
fn the_kernel_makes_headers_only_where_the_tap_gives_none() {
    const HEADERS: u64 = 1 << 27;
    for (framing, expected) in [(Framing::Header, 1 << 32), (Framing::Bare, 1 << 32 | HEADERS)] {
        let fake = Fake::new();
        bring_up(&mut net(&fake, 1, framing));
        assert!(fake.asked().contains(&format!("SetFeatures {expected:#x}")), "{framing:?}");
    }
}

#[test]
fn the_kernels_part_of_the_features_is_offered_if_it_has_it() {
    let fake = Fake::new();
    let rig = net(&fake, 1, Framing::Header);
    assert_eq!(rig.endpoint.backend().info().features, MAC);
    fake.state().features = KERNEL | MERGEABLE;
    let mut rig = net(&fake, 1, Framing::Header);
    assert_eq!(rig.endpoint.backend().info().features, MAC | MERGEABLE);
    fake.asked();
    rig.negotiate(MAC | MERGEABLE).unwrap();
    assert_eq!(fake.asked(), ["SetFeatures 0x100008000"], "the kernel knows nothing of MAC addresses");
}

#[test]
fn a_kernel_without_threads_to_spare_serves_with_one() {
    let fake = Fake::new();
    fake.refuse(&["NewWorker"]);
    bring_up(&mut net(&fake, 1, Framing::Header));
    let asked = fake.asked();
    assert!(!asked.iter().any(|request| request.starts_with("Attach")), "{asked:?}");
    assert!(asked.contains(&"NetSetBackend 1 TAP".to_owned()));
}
