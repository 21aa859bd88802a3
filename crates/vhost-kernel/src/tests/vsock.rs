//! vhost-vsock: two queues that start together, and one of events that is not the kernel's.

use super::fake::{Device, Fake, Idle, bring_up, in_reset};
use crate::kind::Kind;
use vioduct_spec::Features;
use vioduct_virtio_device::Backend;
use vioduct_virtio_device::memory::LOG_PAGE_LEN;

fn vsock(fake: &Fake) -> Device<Idle> {
    in_reset(Idle { queues: 3, features: Features::NONE }, Kind::Vsock { cid: 42 }, fake, 1)
}

#[test]
fn it_starts_with_both_queues_and_stops_with_either() {
    let fake = Fake::new();
    let mut rig = vsock(&fake);
    assert_eq!(fake.asked()[..3], ["SetOwner", "GetFeatures", "VsockSetGuestCid(42)"]);
    bring_up(&mut rig);
    let asked = fake.asked();
    let running: Vec<_> = asked.iter().filter(|request| request.contains("Running")).collect();
    assert_eq!(running, ["VsockSetRunning(Started)"]);
    assert_eq!(asked.last(), Some(&"VsockSetRunning(Started)".to_owned()));
    fake.state().bases = [3, 9];
    let backend = rig.endpoint.backend_mut();
    let index = |position: Option<vioduct_virtqueue::QueuePosition>| position.map(|at| at.available.index);
    assert_eq!(index(backend.stop_queue(0).unwrap()), Some(3));
    assert_eq!(fake.asked(), ["VsockSetRunning(Stopped)", "GetVringBase 0"]);
    assert_eq!(index(backend.stop_queue(1).unwrap()), Some(9));
    assert_eq!(fake.asked(), ["GetVringBase 1"]);
}

#[test]
fn what_linux_does_not_log_counts_as_written() {
    let fake = Fake::new();
    let mut rig = vsock(&fake);
    rig.memory.start_log();
    bring_up(&mut rig);
    rig.endpoint.pause();
    let pages: u64 = rig.memory.regions().map(|(region, _)| region.len / LOG_PAGE_LEN).sum();
    assert_eq!(rig.memory.take_dirty().len() as u64, pages);
}
