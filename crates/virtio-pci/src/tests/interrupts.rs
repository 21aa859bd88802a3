//! The ISR, INTx and MSI-X (virtio 1.3 §4.1.4.5, §4.1.5.1.2, §4.1.5.3, §4.1.5.4).

use vioduct_pci::{Level, registers as config};
use vioduct_spec::pci::{cap, common_config as at};
use vioduct_spec::{Features, Status};

use super::rig::{BAR_ADDRESS, Heard, PLAIN, Rig};

const QUEUE: u64 = 1;
const CONFIG: u64 = 2;

fn use_a_buffer(rig: &mut Rig) {
    rig.offer(0);
    rig.kick(0);
}

fn interrupt_status(rig: &mut Rig) -> bool {
    rig.config_u16(config::STATUS) & config::STATUS_INTERRUPT != 0
}

#[test]
fn s4_1_4_5_1_isr_is_there() {
    assert!(Rig::new().capability(cap::TYPE_ISR).unwrap().u32(cap::LENGTH) >= 1);
}

#[test]
fn s4_1_4_5_1_queue_bit_is_set_without_msix() {
    let mut rig = Rig::live(PLAIN);
    use_a_buffer(&mut rig);
    assert_eq!(rig.sink.take(), [Heard::Pin(Level::Asserted)]);
    assert_eq!(rig.isr(), QUEUE);
    assert_eq!(rig.sink.take(), [Heard::Pin(Level::Deasserted)]);
}

#[test]
fn s4_1_4_5_1_configuration_bit_is_set_with_and_without_msix() {
    let mut rig = Rig::live(PLAIN);
    rig.change_config(1);
    assert_eq!(rig.sink.take(), [Heard::Pin(Level::Asserted)]);
    assert_eq!(rig.isr(), CONFIG);
    let mut rig = Rig::live_with_msix(PLAIN);
    rig.change_config(1);
    assert_eq!(rig.sink.take(), [Heard::Msi(0)]);
    assert_eq!(rig.isr(), CONFIG);
}

#[test]
fn s4_1_4_5_1_interrupt_status_is_the_or_of_the_isr() {
    let mut rig = Rig::live(PLAIN);
    assert!(!interrupt_status(&mut rig));
    use_a_buffer(&mut rig);
    rig.change_config(1);
    assert!(interrupt_status(&mut rig));
    assert_eq!(rig.isr(), QUEUE | CONFIG);
    assert!(!interrupt_status(&mut rig));
}

#[test]
fn s4_1_4_5_1_pin_is_masked_by_the_rules_of_pci() {
    let mut rig = Rig::live(PLAIN);
    rig.set_command(config::COMMAND_BUS_MASTER | config::COMMAND_INTX_DISABLE);
    use_a_buffer(&mut rig);
    assert_eq!(rig.sink.take(), []);
    assert!(interrupt_status(&mut rig));
    rig.set_command(config::COMMAND_BUS_MASTER);
    assert_eq!(rig.sink.take(), [Heard::Pin(Level::Asserted)]);
}

#[test]
fn s4_1_4_5_1_isr_is_reset_by_a_read() {
    let mut rig = Rig::live(PLAIN);
    use_a_buffer(&mut rig);
    assert_eq!((rig.isr(), rig.isr()), (QUEUE, 0));
    rig.write(cap::TYPE_ISR, 0, 1, 0xff);
    assert_eq!(rig.isr(), 0, "it is the device's to set");
}

#[test]
fn s4_1_5_1_2_1_table_size_is_reported_and_is_at_least_2() {
    let rig = Rig::new();
    let msix = rig.msix();
    assert_eq!(u16::from_le_bytes([msix.bytes[2], msix.bytes[3]]), 3, "three queues and the configuration");
}

#[test]
fn s4_1_5_1_2_1_any_event_maps_to_any_vector() {
    for vector in 0..4 {
        let mut rig = Rig::live_with_msix(PLAIN);
        rig.put(at::QUEUE_MSIX_VECTOR, 2, vector);
        rig.put(at::CONFIG_MSIX_VECTOR, 2, vector);
        use_a_buffer(&mut rig);
        rig.change_config(1);
        assert_eq!(rig.sink.take(), [Heard::Msi(vector as u16); 2]);
        assert_eq!(rig.hosted.function().queue_vector(0), Some(vector as u16));
    }
}

