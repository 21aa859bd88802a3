//! vhost-demo, and what all kinds have in common.

use super::fake::{Device, Fake, KERNEL, bring_up, demo, in_reset, no_memory};
use crate::backend::{KernelBackend, Service};
use crate::kind::Kind;
use std::sync::Arc;
use vioduct_spec::{Features, Status};
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::{Backend, Inline, MemoryMap, Signal};

#[test]
fn the_owner_is_first_and_memory_before_rings() {
    let fake = Fake::new();
    let mut rig = in_reset(VirtioDemo::default(), Kind::Demo, &fake, 1);
    assert_eq!(fake.asked(), ["SetOwner", "GetFeatures"]);
    bring_up(&mut rig);
    let expected = [
        "SetFeatures 0x100000000",
        "DemoSetValue(4915)",
        "SetMemTable 0x400000",
        "SetVringNum 0 128",
        "SetVringBase 0 0",
        "SetVringAddr 0",
        "SetVringErr 0",
        "SetVringCall 0",
        "SetVringKick 0",
        "DemoSetRunning(Started)",
    ];
    assert_eq!(fake.asked(), expected);
    assert_eq!(rig.endpoint.backend().service(), Service::Kernel);
    drop(rig);
    assert_eq!(fake.asked(), ["close"]);
}

#[test]
fn a_queue_that_stops_goes_on_where_it_stood() {
    let fake = Fake::new();
    let mut rig = demo(&fake);
    fake.asked();
    fake.state().bases[0] = 7;
    rig.endpoint.pause();
    assert_eq!(fake.asked(), ["DemoSetRunning(Stopped)", "GetVringBase 0", "DemoGetValue"]);
    rig.endpoint.resume();
    let asked = fake.asked();
    assert!(asked.contains(&"SetVringBase 0 7".to_owned()), "{asked:?}");
    assert!(!asked.iter().any(|request| request.starts_with("SetMemTable")), "it has the table: {asked:?}");
}

#[test]
fn another_memory_is_told_before_the_ring_goes_on() {
    let fake = Fake::new();
    let mut rig = demo(&fake);
    let other = Arc::new(MemoryMap::shared(8 << 20).unwrap());
    rig.endpoint.pause();
    rig.endpoint.backend_mut().share(other.clone());
    rig.endpoint.replace_memory(other);
    fake.asked();
    rig.endpoint.resume();
    let asked = fake.asked();
    assert_eq!(asked[1..3], ["SetMemTable 0x800000", "SetVringNum 0 128"]);
}

#[test]
fn the_value_moves_with_the_queue_and_is_read_where_it_is() {
    let fake = Fake::new();
    let mut rig = demo(&fake);
    let config = |rig: &mut Device<VirtioDemo>| {
        let mut bytes = [0; 4];
        rig.endpoint.read_config(0, &mut bytes);
        u32::from_le_bytes(bytes)
    };
    assert_eq!(config(&mut rig), 0x1333);
    fake.state().value = 0x2333;
    assert_eq!(config(&mut rig), 0x2333, "the kernel has it");
    rig.endpoint.pause();
    fake.state().value = 0;
    assert_eq!(config(&mut rig), 0x2333, "this process has it");
    let saved = rig.endpoint.backend_mut().save_state().unwrap();
    assert_eq!(saved, 0x2333_u32.to_le_bytes());
    rig.endpoint.resume();
    assert_eq!(fake.state().value, 0x2333);
    rig.endpoint.write_status(0);
    assert_eq!(config(&mut rig), 0x1333, "reset restores the value");
}

#[test]
fn s2_2_only_features_that_both_have_are_offered() {
    let fake = Fake::new();
    let rig = in_reset(VirtioDemo::default(), Kind::Demo, &fake, 1);
    let in_process = Inline::new(VirtioDemo::default()).features();
    assert!(in_process.contains(Features::RING_PACKED | Features::IN_ORDER));
    let offered = rig.endpoint.backend().features();
    assert_eq!(offered & Features::RING, KERNEL & Features::RING, "no packed rings, nothing in order");
    assert!(offered.contains(Features::NOTIFICATION_DATA), "which is between driver and KVM");
    let narrow =
        KernelBackend::over(Inline::new(VirtioDemo::default()), Kind::Demo, Ok(Vec::new()), no_memory());
    assert_eq!(narrow.offering(Features::NONE).features(), Features::VERSION_1);
}

#[test]
fn an_error_of_the_kernels_makes_the_device_need_a_reset() {
    let fake = Fake::new();
    let mut rig = demo(&fake);
    fake.state().errors[0].signal();
    fake.asked();
    assert_eq!(rig.endpoint.backend_mut().stop_queue(0).unwrap(), None, "it met a fault");
    assert!(rig.endpoint.status().contains(Status::NEEDS_RESET));
    assert_eq!(rig.notifications.config(), 1);
    rig.endpoint.write_status(0);
    bring_up(&mut rig);
    assert_eq!(rig.endpoint.backend().service(), Service::Kernel, "the driver's fault is not the kernel's");
}

/// The rig's notifications are no eventfds, as those of virtio-mmio.
#[test]
fn used_buffers_reach_a_driver_without_an_eventfd() {
    let fake = Fake::new();
    let mut rig = demo(&fake);
    fake.state().calls[0].signal();
    rig.endpoint.pause();
    assert_eq!(rig.notifications.used(), 1);
    fake.state().calls[0].signal();
    assert_eq!(rig.notifications.used(), 1, "its queue has stopped");
}

#[test]
fn the_kernel_looks_at_once_and_when_it_is_kicked() {
    let fake = Fake::new();
    let mut rig = demo(&fake);
    let kick = |rig: &mut Device<VirtioDemo>| {
        let backend = rig.endpoint.backend_mut();
        backend.kernel_kick(0)
    };
    assert_eq!(kick(&mut rig), 1, "there may be buffers already");
    rig.endpoint.notify(0);
    assert_eq!(kick(&mut rig), 1);
}
