use std::sync::Arc;

use proptest::prelude::*;
use vioduct_pci::registers::{BAR0, COMMAND, COMMAND_MEMORY};
use vioduct_pci::{Apertures, Bus, Claim, Hosted, NoInterrupts, PciFunction, Slot};
use vioduct_spec::pci_demo::{BAR0_LEN, REG_VALUE};

use crate::PciDemo;

fn hosted() -> Hosted<PciDemo> {
    Hosted::new(PciDemo::new(), Arc::new(NoInterrupts)).unwrap()
}

fn config(hosted: &mut Hosted<PciDemo>, offset: u64) -> [u8; 4] {
    let mut out = [0; 4];
    hosted.config_read(offset, &mut out);
    out
}

fn read(hosted: &mut Hosted<PciDemo>, offset: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0xa5; len];
    hosted.bar_read(0, offset, &mut out);
    out
}

fn value(hosted: &mut Hosted<PciDemo>) -> u32 {
    u32::from_le_bytes(read(hosted, REG_VALUE, 4).try_into().unwrap())
}

#[test]
fn it_is_1234_5649_of_class_ff0000_with_one_bar_of_1_mib() {
    let mut hosted = hosted();
    assert_eq!(config(&mut hosted, 0), [0x34, 0x12, 0x49, 0x56]);
    assert_eq!(config(&mut hosted, 8), [0, 0, 0, 0xff]);
    assert_eq!(config(&mut hosted, BAR0), [0; 4], "32-bit, not prefetchable");
    for bar in 0..6 {
        hosted.config_write(BAR0 + 4 * bar, &[0xff; 4]);
    }
    assert_eq!(config(&mut hosted, BAR0), 0xfff0_0000_u32.to_le_bytes());
    for bar in 1..6 {
        assert_eq!(config(&mut hosted, BAR0 + 4 * bar), [0; 4], "BAR{bar}");
    }
    assert_eq!(config(&mut hosted, 0x34), [0; 4], "no capabilities, so no MSI-X");
    assert_eq!(config(&mut hosted, 0x3c), [0; 4], "no interrupt pin");
}

#[test]
fn what_was_last_written_comes_back() {
    let mut hosted = hosted();
    assert_eq!(value(&mut hosted), 0);
    for written in [0x1333_u32, 0x2333, 0x3333, 0, u32::MAX] {
        hosted.bar_write(0, REG_VALUE, &written.to_le_bytes());
        assert_eq!(value(&mut hosted), written);
    }
}

#[test]
fn any_other_width_or_offset_reads_all_ones_and_writes_nothing() {
    let mut hosted = hosted();
    hosted.bar_write(0, REG_VALUE, &0x1333_u32.to_le_bytes());
    for len in [0, 1, 2, 3, 4, 5, 8, 16, 4096] {
        for offset in
            [0, 1, 2, 3, 4, 5, 7, 8, 0x7fff, BAR0_LEN - 8, BAR0_LEN - 4, BAR0_LEN - 1, BAR0_LEN, u64::MAX]
        {
            if (offset, len) == (REG_VALUE, 4) {
                continue;
            }
            hosted.bar_write(0, offset, &vec![0; len]);
            assert_eq!(read(&mut hosted, offset, len), vec![0xff; len], "{len} bytes at {offset:#x}");
            assert_eq!(value(&mut hosted), 0x1333, "{len} bytes at {offset:#x}");
        }
    }
}

#[test]
fn reset_clears_the_register() {
    let mut hosted = hosted();
    hosted.bar_write(0, REG_VALUE, &[1; 4]);
    hosted.reset();
    assert_eq!(value(&mut hosted), 0);
}

#[test]
fn it_works_on_a_bus() {
    let bus = Bus::new();
    let slot = Slot::new(5, 0).unwrap();
    bus.plug(slot, hosted().shared()).unwrap();
    let apertures = Apertures { memory32: 0xc000_0000..0xd000_0000, memory64: 0..0, io: 0..0 };
    bus.assign_bars(apertures).unwrap();
    bus.ecam_write(slot.ecam_offset() + COMMAND, &COMMAND_MEMORY.to_le_bytes());
    let mut out = [0; 4];
    assert_eq!(bus.mmio_write(0xc000_0000, &0x2333_u32.to_le_bytes()), Claim::Claimed);
    assert_eq!(bus.mmio_read(0xc000_0000, &mut out), Claim::Claimed);
    assert_eq!(u32::from_le_bytes(out), 0x2333);
    assert_eq!(bus.mmio_read(0xc000_0004, &mut out), Claim::Claimed);
    assert_eq!(out, [0xff; 4]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_a_u32_whatever_the_guest_does(
        accesses in proptest::collection::vec((0..12_u64, proptest::collection::vec(any::<u8>(), 0..9)), 0..40)
    ) {
        let mut hosted = hosted();
        let mut model = [0; 4];
        for (offset, data) in accesses {
            let expected = if (offset, data.len()) == (0, 4) { model.to_vec() } else { vec![0xff; data.len()] };
            prop_assert_eq!(read(&mut hosted, offset, data.len()), expected);
            hosted.bar_write(0, offset, &data);
            if let (0, Ok(written)) = (offset, <[u8; 4]>::try_from(data)) {
                model = written;
            }
        }
    }
}

#[test]
fn a_saved_register_goes_on_elsewhere() {
    let (mut here, mut there) = (hosted(), hosted());
    here.bar_write(0, REG_VALUE, &0x1333_u32.to_le_bytes());
    there.restore(&here.save().unwrap()).unwrap();
    assert_eq!(value(&mut there), 0x1333);
    for wrong in [&[][..], &[0; 3], &[0; 5]] {
        assert!(there.function_mut().restore(wrong).is_err());
    }
}
