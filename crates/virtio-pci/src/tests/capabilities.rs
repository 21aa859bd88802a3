//! Identity and the capability list (virtio 1.3 §4.1.2, §4.1.4).

use std::sync::Arc;

use vioduct_pci::{Hosted, NoInterrupts, PciFunction, registers as config};
use vioduct_spec::device_type;
use vioduct_spec::pci::cap;
use vioduct_virtio_device::DeviceInfo;

use super::rig::{Ram, Rig, ToyBackend, toy_info};
use crate::{SetupError, VirtioPci};

fn build(info: DeviceInfo) -> Result<VirtioPci<ToyBackend>, SetupError> {
    VirtioPci::new(ToyBackend::new(info), Ram::new())
}

fn with_queues(count: usize) -> DeviceInfo {
    DeviceInfo { queue_sizes: vec![16; count], ..toy_info() }
}

#[test]
fn s4_1_2_1_ids_revision_and_subsystem_keep_legacy_drivers_away() {
    let mut rig = Rig::new();
    assert_eq!(rig.config_u16(config::VENDOR_ID), 0x1af4);
    assert_eq!(rig.config_u16(config::DEVICE_ID), 0x1040 + 4);
    assert!(rig.config_u8(config::REVISION) >= 1);
    assert!(rig.config_u16(config::SUBSYSTEM_ID) >= 0x40);
    assert_eq!(rig.config_u8(config::INTERRUPT_PIN), 1);
}

#[test]
fn class_follows_the_device_type() {
    let class = |device_type| build(DeviceInfo { device_type, ..toy_info() }).unwrap().spec().class;
    let classes = [device_type::NET, device_type::BLOCK, device_type::CONSOLE, device_type::DEMO].map(class);
    assert_eq!(classes, [0x02_0000, 0x01_8000, 0x07_8000, 0xff_0000]);
}

#[test]
fn what_pci_cannot_show_is_refused() {
    let error = |info| build(info).err();
    let of_type = |device_type| DeviceInfo { device_type, ..toy_info() };
    assert_eq!(error(of_type(0)), Some(SetupError::DeviceType { device_type: 0 }));
    assert_eq!(error(of_type(63)), None);
    assert_eq!(error(of_type(64)), Some(SetupError::DeviceType { device_type: 64 }));
    let long = DeviceInfo { config_len: 4097, ..toy_info() };
    assert_eq!(error(long), Some(SetupError::ConfigLen { len: 4097, max: 4096 }));
    let odd = DeviceInfo { queue_sizes: vec![16, 100], ..toy_info() };
    assert_eq!(error(odd), Some(SetupError::QueueSize { queue: 1, size: 100 }));
    assert_eq!(error(with_queues(2048)), Some(SetupError::QueueCount { queues: 2048, max: 2047 }));
}

#[test]
fn s4_1_4_capability_list_byte_for_byte() {
    let mut rig = Rig::new();
    let list = rig.capabilities();
    let bytes: Vec<_> = list.iter().map(|found| (found.at, found.bytes.as_slice())).collect();
    let expected: [(u64, &[u8]); 6] = [
        (0x40, &[9, 0x50, 16, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0]),
        (0x50, &[9, 0x64, 20, 2, 0, 0, 0, 0, 0, 0x30, 0, 0, 12, 0, 0, 0, 4, 0, 0, 0]),
        (0x64, &[9, 0x74, 16, 3, 0, 0, 0, 0, 0, 0x10, 0, 0, 1, 0, 0, 0]),
        (0x74, &[9, 0x84, 16, 4, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0x10, 0, 0]),
        (0x84, &[9, 0x98, 20, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (0x98, &[0x11, 0, 3, 0, 0, 0x40, 0, 0, 0x40, 0x40, 0, 0]),
    ];
    assert_eq!(bytes, expected);
}

#[test]
fn s4_1_4_2_cap_len_includes_the_extra_data() {
    let rig = Rig::new();
    let len_of = |cfg_type| rig.capability(cfg_type).unwrap().bytes[cap::LEN];
    assert_eq!(len_of(cap::TYPE_NOTIFY), cap::NOTIFY_SIZE);
    assert_eq!(len_of(cap::TYPE_PCI_CFG), cap::PCI_CFG_SIZE);
}

#[test]
fn s4_1_4_3_1_common_configuration_is_there_and_aligned() {
    let rig = Rig::new();
    let found = rig.capability(cap::TYPE_COMMON).unwrap();
    assert!(found.u32(cap::OFFSET).is_multiple_of(4));
    assert!(found.u32(cap::LENGTH) >= 0x38);
}

/// The device offers NOTIFICATION_DATA, so the stricter half of the section is the one that holds.
#[test]
fn s4_1_4_4_1_notification_structure_has_room_for_every_queue() {
    for queues in [0, 1, 3, 1024, 2047] {
        let rig = Rig::with(with_queues(queues));
        let found = rig.capability(cap::TYPE_NOTIFY).unwrap();
        let multiplier = found.u32(cap::NOTIFY_OFF_MULTIPLIER);
        assert!(multiplier.is_power_of_two() && multiplier.is_multiple_of(4));
        assert!(found.u32(cap::OFFSET).is_multiple_of(4));
        let last = queues.saturating_sub(1) as u32;
        assert!(found.u32(cap::LENGTH) >= last * multiplier + 4, "{queues} queues");
    }
}

#[test]
fn s4_1_4_6_1_device_configuration_is_aligned_and_only_there_if_there_is_one() {
    let rig = Rig::new();
    let found = rig.capability(cap::TYPE_DEVICE).unwrap();
    assert!(found.u32(cap::OFFSET).is_multiple_of(4));
    assert!(found.u32(cap::LENGTH) >= 8);
    let without = Rig::with(DeviceInfo { config_len: 0, ..toy_info() });
    assert_eq!(without.capability(cap::TYPE_DEVICE), None);
    assert!(without.capability(cap::TYPE_PCI_CFG).is_some());
}

#[test]
fn structures_are_on_pages_of_their_own_and_apart_from_msix() {
    for queues in [0, 1, 1024, 1025, 2047] {
        let mut rig = Rig::with(with_queues(queues));
        let mut pages: Vec<u64> = Vec::new();
        for found in rig.capabilities().iter().filter(|found| found.bytes[0] == config::CAP_VENDOR) {
            let (start, len) = (u64::from(found.u32(cap::OFFSET)), u64::from(found.u32(cap::LENGTH)));
            pages.extend(start / 4096..(start + len).div_ceil(4096));
        }
        pages.push(u64::from(rig.msix().u32(config::MSIX_TABLE as usize)) / 4096);
        let count = pages.len();
        pages.sort_unstable();
        pages.dedup();
        assert_eq!(pages.len(), count, "{queues} queues");
    }
}

#[test]
fn there_is_a_vector_for_every_event() {
    for (queues, vectors) in [(0, 2), (1, 2), (5, 6), (2047, 2048)] {
        let hosted = Hosted::new(build(with_queues(queues)).unwrap(), Arc::new(NoInterrupts)).unwrap();
        assert_eq!(hosted.interrupts().vectors(), vectors, "{queues} queues");
    }
}
