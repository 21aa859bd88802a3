//! The header, sizing and moving of BARs, the capability list, reset.

use vioduct_pci::registers::*;
use vioduct_pci::{
    BarSpec, BusMaster, Capability, ConfigEffect, Controls, FunctionSpec, InterruptPin, MsixSpec,
};

use crate::probe::{Event, Rig};

fn known() -> FunctionSpec {
    FunctionSpec::new(0x1af4, 0x1044, 0x02_0304)
        .with_revision(7)
        .with_subsystem(0x1111, 0x2222)
        .with_interrupt_pin(InterruptPin::A)
        .with_bar(BarSpec::memory32(0, 0x1000))
        .with_bar(BarSpec::io(1, 0x20))
        .with_bar(BarSpec::memory64(2, 0x2_0000_0000).prefetchable())
        .with_bar(BarSpec::memory32(4, 0x10).prefetchable())
}

#[test]
fn the_header_is_as_declared() {
    let mut rig = Rig::new(known().with_capability(Capability::vendor([1, 2])));
    let expected = [
        0xf4, 0x1a, 0x44, 0x10, 0x00, 0x00, 0x10, 0x00, 0x07, 0x04, 0x03, 0x02, 0x00, 0x00, 0x00,
        0x00, //
        0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x0c, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, //
        0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x11, 0x11, 0x22,
        0x22, //
        0x00, 0x00, 0x00, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00,
        0x00, //
        0x09, 0x00, 0x05, 0x01, 0x02, 0x00, 0x00, 0x00,
    ];
    assert_eq!(rig.config(0, expected.len()), expected);
    assert_eq!(rig.hosted.config_len(), 256);
}

#[test]
fn read_only_fields_stay_and_the_rom_bar_is_one() {
    let mut rig = Rig::new(known());
    let before = rig.config(0, 256);
    assert_eq!(rig.hosted.config_write(0x28, &[0xff; 0x14]), []);
    assert_eq!(rig.hosted.config_write(0, &[0xff; 4]), []);
    assert_eq!(rig.hosted.config_write(6, &[0xff; 6]), []);
    rig.hosted.config_write(0x3d, &[0xff; 3]);
    assert_eq!(rig.config(0, 256), before);
}

#[test]
fn scratch_fields_hold_what_software_writes() {
    let mut rig = Rig::new(known());
    rig.hosted.config_write(CACHE_LINE_SIZE, &[0x10, 0xff]);
    rig.hosted.config_write(INTERRUPT_LINE, &[11, 0xff]);
    rig.hosted.config_write(COMMAND, &0xffff_u16.to_le_bytes());
    assert_eq!(rig.config(CACHE_LINE_SIZE, 2), [0x10, 0]);
    assert_eq!(rig.config(INTERRUPT_LINE, 2), [11, 1]);
    assert_eq!(rig.config_u16(COMMAND), 0b101_0100_0111);
}

#[test]
fn sizing_shows_each_kind_and_size() {
    let mut rig = Rig::new(known());
    let mut size = |offset| {
        rig.hosted.config_write(offset, &[0xff; 4]);
        rig.config_u32(offset)
    };
    assert_eq!(size(0x10), 0xffff_f000);
    assert_eq!(size(0x14), 0xffff_ffe1);
    assert_eq!(size(0x18), 0x0000_000c);
    assert_eq!(size(0x1c), 0xffff_fffe);
    assert_eq!(size(0x20), 0xffff_fff8);
    assert_eq!(size(0x24), 0, "a BAR that was not declared");
    assert_eq!(size(0x30), 0, "the ROM BAR");
}

#[test]
fn sizing_while_decoding_maps_nothing() {
    let mut rig = Rig::new(known());
    rig.hosted.config_write(COMMAND, &(COMMAND_MEMORY | COMMAND_IO).to_le_bytes());
    for bar in 0..6 {
        assert_eq!(rig.hosted.config_write(BAR0 + 4 * bar, &[0xff; 4]), [], "BAR{bar}");
    }
}

