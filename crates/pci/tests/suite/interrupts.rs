//! MSI-X and INTx between guest, function and host.

use vioduct_pci::registers::*;
use vioduct_pci::{
    BarSpec, FunctionSpec, InterruptPin, Level, MsiMessage, MsixSpec, TableOwner, VectorState,
};

use crate::probe::{Delivered, Rig};

const VECTORS: u16 = 66;
const TABLE: u64 = 0x1000;
const PBA: u64 = TABLE + 16 * VECTORS as u64;
const CONTROL: u64 = 0x40 + MSIX_CONTROL;

fn rig_with(owner: TableOwner) -> Rig {
    let spec = FunctionSpec::new(1, 1, 0)
        .with_interrupt_pin(InterruptPin::A)
        .with_bar(BarSpec::memory32(0, 0x1000))
        .with_bar(BarSpec::memory32(2, 0x2000))
        .with_msix(MsixSpec::in_bar(VECTORS, 2, TABLE as u32));
    Rig::with_owner(spec, owner)
}

fn rig() -> Rig {
    rig_with(TableOwner::Function)
}

fn message(vector: u16) -> MsiMessage {
    MsiMessage { address: 0x1_fee0_0000 + 4 * u64::from(vector), data: 0x4000 + u32::from(vector) }
}

fn control(rig: &mut Rig, bits: u16) {
    rig.hosted.config_write(CONTROL, &bits.to_le_bytes());
}

fn set_mask(rig: &mut Rig, vector: u16, mask: u32) {
    rig.hosted.bar_write(2, TABLE + 16 * u64::from(vector) + 12, &mask.to_le_bytes());
}

fn program(rig: &mut Rig, vector: u16) {
    let entry = TABLE + 16 * u64::from(vector);
    rig.hosted.bar_write(2, entry, &message(vector).address.to_le_bytes());
    rig.hosted.bar_write(2, entry + 8, &message(vector).data.to_le_bytes());
}

fn pending(rig: &mut Rig) -> [u64; 2] {
    let bits = rig.bar(2, PBA, 8);
    let more = rig.bar(2, PBA + 8, 8);
    [bits, more].map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
}

#[test]
fn an_unmasked_vector_sends_its_message() {
    let mut rig = rig();
    control(&mut rig, MSIX_ENABLE);
    program(&mut rig, 65);
    set_mask(&mut rig, 65, 0);
    rig.sink.take();
    rig.interrupts.vector(65).raise();
    assert_eq!(rig.sink.take(), [Delivered::Msi(65, message(65))]);
    assert_eq!(pending(&mut rig), [0, 0]);
    assert_eq!(rig.interrupts.vector(65).index(), 65);
}

#[test]
fn a_masked_vector_is_pending_until_unmasked_and_sends_once() {
    let mut rig = rig();
    control(&mut rig, MSIX_ENABLE);
    program(&mut rig, 1);
    program(&mut rig, 65);
    rig.interrupts.msix(1);
    rig.interrupts.msix(1);
    rig.interrupts.msix(65);
    assert_eq!(pending(&mut rig), [1 << 1, 1 << 1]);
    rig.sink.take();
    set_mask(&mut rig, 1, 0);
    let unmasked = Delivered::Changed(1, VectorState::Unmasked(message(1)));
    assert_eq!(rig.sink.take(), [unmasked, Delivered::Msi(1, message(1))]);
    assert_eq!(pending(&mut rig), [0, 1 << 1]);
    set_mask(&mut rig, 1, 1);
    set_mask(&mut rig, 1, 0);
    assert_eq!(rig.sink.take(), [Delivered::Changed(1, VectorState::Masked), unmasked]);
}

#[test]
fn the_function_mask_holds_back_all_vectors_and_releases_them_in_order() {
    let mut rig = rig();
    control(&mut rig, MSIX_ENABLE | MSIX_FUNCTION_MASK);
    for vector in [0, 64, 3] {
        program(&mut rig, vector);
        set_mask(&mut rig, vector, 0);
    }
    for vector in [64, 3, 0, 2] {
        rig.interrupts.msix(vector);
    }
    assert_eq!(rig.interrupts.vector_state(0), VectorState::Masked);
    assert_eq!(pending(&mut rig), [0b1101, 1]);
    rig.sink.take();
    control(&mut rig, MSIX_ENABLE);
    let mut expected = Vec::new();
    for vector in [0, 3, 64] {
        expected.push(Delivered::Changed(vector, VectorState::Unmasked(message(vector))));
        expected.push(Delivered::Msi(vector, message(vector)));
    }
    assert_eq!(rig.sink.take(), expected);
    assert_eq!(pending(&mut rig), [0b100, 0], "vector 2 is masked by itself");
}

