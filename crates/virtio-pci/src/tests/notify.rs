//! Notifications of available buffers (virtio 1.3 §4.1.5.2).

use vioduct_spec::pci::{cap, common_config as at};
use vioduct_spec::{Features, Status};

use super::rig::{PLAIN, Rig};
use crate::Doorbell;

const WITH_DATA: Features = PLAIN.with(Features::NOTIFICATION_DATA);

#[test]
fn s4_1_5_2_16_bits_with_the_queue_number_notify() {
    let mut rig = Rig::live(PLAIN);
    rig.offer(0);
    assert_eq!(rig.used(0), 0);
    rig.kick(0);
    assert_eq!(rig.used(0), 1);
    rig.offer(0);
    rig.write(cap::TYPE_NOTIFY, 0, 4, 0);
    assert_eq!(rig.used(0), 1, "32 bits are not negotiated");
}

#[test]
fn s4_1_5_2_32_bits_notify_with_notification_data() {
    let mut rig = Rig::live(WITH_DATA);
    rig.offer(0);
    rig.write(cap::TYPE_NOTIFY, 0, 2, 0);
    assert_eq!(rig.used(0), 0, "16 bits are not negotiated");
    rig.write(cap::TYPE_NOTIFY, 0, 4, 1 << 16);
    assert_eq!(rig.used(0), 1, "the position in the upper half is not a queue number");
}

#[test]
fn s4_1_4_3_queue_notify_data_is_the_queue_number_where_it_exists() {
    let mut rig = Rig::live(PLAIN.with(Features::NOTIF_CONFIG_DATA));
    for (q, expected) in [(0, 0), (1, 1), (2, 2), (3, 0)] {
        rig.put(at::QUEUE_SELECT, 2, q);
        assert_eq!(rig.get(at::QUEUE_NOTIF_CONFIG_DATA, 2), expected);
    }
    let mut rig = Rig::live(PLAIN);
    rig.put(at::QUEUE_SELECT, 2, 1);
    assert_eq!(rig.get(at::QUEUE_NOTIF_CONFIG_DATA, 2), 0);
}

#[test]
fn each_queue_has_a_doorbell_of_its_own_that_a_host_can_find() {
    let mut rig = Rig::live(PLAIN);
    let (bar, start) = rig.structure(cap::TYPE_NOTIFY);
    for q in 0..3 {
        let offset = start + rig.doorbell(q);
        assert_eq!(offset, start + 4 * u64::from(q));
        let expected = Doorbell { bar, offset, len: 2, datamatch: Some(q.into()) };
        assert_eq!(rig.hosted.function().doorbell(q), Some(expected));
    }
    assert_eq!(rig.hosted.function().doorbell(3), None);
    let rig = Rig::live(WITH_DATA);
    let expected = Doorbell { bar, offset: start + 4, len: 4, datamatch: None };
    assert_eq!(rig.hosted.function().doorbell(1), Some(expected));
}

/// Hostile peers, row 16.
#[test]
fn notifications_of_another_queue_or_place_are_ignored() {
    let mut rig = Rig::live(PLAIN);
    rig.offer(0);
    for (offset, len, value) in [(0, 2, 1), (4, 2, 0), (4, 2, 1), (2, 2, 0), (0, 1, 0), (1, 2, 0), (8, 2, 2)]
    {
        rig.write(cap::TYPE_NOTIFY, offset, len, value);
    }
    for value in [3, 0x100, 0xffff] {
        rig.write(cap::TYPE_NOTIFY, 4 * value, 2, value);
    }
    assert_eq!(rig.used(0), 0);
    assert_eq!(rig.read(cap::TYPE_NOTIFY, 0, 4), 0, "doorbells read as zeros");
}

/// Hostile peers, row 18.
#[test]
fn nothing_is_served_after_a_reset() {
    let mut rig = Rig::live(PLAIN);
    rig.offer(0);
    rig.set_status(Status::RESET);
    rig.kick(0);
    assert_eq!(rig.used(0), 0);
    assert_eq!(rig.status(), Status::RESET);
}