#[test]
fn s4_1_5_1_2_1_vectors_read_back_and_unmap() {
    let mut rig = Rig::live_with_msix(PLAIN);
    for register in [at::CONFIG_MSIX_VECTOR, at::QUEUE_MSIX_VECTOR] {
        for vector in [3, 0xffff, 0] {
            rig.put(register, 2, vector);
            assert_eq!(rig.get(register, 2), vector);
        }
    }
    rig.put(at::QUEUE_MSIX_VECTOR, 2, 0xffff);
    assert_eq!(rig.hosted.function().queue_vector(0), None);
}

#[test]
fn s4_1_5_1_2_1_all_events_are_unmapped_upon_reset() {
    let mut rig = Rig::live_with_msix(PLAIN);
    rig.set_status(Status::RESET);
    for register in [at::CONFIG_MSIX_VECTOR, at::QUEUE_MSIX_VECTOR] {
        assert_eq!(rig.get(register, 2), 0xffff);
    }
}

/// Also hostile peers, row 16.
#[test]
fn s4_1_5_1_2_1_mapping_beyond_the_table_reads_as_no_vector() {
    let mut rig = Rig::live_with_msix(PLAIN);
    for register in [at::CONFIG_MSIX_VECTOR, at::QUEUE_MSIX_VECTOR] {
        for vector in [4, 0x7ff, 0x800, 0xfffe] {
            rig.put(register, 2, 1);
            rig.put(register, 2, vector);
            assert_eq!(rig.get(register, 2), 0xffff, "vector {vector:#x}");
        }
    }
    rig.put(at::QUEUE_SELECT, 2, 3);
    rig.put(at::QUEUE_MSIX_VECTOR, 2, 1);
    assert_eq!(rig.get(at::QUEUE_MSIX_VECTOR, 2), 0xffff, "there is no queue 3");
}

#[test]
fn s4_1_5_3_1_unmapped_queue_interrupts_nobody() {
    let mut rig = Rig::live_with_msix(PLAIN);
    rig.put(at::QUEUE_MSIX_VECTOR, 2, 0xffff);
    use_a_buffer(&mut rig);
    assert_eq!((rig.used(0), rig.sink.take()), (1, vec![]));
    assert_eq!(rig.isr(), 0, "the ISR is unused with MSI-X");
}

#[test]
fn s4_1_5_4_1_unmapped_configuration_interrupts_nobody() {
    let mut rig = Rig::live_with_msix(PLAIN);
    rig.put(at::CONFIG_MSIX_VECTOR, 2, 0xffff);
    rig.change_config(1);
    assert_eq!(rig.sink.take(), []);
}

#[test]
fn a_masked_vector_is_delivered_when_it_is_unmasked() {
    let mut rig = Rig::live_with_msix(PLAIN);
    rig.set_msix_control(config::MSIX_ENABLE | config::MSIX_FUNCTION_MASK);
    use_a_buffer(&mut rig);
    assert_eq!(rig.sink.take(), []);
    rig.set_msix_control(config::MSIX_ENABLE);
    assert_eq!(rig.sink.take(), [Heard::Msi(1)]);
}

#[test]
fn vectors_mean_nothing_while_msix_is_off() {
    let mut rig = Rig::live_with_msix(PLAIN);
    rig.set_msix_control(0);
    use_a_buffer(&mut rig);
    assert_eq!(rig.sink.take(), [Heard::Pin(Level::Asserted)]);
    assert_eq!(rig.isr(), QUEUE);
}

/// Hostile peers, row 42: the device reaches RAM only, so its BAR is no place for a buffer.
#[test]
fn a_buffer_in_the_own_bar_breaks_the_device_and_nothing_else() {
    let mut rig = Rig::live_with_msix(PLAIN.with(Features::bit(3)));
    rig.hosted.config_write(config::BAR0, &(BAR_ADDRESS as u32).to_le_bytes());
    let (_, notify) = rig.structure(cap::TYPE_NOTIFY);
    rig.offer_at(0, BAR_ADDRESS + notify);
    rig.kick(0);
    assert!(rig.status().contains(Status::NEEDS_RESET));
    assert_eq!(rig.sink.take().last(), Some(&Heard::Msi(0)));
    rig.kick(0);
    assert_eq!(rig.sink.take(), []);
    rig.set_status(Status::RESET);
    assert_eq!(rig.status(), Status::RESET);
}
