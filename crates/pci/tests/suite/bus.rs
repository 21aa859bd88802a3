//! ECAM, address decoding, initial addresses and multifunction devices.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use vioduct_pci::registers::*;
use vioduct_pci::{
    Apertures, BarSpec, Bus, Claim, Counters, FunctionHost, FunctionSpec, Hosted, NoInterrupts, PciFunction,
    SetupError, SharedFunction, Slot, Traced,
};

/// One byte per BAR: what was last written there; and where.
struct Cell(Vec<BarSpec>, Arc<Mutex<Vec<(u8, u64)>>>, u8);

impl PciFunction for Cell {
    fn spec(&self) -> FunctionSpec {
        FunctionSpec { bars: self.0.clone(), ..FunctionSpec::new(0x1234, u16::from(self.2), 0xff_0000) }
    }
    fn attach(&mut self, _host: FunctionHost) {}
    fn bar_read(&mut self, _bar: u8, _offset: u64, out: &mut [u8]) {
        out.fill(self.2);
    }
    fn bar_write(&mut self, bar: u8, offset: u64, _data: &[u8]) {
        self.1.lock().unwrap().push((bar, offset));
    }
    fn reset(&mut self) {}
}

fn cell(id: u8, bars: &[BarSpec]) -> SharedFunction {
    let cell = Cell(bars.to_vec(), Arc::default(), id);
    Hosted::new(cell, Arc::new(NoInterrupts)).unwrap().shared()
}

fn slot(device: u8, function: u8) -> Slot {
    Slot::new(device, function).unwrap()
}

fn apertures() -> Apertures {
    Apertures { memory32: 0xc000_0000..0xd000_0000, memory64: 1 << 36..1 << 37, io: 0x1000..0x2000 }
}

fn ecam_u32(bus: &Bus, offset: u64) -> u32 {
    let mut out = [0; 4];
    bus.ecam_read(offset, &mut out);
    u32::from_le_bytes(out)
}

fn decode(bus: &Bus, slot: Slot) {
    let on = COMMAND_MEMORY | COMMAND_IO;
    bus.ecam_write(slot.ecam_offset() + COMMAND, &on.to_le_bytes());
}

fn read(bus: &Bus, address: u64) -> (Claim, [u8; 4]) {
    let mut out = [0; 4];
    (bus.mmio_read(address, &mut out), out)
}

#[test]
fn absent_functions_read_all_ones() {
    let bus = Bus::new();
    bus.plug(slot(3, 0), cell(1, &[])).unwrap();
    assert_eq!(ecam_u32(&bus, 3 << 15), 0x0001_1234);
    for offset in
        [0, 3 << 15 | 1 << 12, 31 << 15 | 7 << 12, 1 << 20, (1 << 20) + (3 << 15), u64::MAX, u64::MAX - 3]
    {
        assert_eq!(ecam_u32(&bus, offset), 0xffff_ffff, "{offset:#x}");
        assert_eq!(bus.ecam_write(offset, &[0; 4]), []);
    }
}

#[test]
fn an_ecam_access_across_two_functions_reaches_neither() {
    let bus = Bus::new();
    bus.plug(slot(0, 0), cell(1, &[])).unwrap();
    bus.plug(slot(0, 1), cell(2, &[])).unwrap();
    assert_eq!(ecam_u32(&bus, 0xffe), 0xffff_ffff);
    let mut all = vec![0; 4097];
    bus.ecam_read(0, &mut all);
    assert!(all.iter().all(|byte| *byte == 0xff));
}

#[test]
fn a_slot_holds_one_function() {
    let bus = Bus::new();
    bus.plug(slot(1, 2), cell(1, &[])).unwrap();
    assert_eq!(bus.plug(slot(1, 2), cell(2, &[])), Err(SetupError::SlotTaken { slot: slot(1, 2) }));
    assert_eq!(bus.slots(), [slot(1, 2)]);
    assert!(bus.function(slot(1, 3)).is_none());
    assert_eq!(slot(1, 2).to_string(), "00:01.2");
}

#[test]
fn functions_of_one_device_are_marked_multifunction() {
    let header_type = |bus: &Bus, slot: Slot| ecam_u32(bus, slot.ecam_offset() + 0x0c) >> 16;
    let bus = Bus::new();
    bus.plug(slot(1, 0), cell(1, &[])).unwrap();
    bus.plug(slot(2, 0), cell(1, &[])).unwrap();
    assert_eq!(header_type(&bus, slot(1, 0)), 0);
    bus.plug(slot(1, 5), cell(1, &[])).unwrap();
    bus.reset();
    assert_eq!(header_type(&bus, slot(1, 0)), 0x80);
    assert_eq!(header_type(&bus, slot(1, 5)), 0x80);
    assert_eq!(header_type(&bus, slot(2, 0)), 0);
}

