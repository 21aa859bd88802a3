//! The common configuration structure (virtio 1.3 §4.1.4.3).

use vioduct_pci::registers as config;
use vioduct_spec::pci::{cap, common_config as at};
use vioduct_spec::{Features, Status};
use vioduct_virtio_device::DeviceInfo;

use super::rig::{PLAIN, QUEUE_SIZES, RAM, Rig, SIZE, Stopping, area_of, toy_info};
use crate::registers::TABLE;

const LIVE: Status = Status(15);
const RESETTABLE: Features = PLAIN.with(Features::RING_RESET);

#[test]
fn the_table_covers_the_structure_without_gaps() {
    let mut covered = vec![0; at::LEN as usize];
    for row in TABLE {
        assert!(row.1.is_multiple_of(row.2 as u64), "{row:?} is naturally aligned");
        for byte in &mut covered[row.1 as usize..][..row.2] {
            *byte += 1;
        }
    }
    let addresses = at::QUEUE_DESC as usize..at::QUEUE_NOTIF_CONFIG_DATA as usize;
    for (offset, count) in covered.iter().enumerate() {
        assert_eq!(*count, if addresses.contains(&offset) { 2 } else { 1 }, "byte {offset:#x}");
    }
}

#[test]
fn s4_1_3_2_address_halves_are_independent() {
    let mut rig = Rig::new();
    rig.negotiate(PLAIN);
    for register in [at::QUEUE_DESC, at::QUEUE_DRIVER, at::QUEUE_DEVICE] {
        rig.put(register + 4, 4, 0x1122_3344);
        assert_eq!(rig.get(register, 8), 0x1122_3344_0000_0000);
        rig.put(register, 4, 0x5566_7788);
        assert_eq!((rig.get(register, 4), rig.get(register + 4, 4)), (0x5566_7788, 0x1122_3344));
        rig.put(register, 8, 0x0102_0304_0506_0708);
        assert_eq!((rig.get(register, 4), rig.get(register + 4, 4)), (0x0506_0708, 0x0102_0304));
    }
}

#[test]
fn s4_1_4_3_1_device_feature_presents_the_offer_for_any_select() {
    let mut rig = Rig::new();
    let offered = rig.hosted.function().endpoint().offered();
    let wanted = Features::VERSION_1 | Features::bit(3) | Features::RING_RESET | Features::NOTIFICATION_DATA;
    assert!(offered.contains(wanted));
    for (select, expected) in [(0, offered.word(0)), (1, offered.word(1)), (2, 0), (u32::MAX, 0)] {
        rig.put(at::DEVICE_FEATURE_SELECT, 4, select.into());
        assert_eq!(rig.get(at::DEVICE_FEATURE_SELECT, 4), u64::from(select));
        assert_eq!(rig.get(at::DEVICE_FEATURE, 4), u64::from(expected));
    }
}

#[test]
fn s4_1_4_3_1_driver_feature_presents_what_the_driver_wrote() {
    let mut rig = Rig::new();
    rig.negotiate(PLAIN | Features::bit(3));
    for (select, expected) in [(0, 8), (1, 1), (2, 0)] {
        rig.put(at::DRIVER_FEATURE_SELECT, 4, select);
        assert_eq!(rig.get(at::DRIVER_FEATURE, 4), expected);
    }
}

#[test]
fn s4_1_4_3_1_generation_differs_after_changed_configuration_was_read() {
    let mut rig = Rig::new();
    let before = rig.get(at::CONFIG_GENERATION, 1);
    assert_eq!(rig.read(cap::TYPE_DEVICE, 0, 4), 0x0403_0201);
    let between = rig.get(at::CONFIG_GENERATION, 1);
    // A change that the device does not announce counts as well.
    rig.backend().inner.model_mut().config.fill(7);
    assert_eq!(rig.read(cap::TYPE_DEVICE, 4, 4), 0x0707_0707);
    assert_ne!(rig.get(at::CONFIG_GENERATION, 1), between);
    assert_ne!(before, between, "the first read shows what no driver has seen");
}

#[test]
fn s4_1_4_3_1_generation_does_not_wrap_to_what_the_driver_saw() {
    let mut rig = Rig::new();
    rig.read(cap::TYPE_DEVICE, 0, 4);
    let before = rig.get(at::CONFIG_GENERATION, 1);
    (0..256).for_each(|_| rig.change_config(9));
    assert_ne!(rig.get(at::CONFIG_GENERATION, 1), before);
}

#[test]
fn s4_1_4_3_1_writing_0_to_the_status_resets() {
    let mut rig = Rig::live_with_msix(PLAIN);
    rig.change_config(1);
    rig.put(at::DEVICE_FEATURE_SELECT, 4, 1);
    rig.set_status(Status::RESET);
    assert_eq!(rig.status(), Status::RESET);
    assert_eq!(rig.isr(), 0);
    for (offset, len) in [(at::DEVICE_FEATURE_SELECT, 4), (at::DRIVER_FEATURE, 4), (at::QUEUE_SELECT, 2)] {
        assert_eq!(rig.get(offset, len), 0);
    }
    assert_eq!(rig.get(at::QUEUE_SIZE, 2), QUEUE_SIZES[0].into());
    assert_eq!(rig.get(at::QUEUE_DESC, 8), 0);
}

