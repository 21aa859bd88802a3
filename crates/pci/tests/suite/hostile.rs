//! A guest that does anything at all: nothing panics, and what must hold holds after every step.

use proptest::collection::vec;
use proptest::prelude::*;
use vioduct_pci::registers::*;
use vioduct_pci::{
    Apertures, BarSpec, Bus, Capability, FunctionSpec, InterruptPin, Level, MsixSpec, Slot, VectorState,
};

use crate::probe::{Event, Rig};

const VECTORS: u16 = 70;

#[derive(Debug, Clone)]
enum Step {
    ConfigRead(u64, usize),
    ConfigWrite(u64, Vec<u8>),
    BarRead(u8, u64, usize),
    BarWrite(u8, u64, Vec<u8>),
    Raise(u16),
    Intx(Level),
    Reset,
}

fn spec() -> FunctionSpec {
    let window = Capability::Vendor { body: vec![0; 17], writable: vec![0xff; 17] };
    FunctionSpec::new(0x1af4, 0x1040, 0xff_0000)
        .with_interrupt_pin(InterruptPin::B)
        .with_bar(BarSpec::memory32(0, 0x1000))
        .with_bar(BarSpec::io(1, 0x40))
        .with_bar(BarSpec::memory64(2, 0x1000).prefetchable())
        .with_capability(window)
        .with_capability(Capability::PciExpress)
        .with_msix(MsixSpec::in_bar(VECTORS, 2, 0x100))
}

/// Mostly where something is, sometimes anywhere.
fn offset(len: u64) -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..len, 1 => len.saturating_sub(8)..len + 8, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![8 => prop_oneof![Just(1_usize), Just(2), Just(4), Just(8)], 2 => 0..40_usize, 1 => 0..5000_usize]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![2 => any::<u8>(), 1 => Just(0), 1 => Just(0xff)];
    let few = prop_oneof![Just(1_usize), Just(2), Just(4), Just(8), 0..40_usize];
    let varied = few.prop_flat_map(move |len| vec(byte.clone(), len));
    let many = (any::<u8>(), 0..5000_usize).prop_map(|(byte, len)| vec![byte; len]);
    prop_oneof![12 => varied, 1 => many]
}

/// Offsets of BAR 2 that are in the MSI-X structures, aligned, so that legal programming happens too.
fn msix_word() -> impl Strategy<Value = Step> {
    (0..300_u64, any::<u32>())
        .prop_map(|(word, value)| Step::BarWrite(2, 0x100 + 4 * word, value.to_le_bytes().to_vec()))
}

fn step() -> impl Strategy<Value = Step> {
    let bar = prop_oneof![4 => 0..4_u8, 1 => any::<u8>()];
    let control = prop_oneof![Just(0_u16), Just(1 << 15), Just(3 << 14), Just(1 << 14)];
    prop_oneof![
        4 => (offset(0x1000), len()).prop_map(|(offset, len)| Step::ConfigRead(offset, len)),
        6 => (offset(0x100), bytes()).prop_map(|(offset, data)| Step::ConfigWrite(offset, data)),
        3 => control.prop_map(|control| Step::ConfigWrite(0x92, control.to_le_bytes().to_vec())),
        4 => (bar.clone(), offset(0x1000), len()).prop_map(|(bar, offset, len)| Step::BarRead(bar, offset, len)),
        4 => (bar, offset(0x1000), bytes()).prop_map(|(bar, offset, data)| Step::BarWrite(bar, offset, data)),
        6 => msix_word(),
        4 => (0..VECTORS + 4).prop_map(Step::Raise),
        1 => any::<u16>().prop_map(Step::Raise),
        1 => prop_oneof![Just(Level::Asserted), Just(Level::Deasserted)].prop_map(Step::Intx),
        1 => Just(Step::Reset),
    ]
}

fn take(rig: &mut Rig, step: &Step) {
    match step {
        Step::ConfigRead(offset, len) => drop(rig.config(*offset, *len)),
        Step::ConfigWrite(offset, data) => drop(rig.hosted.config_write(*offset, data)),
        Step::BarRead(bar, offset, len) => drop(rig.bar(*bar, *offset, *len)),
        Step::BarWrite(bar, offset, data) => rig.hosted.bar_write(*bar, *offset, data),
        Step::Raise(vector) => rig.interrupts.msix(*vector),
        Step::Intx(level) => rig.interrupts.intx(*level),
        Step::Reset => drop(rig.hosted.reset()),
    }
}