#[test]
fn bars_are_decoded_while_enabled_and_follow_when_moved() {
    let bus = Bus::new();
    let it = slot(4, 0);
    bus.plug(it, cell(7, &[BarSpec::memory32(0, 0x1000)])).unwrap();
    bus.assign_bars(apertures()).unwrap();
    assert_eq!(read(&bus, 0xc000_0000), (Claim::Unclaimed, [0xff; 4]));
    decode(&bus, it);
    assert_eq!(read(&bus, 0xc000_0000), (Claim::Claimed, [7; 4]));
    assert_eq!(read(&bus, 0xc000_0fff), (Claim::Claimed, [0xff; 4]), "beyond the BAR's end");
    assert_eq!(read(&bus, 0xc000_1000).0, Claim::Unclaimed);
    assert_eq!(read(&bus, 0xbfff_ffff).0, Claim::Unclaimed);
    bus.ecam_write(it.ecam_offset() + BAR0, &0xe000_0000_u32.to_le_bytes());
    assert_eq!(read(&bus, 0xc000_0000).0, Claim::Unclaimed);
    assert_eq!(read(&bus, 0xe000_0ffc), (Claim::Claimed, [7; 4]));
    bus.reset();
    assert_eq!(read(&bus, 0xe000_0000).0, Claim::Unclaimed);
    assert_eq!(bus.mmio_write(0xe000_0000, &[1]), Claim::Unclaimed);
}

#[test]
fn an_access_arrives_as_bar_and_offset() {
    let bus = Bus::new();
    let log = Arc::default();
    let bars = vec![BarSpec::memory32(1, 0x100), BarSpec::memory64(2, 0x100), BarSpec::io(4, 8)];
    let hosted = Hosted::new(Cell(bars, Arc::clone(&log), 1), Arc::new(NoInterrupts)).unwrap();
    bus.plug(slot(0, 0), hosted.shared()).unwrap();
    bus.assign_bars(apertures()).unwrap();
    decode(&bus, slot(0, 0));
    assert_eq!(bus.mmio_write(0xc000_0010, &[0]), Claim::Claimed);
    assert_eq!(bus.mmio_write((1 << 36) + 0x20, &[0]), Claim::Claimed);
    assert_eq!(bus.io_write(0x1003, &[0]), Claim::Claimed);
    assert_eq!(bus.io_read(0x1008, &mut [0]), Claim::Unclaimed);
    assert_eq!(bus.mmio_write(0x1003, &[0]), Claim::Unclaimed, "a port is no memory address");
    assert_eq!(*log.lock().unwrap(), [(1, 0x10), (2, 0x20), (4, 3)]);
}

#[test]
fn where_bars_overlap_the_first_slot_wins() {
    let bus = Bus::new();
    for (device, id) in [(9, 9), (2, 2)] {
        bus.plug(slot(device, 0), cell(id, &[BarSpec::memory32(0, 0x1000)])).unwrap();
        bus.ecam_write(slot(device, 0).ecam_offset() + BAR0, &0xc000_0000_u32.to_le_bytes());
        decode(&bus, slot(device, 0));
    }
    assert_eq!(read(&bus, 0xc000_0000), (Claim::Claimed, [2; 4]));
    bus.ecam_write(slot(2, 0).ecam_offset() + COMMAND, &[0, 0]);
    assert_eq!(read(&bus, 0xc000_0000), (Claim::Claimed, [9; 4]));
}

#[test]
fn initial_addresses_are_aligned_apart_and_inside() {
    let bus = Bus::new();
    let bars = [BarSpec::memory32(0, 0x1000), BarSpec::memory64(2, 1 << 30), BarSpec::io(4, 0x20)];
    for device in 0..4 {
        bus.plug(slot(device, 0), cell(1, &bars)).unwrap();
    }
    bus.plug(slot(9, 0), cell(1, &[BarSpec::memory32(5, 0x10_0000)])).unwrap();
    bus.assign_bars(apertures()).unwrap();
    assert_eq!(ecam_u32(&bus, slot(9, 0).ecam_offset() + 0x24), 0xc000_0000, "the largest comes first");
    for device in 0..4_u32 {
        let at = slot(device as u8, 0).ecam_offset();
        assert_eq!(ecam_u32(&bus, at + 0x10), 0xc010_0000 + 0x1000 * device);
        assert_eq!(ecam_u32(&bus, at + 0x18), (device << 30) | 4);
        assert_eq!(ecam_u32(&bus, at + 0x1c), 0x10);
        assert_eq!(ecam_u32(&bus, at + 0x20), (0x1000 + 0x20 * device) | 1);
    }
}