#[test]
fn a_new_message_is_told_and_used() {
    let mut rig = rig();
    control(&mut rig, MSIX_ENABLE);
    program(&mut rig, 0);
    set_mask(&mut rig, 0, 0);
    rig.sink.take();
    rig.hosted.bar_write(2, TABLE + 8, &7_u32.to_le_bytes());
    let new = MsiMessage { data: 7, ..message(0) };
    rig.interrupts.msix(0);
    let expected = [Delivered::Changed(0, VectorState::Unmasked(new)), Delivered::Msi(0, new)];
    assert_eq!(rig.sink.take(), expected);
}

#[test]
fn while_msix_is_off_nothing_is_sent_or_remembered() {
    let mut rig = rig();
    program(&mut rig, 0);
    set_mask(&mut rig, 0, 0);
    rig.interrupts.msix(0);
    assert_eq!((rig.sink.take(), pending(&mut rig)), (vec![], [0, 0]));
    control(&mut rig, MSIX_ENABLE | MSIX_FUNCTION_MASK);
    rig.interrupts.msix(0);
    assert_eq!(pending(&mut rig), [1, 0]);
    control(&mut rig, 0);
    rig.sink.take();
    control(&mut rig, MSIX_ENABLE);
    let state = |vector| if vector == 0 { VectorState::Unmasked(message(0)) } else { VectorState::Masked };
    let expected: Vec<_> = (0..VECTORS).map(|vector| Delivered::Changed(vector, state(vector))).collect();
    assert_eq!(rig.sink.take(), expected, "no message from before");
}

