//! A kernel that does not serve: this process does.

use super::fake::{Device, Fake, Idle, bring_up, demo, in_reset, no_memory, taps, with_memory};
use crate::backend::{KernelBackend, Service};
use crate::kind::{Framing, Kind};
use crate::refusal::Refusal;
use std::io;
use vioduct_spec::demo::{OP_READ, OP_WRITE};
use vioduct_spec::{Features, Status};
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::{Area, Backend, Half, Inline};

/// One request, served by this process: its reply's operand.
fn ask(rig: &mut Device<VirtioDemo>, opcode: u32, operand: u32) -> u32 {
    let request: Vec<u8> = [opcode, operand].iter().flat_map(|word| word.to_le_bytes()).collect();
    rig.submit(0, &[&request], &[8]).unwrap();
    let _ = rig.kick(0).unwrap();
    rig.endpoint.backend_mut().inner_mut().run(100);
    let reply = rig.take(0).unwrap().expect("this process serves");
    assert_eq!(reply.written, 8);
    u32::from_le_bytes(reply.bytes[4..].try_into().unwrap())
}

#[test]
fn without_a_node_this_process_serves_with_all_features() {
    let gone = || Err(Refusal::open("/dev/vhost-demo", "load it", io::ErrorKind::NotFound.into()));
    let backend = KernelBackend::over(Inline::new(VirtioDemo::default()), Kind::Demo, gone(), no_memory());
    assert_eq!(backend.service(), Service::Process);
    assert_eq!(backend.features(), Inline::new(VirtioDemo::default()).features());
    let mut rig = with_memory(backend);
    bring_up(&mut rig);
    assert_eq!(ask(&mut rig, OP_READ, 0), 0x1333);
    let message = gone().err().unwrap().to_string();
    assert!(message.contains("/dev/vhost-demo") && message.contains("load it"), "{message}");
    let denied = Refusal::open("/dev/vhost-net", "load it", io::ErrorKind::PermissionDenied.into());
    assert!(denied.to_string().contains("run as root"));
}

#[test]
fn a_refusal_at_any_request_leaves_the_device_working() {
    let requests = [
        "SetOwner",
        "GetFeatures",
        "SetFeatures",
        "DemoSetValue",
        "SetMemTable",
        "SetVringNum",
        "SetVringBase",
        "SetVringAddr",
        "SetVringErr",
        "SetVringCall",
        "SetVringKick",
        "DemoSetRunning",
    ];
    for request in requests {
        let fake = Fake::new();
        fake.refuse(&[request]);
        let mut rig = demo(&fake);
        assert_eq!(rig.endpoint.backend().service(), Service::Process, "{request}");
        assert!(!rig.endpoint.status().contains(Status::NEEDS_RESET), "{request}");
        assert_eq!(fake.asked().last(), Some(&"close".to_owned()), "{request}");
        assert_eq!(ask(&mut rig, OP_WRITE, 0x2333), 0x2333, "{request}");
        assert_eq!(fake.asked(), [""; 0], "the kernel is not asked again");
    }
}

#[test]
fn an_old_kernel_is_not_used() {
    let fake = Fake::new();
    fake.state().features = Features::EVENT_IDX;
    let rig = demo(&fake);
    assert_eq!(rig.endpoint.backend().service(), Service::Process);
}

/// The pair's first queue is the kernel's already when its second is refused: it goes on here where it stands.
#[test]
fn what_the_kernel_has_goes_on_from_where_it_stands() {
    let fake = Fake::new();
    fake.refuse(&["NetSetBackend 1 TAP"]);
    fake.state().bases = [0, 0];
    let kind = Kind::Net { taps: taps(1), framing: Framing::Header };
    let mut rig = in_reset(Idle { queues: 3, features: Features::NONE }, kind, &fake, 1);
    bring_up(&mut rig);
    let asked = fake.asked();
    let tail = ["NetSetBackend 1 TAP", "NetSetBackend 0 -1", "GetVringBase 0", "close"];
    assert_eq!(asked[asked.len() - 4..], tail);
    let backend = rig.endpoint.backend_mut();
    assert!((0..3).all(|q| backend.stop_queue(q).unwrap().is_some()), "all three are served here");
}

#[test]
fn a_ring_outside_of_memory_is_the_drivers_fault() {
    let fake = Fake::new();
    let mut rig = in_reset(VirtioDemo::default(), Kind::Demo, &fake, 1);
    rig.negotiate(Features::NONE).unwrap();
    rig.endpoint.set_queue_address(0, Area::Device, Half::High, 1);
    rig.endpoint.enable_queue(0);
    fake.asked();
    rig.write_status(Status::DRIVER_OK).unwrap();
    assert!(rig.endpoint.status().contains(Status::NEEDS_RESET));
    assert_eq!(fake.asked(), [""; 0]);
    assert_eq!(rig.endpoint.backend().service(), Service::Kernel);
}

#[test]
fn a_kernel_that_does_not_let_go_is_closed_by_a_reset() {
    for request in ["DemoSetRunning(Stopped)", "GetVringBase", "DemoGetValue"] {
        let fake = Fake::new();
        let mut rig = demo(&fake);
        fake.refuse(&[request]);
        fake.asked();
        rig.endpoint.write_status(0);
        assert_eq!(rig.endpoint.status(), Status::RESET, "{request}");
        assert_eq!(fake.asked().last(), Some(&"close".to_owned()), "{request}");
        bring_up(&mut rig);
        assert_eq!(ask(&mut rig, OP_READ, 0), 0x1333, "{request}");
    }
}