fn check_identity(rig: &mut Rig) {
    assert_eq!(rig.config(0, 4), [0xf4, 0x1a, 0x40, 0x10]);
    assert_eq!((rig.config(8, 4), rig.config_u8(0x34)), (vec![0, 0, 0, 0xff], 0x40));
    assert_eq!(rig.config_u8(INTERRUPT_PIN), 2);
    assert_eq!((rig.config_u8(0x41), rig.config_u8(0x55), rig.config_u8(0x91)), (0x54, 0x90, 0));
    assert_eq!(rig.config_u16(0x92) & 0x7ff, VECTORS - 1);
    assert_eq!(
        (rig.config_u32(0x10) & 0xfff, rig.config_u32(0x14) & 0x3f, rig.config_u32(0x18) & 0xfff),
        (0, 1, 12)
    );
}

/// A vector is pending only while it is masked.
fn check_pending(rig: &mut Rig) {
    let pending = 0x100 + 16 * u64::from(VECTORS);
    let words = [rig.bar(2, pending, 8), rig.bar(2, pending + 8, 8)];
    let words = words.map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
    for vector in 0..VECTORS {
        if words[usize::from(vector / 64)] >> (vector % 64) & 1 == 1 {
            assert_eq!(rig.interrupts.vector_state(vector), VectorState::Masked, "vector {vector}");
        }
    }
    assert_eq!(words[1] >> (VECTORS - 64), 0, "bits of vectors that do not exist");
}

/// What reaches the function lies in a BAR of its own and not in the MSI-X structures.
fn check_reached(events: Vec<Event>) {
    for event in events {
        let (bar, offset, len) = match event {
            Event::Read { bar, offset, len } => (bar, offset, len),
            Event::Write { bar, offset, data } => (bar, offset, data.len()),
            Event::BusMaster(_) | Event::Reset => continue,
        };
        let size = if bar == 1 { 0x40 } else { 0x1000 };
        assert!([0, 1, 2].contains(&bar) && len > 0);
        let end = offset + len as u64;
        assert!(end <= size, "{len} bytes at {offset:#x} of BAR{bar}");
        let msix_end = 0x100 + 16 * u64::from(VECTORS) + 16;
        assert!(bar != 2 || end <= 0x100 || offset >= msix_end, "{len} bytes at {offset:#x} are MSI-X");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn row16_no_guest_breaks_a_function(steps in vec(step(), 1..60)) {
        let mut rig = Rig::new(spec());
        for step in &steps {
            take(&mut rig, step);
            check_reached(rig.hosted.function_mut().take_events());
            check_pending(&mut rig);
            check_identity(&mut rig);
            rig.hosted.function_mut().take_events();
        }
    }

    #[test]
    fn row16_no_guest_breaks_a_bus(
        ecam in vec((offset(1 << 20), bytes()), 1..20),
        memory in vec((offset(0xd000_0000), bytes()), 1..20),
        port in any::<u16>(),
    ) {
        let bus = Bus::new();
        for (device, function) in [(0, 0), (0, 1), (31, 7)] {
            let slot = Slot::new(device, function).unwrap();
            bus.plug(slot, Rig::new(spec()).hosted.shared()).unwrap();
        }
        let apertures = Apertures { memory32: 0x8000_0000..0xd000_0000, memory64: 0..0, io: 0x1000..0x2000 };
        bus.assign_bars(apertures).unwrap();
        bus.ecam_write(COMMAND, &(COMMAND_MEMORY | COMMAND_IO).to_le_bytes());
        for ((offset, data), (address, more)) in ecam.iter().zip(&memory) {
            let mut out = data.clone();
            bus.ecam_write(offset % 0x2000, data);
            bus.ecam_write(*offset, data);
            bus.ecam_read(*offset, &mut out);
            for address in [*address, 0x8000_0000 + address % 0x6000] {
                let _ = bus.mmio_write(address, more);
                let _ = bus.mmio_read(address, &mut out);
            }
            let _ = bus.io_write(port, more);
            let _ = bus.io_read(port, &mut out);
        }
        let mut id = [0; 4];
        bus.ecam_read(0, &mut id);
        prop_assert_eq!(id, [0xf4, 0x1a, 0x40, 0x10]);
    }
}