#[test]
fn a_table_entry_after_reset_is_masked_and_reserved_bits_stay_zero() {
    let mut rig = rig();
    assert_eq!(rig.bar(2, TABLE + 8, 8), [0, 0, 0, 0, 1, 0, 0, 0]);
    rig.hosted.bar_write(2, TABLE, &[0xff; 8]);
    rig.hosted.bar_write(2, TABLE + 8, &[0xff; 8]);
    assert_eq!(rig.bar(2, TABLE, 8), [0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(rig.bar(2, TABLE + 8, 8), [0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    assert_eq!(rig.bar(2, TABLE + 12, 4), [1, 0, 0, 0]);
    rig.hosted.reset();
    assert_eq!(rig.bar(2, TABLE, 8), [0; 8]);
}

#[test]
fn the_pending_bits_are_read_only() {
    let mut rig = rig();
    control(&mut rig, MSIX_ENABLE);
    rig.interrupts.msix(33);
    rig.hosted.bar_write(2, PBA, &[0; 8]);
    rig.hosted.bar_write(2, PBA + 8, &[0xff; 8]);
    assert_eq!(pending(&mut rig), [1 << 33, 0]);
    assert_eq!(rig.bar(2, PBA + 4, 4), [2, 0, 0, 0]);
}

#[test]
fn the_rest_of_the_bar_is_the_functions() {
    let mut rig = rig();
    assert_eq!(rig.bar(2, TABLE - 4, 4), [0x5a; 4]);
    assert_eq!(rig.bar(2, PBA + 16, 4), [0x5a; 4]);
    assert_eq!(rig.bar(0, TABLE - 4, 4), [0x5a; 4]);
}

#[test]
fn row16_msix_accesses_of_other_widths_and_alignments_reach_nothing() {
    let mut rig = rig();
    control(&mut rig, MSIX_ENABLE);
    let before: Vec<u8> =
        (0..u64::from(VECTORS) * 2).flat_map(|word| rig.bar(2, TABLE + 8 * word, 8)).collect();
    let accesses =
        [(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (4, 8), (0, 12), (0, 16), (0, 4096), (0, 0), (15, 1)];
    for (offset, len) in accesses {
        for start in [TABLE, TABLE + 16, PBA] {
            rig.hosted.bar_write(2, start + offset, &vec![0; len]);
            assert_eq!(
                rig.bar(2, start + offset, len),
                vec![0xff; len],
                "{len} bytes at {:#x}",
                start + offset
            );
        }
    }
    let after: Vec<u8> =
        (0..u64::from(VECTORS) * 2).flat_map(|word| rig.bar(2, TABLE + 8 * word, 8)).collect();
    assert_eq!(after, before);
    assert_eq!(rig.hosted.function().events, []);
}

#[test]
fn row16_accesses_across_the_borders_of_msix_structures_reach_nothing() {
    let mut rig = rig();
    for (offset, len) in [(TABLE - 4, 8), (TABLE - 1, 4), (PBA - 4, 8), (PBA + 12, 8), (0, 0x2000)] {
        rig.hosted.bar_write(2, offset, &vec![0; len]);
        assert_eq!(rig.bar(2, offset, len), vec![0xff; len]);
    }
    assert_eq!(rig.hosted.function().events, []);
}

#[test]
fn row16_a_vector_beyond_the_last_raises_nothing() {
    let mut rig = rig();
    control(&mut rig, MSIX_ENABLE);
    rig.sink.take();
    for vector in [VECTORS, VECTORS + 1, 128, 2048, 0xffff] {
        rig.interrupts.msix(vector);
        assert_eq!(rig.interrupts.vector_state(vector), VectorState::Disabled);
    }
    assert_eq!((rig.sink.take(), pending(&mut rig)), (vec![], [0, 0]));
    assert_eq!(rig.interrupts.vectors(), VECTORS);
}

#[test]
fn row16_accesses_beyond_a_bar_reach_nothing() {
    let mut rig = rig();
    for (bar, offset) in
        [(0, 0x1000), (0, 0xffd), (2, 0x2000), (0, u64::MAX), (2, u64::MAX - 3), (1, 0), (255, 0)]
    {
        rig.hosted.bar_write(bar, offset, &[0; 4]);
        assert_eq!(rig.bar(bar, offset, 4), [0xff; 4], "BAR{bar} at {offset:#x}");
    }
    assert_eq!(rig.hosted.function().events, []);
}

#[test]
fn intx_follows_the_function_and_shows_in_status() {
    let mut rig = rig();
    rig.interrupts.intx(Level::Asserted);
    rig.interrupts.intx(Level::Asserted);
    assert_eq!(rig.sink.take(), [Delivered::Intx(Level::Asserted)]);
    assert_eq!(rig.config_u16(STATUS) & STATUS_INTERRUPT, STATUS_INTERRUPT);
    rig.interrupts.intx(Level::Deasserted);
    assert_eq!(rig.sink.take(), [Delivered::Intx(Level::Deasserted)]);
    assert_eq!(rig.config_u16(STATUS) & STATUS_INTERRUPT, 0);
}

#[test]
fn disabling_intx_silences_the_pin_but_not_the_status_bit() {
    let mut rig = rig();
    rig.interrupts.intx(Level::Asserted);
    rig.sink.take();
    rig.hosted.config_write(COMMAND, &COMMAND_INTX_DISABLE.to_le_bytes());
    assert_eq!(rig.sink.take(), [Delivered::Intx(Level::Deasserted)]);
    assert_eq!(rig.config_u16(STATUS) & STATUS_INTERRUPT, STATUS_INTERRUPT);
    rig.hosted.config_write(COMMAND, &[0, 0]);
    assert_eq!(rig.sink.take(), [Delivered::Intx(Level::Asserted)]);
}

#[test]
fn msix_takes_over_from_intx() {
    let mut rig = rig();
    rig.interrupts.intx(Level::Asserted);
    rig.sink.take();
    control(&mut rig, MSIX_ENABLE);
    assert!(rig.interrupts.msix_enabled());
    assert!(rig.sink.take().contains(&Delivered::Intx(Level::Deasserted)));
    control(&mut rig, 0);
    assert!(rig.sink.take().contains(&Delivered::Intx(Level::Asserted)));
}

#[test]
fn reset_takes_back_pin_vectors_and_pending_bits() {
    let mut rig = rig();
    rig.interrupts.intx(Level::Asserted);
    rig.hosted.reset();
    assert_eq!(rig.sink.take(), [Delivered::Intx(Level::Asserted), Delivered::Intx(Level::Deasserted)]);
    control(&mut rig, MSIX_ENABLE);
    rig.interrupts.msix(5);
    rig.sink.take();
    rig.hosted.reset();
    let off: Vec<_> = (0..VECTORS).map(|vector| Delivered::Changed(vector, VectorState::Disabled)).collect();
    assert_eq!((rig.sink.take(), pending(&mut rig)), (off, [0, 0]));
}

#[test]
fn a_function_without_pin_has_no_intx() {
    let mut rig = Rig::new(FunctionSpec::new(1, 1, 0));
    rig.interrupts.intx(Level::Asserted);
    assert_eq!((rig.sink.take(), rig.config_u16(STATUS)), (vec![], 0));
}

#[test]
fn a_host_with_a_table_of_its_own_gets_every_interrupt_by_vector() {
    let rig = rig_with(TableOwner::Host);
    rig.interrupts.msix(3);
    rig.interrupts.msix(VECTORS);
    assert_eq!(rig.sink.take(), [Delivered::Msi(3, MsiMessage { address: 0, data: 0 })]);
}
