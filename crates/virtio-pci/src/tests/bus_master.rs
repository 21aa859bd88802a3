//! Queues run if the driver allows bus mastering and the host does not pause (PCI 3.0 §6.2.2); function reset.

use vioduct_pci::PciFunction;
use vioduct_pci::registers::COMMAND_BUS_MASTER;
use vioduct_spec::Status;
use vioduct_spec::pci::common_config as at;

use super::rig::{PLAIN, Rig};

#[test]
fn queues_wait_for_bus_mastering() {
    let mut rig = Rig::new();
    rig.negotiate(PLAIN);
    rig.set_up_queue(0);
    rig.offer(0);
    let status = rig.status();
    rig.set_status(status | Status::DRIVER_OK);
    rig.kick(0);
    assert_eq!(rig.used(0), 0);
    rig.set_command(COMMAND_BUS_MASTER);
    assert_eq!(rig.used(0), 1, "what was made available meanwhile is served");
    rig.set_command(0);
    rig.offer(0);
    rig.kick(0);
    assert_eq!(rig.used(0), 1);
    rig.set_command(COMMAND_BUS_MASTER);
    assert_eq!(rig.used(0), 2, "it goes on where it stopped");
}

#[test]
fn pause_and_bus_mastering_are_two_reasons_to_stand_still() {
    let mut rig = Rig::live(PLAIN);
    rig.hosted.function_mut().pause();
    rig.offer(0);
    rig.set_command(0);
    rig.set_command(COMMAND_BUS_MASTER);
    rig.kick(0);
    assert_eq!(rig.used(0), 0, "the host has paused");
    rig.set_command(0);
    rig.hosted.function_mut().resume();
    assert_eq!(rig.used(0), 0, "the driver forbids it");
    rig.set_command(COMMAND_BUS_MASTER);
    assert_eq!(rig.used(0), 1);
}

#[test]
fn a_function_reset_is_a_full_reset() {
    let mut rig = Rig::live_with_msix(PLAIN);
    rig.change_config(1);
    rig.hosted.reset();
    assert_eq!(rig.status(), Status::RESET);
    assert_eq!(rig.isr(), 0);
    for (register, value) in [(at::QUEUE_ENABLE, 0), (at::CONFIG_MSIX_VECTOR, 0xffff), (at::QUEUE_SIZE, 8)] {
        assert_eq!(rig.get(register, 2), value);
    }
    rig.negotiate(PLAIN);
    rig.set_up_queue(0);
    rig.offer(0);
    let status = rig.status();
    rig.set_status(status | Status::DRIVER_OK);
    assert_eq!(rig.used(0), 0, "bus mastering is off after a reset");
    rig.set_command(COMMAND_BUS_MASTER);
    assert_eq!(rig.used(0), 1);
}

/// The function does not depend on being told what a reset implies.
#[test]
fn a_function_reset_ends_bus_mastering() {
    let mut rig = Rig::live(PLAIN);
    rig.hosted.function_mut().reset();
    rig.negotiate(PLAIN);
    rig.set_up_queue(0);
    rig.offer(0);
    let status = rig.status();
    rig.set_status(status | Status::DRIVER_OK);
    assert_eq!(rig.used(0), 0);
}