#[test]
fn s4_1_4_3_1_queue_enable_and_queue_reset_are_0_on_reset() {
    let mut rig = Rig::live(RESETTABLE);
    assert_eq!(rig.get(at::QUEUE_ENABLE, 2), 1);
    rig.set_status(Status::RESET);
    assert_eq!((rig.get(at::QUEUE_ENABLE, 2), rig.get(at::QUEUE_RESET, 2)), (0, 0));
}

#[test]
fn s4_1_4_3_1_queue_reset_is_0_after_the_queue_is_enabled() {
    let mut rig = Rig::live(RESETTABLE);
    assert_eq!(rig.get(at::QUEUE_RESET, 2), 0);
    rig.put(at::QUEUE_RESET, 2, 1);
    rig.set_up_queue(0);
    assert_eq!((rig.get(at::QUEUE_ENABLE, 2), rig.get(at::QUEUE_RESET, 2)), (1, 0));
}

#[test]
fn s4_1_4_3_1_queue_reset_resets_the_queue_and_reads_0_when_done() {
    let mut rig = Rig::live_with_msix(RESETTABLE);
    rig.put(at::QUEUE_RESET, 2, 1);
    assert_eq!((rig.get(at::QUEUE_ENABLE, 2), rig.get(at::QUEUE_RESET, 2)), (0, 0));
    assert_eq!(rig.get(at::QUEUE_SIZE, 2), QUEUE_SIZES[0].into());
    assert_eq!(rig.get(at::QUEUE_DESC, 8), 0);
    assert_eq!(rig.get(at::QUEUE_MSIX_VECTOR, 2), 0xffff);
    rig.offer(0);
    rig.kick(0);
    assert_eq!(rig.used(0), 0);
    rig.set_up_queue(0);
    assert_eq!(rig.used(0), 1, "it starts anew, and finds the buffer");
}

#[test]
fn s4_1_4_3_1_queue_reset_reads_1_while_the_reset_is_ongoing() {
    let mut rig = Rig::live(RESETTABLE);
    rig.backend().stopping = Stopping::Fails;
    rig.put(at::QUEUE_RESET, 2, 1);
    assert_eq!((rig.get(at::QUEUE_ENABLE, 2), rig.get(at::QUEUE_RESET, 2)), (0, 1));
    rig.backend().stopping = Stopping::Works;
    rig.put(at::QUEUE_RESET, 2, 1);
    assert_eq!((rig.get(at::QUEUE_ENABLE, 2), rig.get(at::QUEUE_RESET, 2)), (0, 0));
}

#[test]
fn queue_reset_needs_the_feature_and_a_1() {
    let mut rig = Rig::live_with_msix(PLAIN);
    rig.put(at::QUEUE_RESET, 2, 1);
    assert_eq!((rig.get(at::QUEUE_ENABLE, 2), rig.get(at::QUEUE_MSIX_VECTOR, 2)), (1, 1));
    let mut rig = Rig::live_with_msix(RESETTABLE);
    rig.put(at::QUEUE_RESET, 2, 2);
    assert_eq!((rig.get(at::QUEUE_ENABLE, 2), rig.get(at::QUEUE_MSIX_VECTOR, 2)), (1, 1));
}

#[test]
fn s4_1_4_3_1_queue_size_is_0_for_an_unavailable_queue() {
    let mut rig = Rig::new();
    rig.negotiate(PLAIN);
    assert_eq!(rig.get(at::NUM_QUEUES, 2), 3);
    for q in [2, 3, 4, 0x100, 0xffff] {
        rig.put(at::QUEUE_SELECT, 2, q);
        for (offset, len) in [(at::QUEUE_SIZE, 2), (at::QUEUE_ENABLE, 2), (at::QUEUE_RESET, 2)] {
            rig.put(offset, len, 1);
            assert_eq!(rig.get(offset, len), 0, "queue {q} register {offset:#x}");
        }
    }
    assert_eq!(rig.status().without(Status::FEATURES_OK), Status::ACKNOWLEDGE | Status::DRIVER);
}

#[test]
fn s4_1_4_3_1_queue_size_is_a_power_of_two_unless_rings_are_packed() {
    let mut rig = Rig::new();
    rig.negotiate(PLAIN);
    for (written, read) in [(3, 8), (0, 8), (4, 4), (6, 4), (16, 4), (0xffff, 4), (1, 1)] {
        rig.put(at::QUEUE_SIZE, 2, written);
        assert_eq!(rig.get(at::QUEUE_SIZE, 2), read, "after {written}");
    }
    let mut rig = Rig::new();
    rig.negotiate(PLAIN | Features::RING_PACKED);
    for (written, read) in [(3, 3), (0, 3), (9, 3), (7, 7)] {
        rig.put(at::QUEUE_SIZE, 2, written);
        assert_eq!(rig.get(at::QUEUE_SIZE, 2), read, "after {written}");
    }
}