#[test]
fn an_aperture_that_is_too_small_names_the_bar() {
    let bus = Bus::new();
    bus.plug(slot(1, 0), cell(1, &[BarSpec::memory32(3, 0x1000)])).unwrap();
    let small = Apertures { memory32: 0xc000_0800..0xc000_1fff, ..apertures() };
    let full = SetupError::ApertureFull { slot: slot(1, 0), bar: 3, len: 0x1000 };
    assert_eq!(bus.assign_bars(small), Err(full));
    let without_high = Apertures { memory64: 0..0, ..apertures() };
    bus.plug(slot(2, 0), cell(1, &[BarSpec::memory64(0, 0x1000)])).unwrap();
    assert_eq!(bus.assign_bars(without_high), Ok(()));
    assert_eq!(ecam_u32(&bus, slot(2, 0).ecam_offset() + 0x10), 0xc000_1004);
}

#[test]
fn no_bar_is_put_at_address_0() {
    let bus = Bus::new();
    bus.plug(slot(0, 0), cell(1, &[BarSpec::io(0, 4)])).unwrap();
    bus.assign_bars(Apertures { io: 0..0x100, ..apertures() }).unwrap();
    decode(&bus, slot(0, 0));
    assert_eq!(bus.io_write(4, &[0]), Claim::Claimed, "0 would mean that nobody assigned it");
}

#[test]
fn a_function_in_use_holds_up_no_other() {
    let bus = Bus::new();
    for (device, id) in [(0, 1), (1, 2)] {
        bus.plug(slot(device, 0), cell(id, &[BarSpec::memory32(0, 0x1000)])).unwrap();
    }
    bus.assign_bars(apertures()).unwrap();
    decode(&bus, slot(0, 0));
    let busy = bus.function(slot(0, 0)).unwrap();
    let _in_use = busy.lock().unwrap();
    decode(&bus, slot(1, 0));
    assert_eq!(read(&bus, 0xc000_1000), (Claim::Claimed, [2; 4]));
    assert_eq!(ecam_u32(&bus, slot(1, 0).ecam_offset()), 0x0002_1234);
}

#[test]
fn traced_counts_and_changes_nothing() {
    let counters = Arc::new(Counters::default());
    let inner = Cell(vec![BarSpec::memory32(0, 0x10)], Arc::default(), 3);
    let traced = Traced::new(inner, Arc::clone(&counters));
    let mut hosted = Hosted::new(traced, Arc::new(NoInterrupts)).unwrap();
    let mut out = [0; 2];
    hosted.bar_read(0, 4, &mut out);
    hosted.bar_read(0, 16, &mut [0]);
    hosted.bar_write(0, 0, &[1]);
    hosted.bar_write(0, 1, &[1]);
    hosted.reset();
    assert_eq!(out, [3, 3]);
    let counted = [&counters.bar_reads, &counters.bar_writes, &counters.resets, &counters.capability_touches];
    assert_eq!(counted.map(|counter| counter.load(Relaxed)), [1, 2, 1, 0]);
}

/// A function plugged in later gets addresses of its own, and those in use stay where they are.
#[test]
fn a_later_function_moves_no_other() {
    let bus = Bus::new();
    let mut left = apertures();
    bus.plug(slot(1, 0), cell(1, &[BarSpec::memory32(0, 0x1000)])).unwrap();
    bus.assign_bars_of(slot(1, 0), &mut left).unwrap();
    bus.plug(slot(2, 0), cell(2, &[BarSpec::memory32(0, 0x4000)])).unwrap();
    bus.assign_bars_of(slot(2, 0), &mut left).unwrap();
    decode(&bus, slot(1, 0));
    decode(&bus, slot(2, 0));
    assert_eq!(read(&bus, 0xc000_0000), (Claim::Claimed, [1; 4]));
    assert_eq!(read(&bus, 0xc000_4000), (Claim::Claimed, [2; 4]));
    assert_eq!(left.memory32.start, 0xc000_8000);
}