#[test]
fn a_bar_is_decoded_where_it_is_put_while_its_kind_is_on() {
    let mut rig = Rig::new(known());
    let moved = |bar, from, to| ConfigEffect::BarMoved { bar, from, to };
    assert_eq!(rig.hosted.config_write(0x10, &0xc000_0fff_u32.to_le_bytes()), []);
    assert_eq!(rig.hosted.config_write(0x14, &0xc020_u32.to_le_bytes()), []);
    assert_eq!(rig.hosted.bar_address(0), None);

    let memory = COMMAND_MEMORY.to_le_bytes();
    assert_eq!(rig.hosted.config_write(COMMAND, &memory), [moved(0, None, Some(0xc000_0000))]);
    assert_eq!(rig.hosted.bar_address(1), None, "memory does not turn I/O on");
    let both = (COMMAND_MEMORY | COMMAND_IO).to_le_bytes();
    assert_eq!(rig.hosted.config_write(COMMAND, &both), [moved(1, None, Some(0xc020))]);

    let effects = rig.hosted.config_write(0x10, &0xd000_0000_u32.to_le_bytes());
    assert_eq!(effects, [moved(0, Some(0xc000_0000), Some(0xd000_0000))]);
    let wide = 0x12_0000_0000_u64.to_le_bytes();
    assert_eq!(rig.hosted.config_write(0x18, &wide), [moved(2, None, Some(0x12_0000_0000))]);

    let effects = rig.hosted.config_write(COMMAND, &[0, 0]);
    let off =
        [(0, 0xd000_0000), (1, 0xc020), (2, 0x12_0000_0000)].map(|(bar, at)| moved(bar, Some(at), None));
    assert_eq!(effects, off);
    assert_eq!(rig.hosted.bar_address(9), None);
}

#[test]
fn half_of_a_64_bit_bar_moves_it_too() {
    let mut rig = Rig::new(FunctionSpec::new(1, 1, 0).with_bar(BarSpec::memory64(0, 0x1000)));
    rig.hosted.config_write(COMMAND, &COMMAND_MEMORY.to_le_bytes());
    rig.hosted.config_write(0x10, &0x8000_0000_u32.to_le_bytes());
    let effects = rig.hosted.config_write(0x14, &1_u32.to_le_bytes());
    let moved = ConfigEffect::BarMoved { bar: 0, from: Some(0x8000_0000), to: Some(0x1_8000_0000) };
    assert_eq!(effects, [moved]);
}

#[test]
fn bus_mastering_is_told_to_the_function_and_the_host() {
    let mut rig = Rig::new(known());
    let on = COMMAND_BUS_MASTER.to_le_bytes();
    assert_eq!(rig.hosted.config_write(COMMAND, &on), [ConfigEffect::BusMaster(BusMaster::Enabled)]);
    assert_eq!(rig.hosted.config_write(COMMAND, &on), []);
    assert_eq!(rig.hosted.config_write(COMMAND, &[0]), [ConfigEffect::BusMaster(BusMaster::Disabled)]);
    let told = [BusMaster::Enabled, BusMaster::Disabled].map(Event::BusMaster);
    assert_eq!(rig.hosted.function_mut().take_events(), told);
}

/// Command and message control, as they are after each change and after a reset; other registers do not count.
#[test]
fn what_is_turned_on_and_off_is_told_to_the_function() {
    let spec = FunctionSpec::new(1, 2, 0)
        .with_bar(BarSpec::memory32(0, 0x1000))
        .with_msix(MsixSpec::in_bar(2, 0, 0));
    let mut rig = Rig::new(spec);
    let command = COMMAND_MEMORY | COMMAND_INTX_DISABLE;
    rig.hosted.config_write(COMMAND, &command.to_le_bytes());
    rig.hosted.config_write(COMMAND, &command.to_le_bytes());
    rig.hosted.config_write(BAR0, &[0; 4]);
    rig.hosted.config_write(FIRST_CAPABILITY + MSIX_CONTROL, &[0xff; 2]);
    rig.hosted.reset();
    let both = MSIX_ENABLE | MSIX_FUNCTION_MASK;
    let told = [(command, 0), (command, both), (0, 0)].map(|(command, msix)| Controls { command, msix });
    assert_eq!(rig.hosted.function().controls, told);
}