#[test]
fn s4_1_4_3_2_queue_enable_takes_1_only() {
    let mut rig = Rig::live(PLAIN);
    for value in [0, 2, 0xffff] {
        rig.put(at::QUEUE_ENABLE, 2, value);
        assert_eq!(rig.get(at::QUEUE_ENABLE, 2), 1);
    }
    rig.put(at::QUEUE_SELECT, 2, 1);
    rig.put(at::QUEUE_ENABLE, 2, 2);
    assert_eq!(rig.get(at::QUEUE_ENABLE, 2), 0);
}

#[test]
fn s4_1_4_3_no_administration_queue() {
    let mut rig = Rig::live(PLAIN);
    assert_eq!((rig.get(at::ADMIN_QUEUE_INDEX, 2), rig.get(at::ADMIN_QUEUE_NUM, 2)), (0, 0));
}

#[test]
fn device_configuration_is_bytes_of_any_width_with_zeros_behind() {
    let mut rig = Rig::live(PLAIN);
    assert_eq!(rig.read(cap::TYPE_DEVICE, 3, 3), 0x06_0504);
    assert_eq!(rig.read(cap::TYPE_DEVICE, 6, 8), 0x0807);
    assert_eq!(rig.read(cap::TYPE_DEVICE, 4088, 8), 0);
    rig.write(cap::TYPE_DEVICE, 2, 2, 0xbbaa);
    assert_eq!(rig.read(cap::TYPE_DEVICE, 0, 8), 0x0807_0605_bbaa_0201);
    rig.write(cap::TYPE_DEVICE, 6, 4, 0);
    assert_eq!(rig.read(cap::TYPE_DEVICE, 0, 8), 0x0807_0605_bbaa_0201, "not wholly within");
}

#[test]
fn wrong_widths_read_zeros_and_write_nothing() {
    let mut rig = Rig::live(PLAIN);
    rig.put(at::DEVICE_FEATURE_SELECT, 4, 1);
    let rows = || TABLE.iter().map(|row| (row.1, row.2));
    let before: Vec<_> = rows().map(|(offset, len)| rig.get(offset, len)).collect();
    for offset in 0..at::LEN {
        for len in (1..=8).filter(|len| rows().all(|row| row != (offset, *len))) {
            if offset + len as u64 <= at::LEN {
                assert_eq!(rig.get(offset, len), 0, "{len} bytes at {offset:#x}");
            }
            rig.put(offset, len, u64::MAX);
        }
    }
    let after: Vec<_> = rows().map(|(offset, len)| rig.get(offset, len)).collect();
    assert_eq!(before, after);
}

#[test]
fn read_only_registers_stay() {
    let mut rig = Rig::live(PLAIN);
    for row in TABLE.iter().filter(|row| row.3 == crate::registers::Access::ReadOnly) {
        let before = rig.get(row.1, row.2);
        rig.put(row.1, row.2, 0xffff_ffff);
        assert_eq!(rig.get(row.1, row.2), before, "{row:?}");
    }
}

/// Hostile peers, row 14.
#[test]
fn an_enabled_queue_is_frozen() {
    let mut rig = Rig::live(PLAIN);
    rig.put(at::QUEUE_SIZE, 2, 8);
    for register in [at::QUEUE_DESC, at::QUEUE_DRIVER, at::QUEUE_DEVICE] {
        rig.put(register, 8, RAM + 0x4000);
        rig.put(register + 4, 4, 1);
    }
    assert_eq!(rig.get(at::QUEUE_SIZE, 2), SIZE.into());
    for (register, area) in [(at::QUEUE_DESC, 0), (at::QUEUE_DRIVER, 1), (at::QUEUE_DEVICE, 2)] {
        assert_eq!(rig.get(register, 8), area_of(0, area));
    }
    rig.offer(0);
    rig.kick(0);
    assert_eq!(rig.used(0), 1);
}

/// Hostile peers, row 15.
#[test]
fn status_bits_out_of_order_are_refused() {
    let mut rig = Rig::new();
    for wrong in [Status::DRIVER_OK, Status::FEATURES_OK, Status::DRIVER | Status::DRIVER_OK] {
        rig.set_status(wrong);
        assert_eq!(rig.status(), Status::RESET);
    }
    rig.set_status(Status::ACKNOWLEDGE | Status::DRIVER);
    rig.set_status(Status::ACKNOWLEDGE | Status::DRIVER | Status::DRIVER_OK);
    assert_eq!(rig.status(), Status::ACKNOWLEDGE | Status::DRIVER);
}

/// Hostile peers, row 17: sizes are judged before anything divides by them.
#[test]
fn queues_of_size_0_never_start() {
    let mut rig = Rig::with(DeviceInfo { queue_sizes: vec![0], ..toy_info() });
    rig.set_command(config::COMMAND_BUS_MASTER);
    rig.negotiate(PLAIN);
    rig.set_up_queue(0);
    assert_eq!((rig.get(at::QUEUE_SIZE, 2), rig.get(at::QUEUE_ENABLE, 2)), (0, 0));
    rig.set_status(LIVE);
    rig.kick(0);
    assert_eq!(rig.status(), LIVE);
}