#[test]
fn the_capability_list_can_be_walked() {
    let spec = known()
        .with_capability(Capability::vendor([0xaa; 13]))
        .with_capability(Capability::PciExpress)
        .with_capability(Capability::vendor([0xbb; 2]))
        .with_msix(MsixSpec::in_bar(65, 0, 0x800));
    let mut rig = Rig::new(spec);
    assert_eq!(rig.config_u16(STATUS) & STATUS_CAPABILITIES, STATUS_CAPABILITIES);
    let mut walked = Vec::new();
    let mut at = u64::from(rig.config_u8(CAPABILITIES));
    while at != 0 {
        walked.push((at, rig.config_u8(at)));
        at = u64::from(rig.config_u8(at + 1));
    }
    assert_eq!(walked, [(0x40, CAP_VENDOR), (0x50, CAP_PCI_EXPRESS), (0x8c, CAP_VENDOR), (0x94, CAP_MSIX)]);
    assert_eq!(rig.config(0x42, 3), [16, 0xaa, 0xaa]);
    assert_eq!(rig.config(0x8e, 3), [5, 0xbb, 0xbb]);
    assert_eq!(rig.config(0x94, 12), [0x11, 0, 64, 0, 0x00, 0x08, 0, 0, 0x10, 0x0c, 0, 0]);
}

#[test]
fn without_capabilities_the_list_is_empty() {
    let mut rig = Rig::new(FunctionSpec::new(1, 1, 0));
    assert_eq!((rig.config_u8(CAPABILITIES), rig.config_u16(STATUS)), (0, 0));
}

#[test]
fn a_vendor_capability_is_writable_where_declared() {
    let capability = Capability::Vendor { body: vec![1, 2, 3, 4], writable: vec![0, 0xff, 0x0f] };
    let mut rig = Rig::new(known().with_capability(capability));
    rig.hosted.config_write(0x40, &[0xee; 8]);
    assert_eq!(rig.config(0x40, 8), [0x09, 0, 7, 1, 0xee, 0x0e, 4, 0]);
}

#[test]
fn only_an_express_function_has_extended_space() {
    let mut rig = Rig::new(known());
    assert_eq!(rig.config(0xfe, 4), [0, 0, 0xff, 0xff]);
    assert_eq!(rig.config_u32(0x100), 0xffff_ffff);
    let mut rig = Rig::new(known().with_capability(Capability::PciExpress));
    assert_eq!(rig.hosted.config_len(), 4096);
    assert_eq!((rig.config_u32(0x100), rig.config_u32(0xffc)), (0, 0));
    assert_eq!(rig.config_u32(0x1000), 0xffff_ffff);
}

#[test]
fn reset_returns_configuration_space_to_its_first_state() {
    let mut rig = Rig::new(known().with_msix(MsixSpec::in_bar(1, 0, 0)));
    let first = rig.config(0, 256);
    rig.hosted.config_write(0x10, &0xc000_0000_u32.to_le_bytes());
    rig.hosted.config_write(COMMAND, &(COMMAND_MEMORY | COMMAND_BUS_MASTER).to_le_bytes());
    rig.hosted.config_write(0x42, &MSIX_ENABLE.to_le_bytes());
    rig.hosted.function_mut().take_events();
    let moved = ConfigEffect::BarMoved { bar: 0, from: Some(0xc000_0000), to: None };
    assert_eq!(rig.hosted.reset(), [moved, ConfigEffect::BusMaster(BusMaster::Disabled)]);
    assert_eq!(rig.config(0, 256), first);
    assert!(!rig.interrupts.msix_enabled());
    assert_eq!(
        rig.hosted.function_mut().take_events(),
        [Event::Reset, Event::BusMaster(BusMaster::Disabled)]
    );
}

#[test]
fn a_function_level_reset_resets_and_says_so() {
    let mut rig = Rig::new(known().with_capability(Capability::PciExpress));
    assert_eq!(rig.config_u32(0x44) & EXPRESS_FUNCTION_RESET, EXPRESS_FUNCTION_RESET);
    rig.hosted.config_write(COMMAND, &COMMAND_BUS_MASTER.to_le_bytes());
    let effects = rig.hosted.config_write(0x48, &EXPRESS_INITIATE_RESET.to_le_bytes());
    assert_eq!(effects, [ConfigEffect::BusMaster(BusMaster::Disabled), ConfigEffect::Reset]);
    assert_eq!((rig.config_u16(0x48), rig.config_u16(COMMAND)), (EXPRESS_DEVICE_CONTROL_RESET, 0));
    assert!(rig.hosted.function().events.contains(&Event::Reset));
}
