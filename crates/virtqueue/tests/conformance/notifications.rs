//! Suppression of notifications, both ways and in both layouts (virtio 1.3 §2.7.7, §2.7.10, §2.8.10, §2.8.14), and the data that
//! they carry (§2.9).

use crate::rig::Pair;
use crate::rig::raw::{PackedBytes, PackedDescriptor, SplitBytes, SplitDescriptor, available, used};
use vioduct_spec::Features;
use vioduct_virtqueue::{Kick, MoreWork, Notify};

fn split(size: u16, features: Features) -> (Pair, SplitBytes) {
    let pair = Pair::new(size, features);
    let ring = SplitBytes::of(&pair);
    for index in 0..size {
        ring.put_descriptor(index, SplitDescriptor(crate::rig::GUEST_START, 1, 0, 0));
    }
    (pair, ring)
}

fn packed(size: u16, features: Features) -> (Pair, PackedBytes) {
    let pair = Pair::new(size, features | Features::RING_PACKED);
    let ring = PackedBytes::of(&pair);
    (pair, ring)
}

/// The driver writes `count` buffers raw, the device uses and publishes them.
fn use_split(pair: &mut Pair, ring: &SplitBytes, count: u16) -> Notify {
    for _ in 0..count {
        let head = ring.avail_idx() % ring.layout.size;
        ring.offer(&[head]);
        let chain = pair.device.pop().unwrap().unwrap();
        pair.device.complete(chain, 0).unwrap();
    }
    pair.device.publish().unwrap()
}

/// The driver adds `count` buffers and exposes them; a raw device gives them back at once.
fn add_split(pair: &mut Pair, ring: &SplitBytes, count: u16) -> Kick {
    let piece = pair.alloc(1);
    for _ in 0..count {
        pair.driver.add(&[piece], &[], 0).unwrap();
    }
    let kick = pair.driver.kick_prepare();
    let end = ring.avail_idx();
    for place in 0..count {
        let place = end.wrapping_sub(count).wrapping_add(place);
        ring.put_used_entry(place, ring.avail_entry(place).into(), 0);
    }
    ring.put_used_idx(end);
    while pair.driver.get().unwrap().is_some() {}
    kick
}

#[test]
fn s2_7_7_1_without_event_index_flags_are_0_or_1() {
    let (mut pair, ring) = split(4, Features::NONE);
    assert_eq!(ring.avail_flags(), 0);
    pair.driver.disable_callback();
    assert_eq!(ring.avail_flags(), 1);
    assert_eq!(pair.driver.enable_callback(), MoreWork::None);
    assert_eq!(ring.avail_flags(), 0);
    pair.driver.disable_callback();
    assert_eq!(pair.driver.enable_callback_delayed(), MoreWork::None);
    assert_eq!(ring.avail_flags(), 0);
}

#[test]
fn s2_7_7_1_with_event_index_flags_stay_0_and_used_event_names_the_entry() {
    let (mut pair, ring) = split(4, Features::EVENT_IDX);
    let piece = pair.alloc(1);
    for round in 0..10u16 {
        let start = 4 * round;
        pair.driver.disable_callback();
        assert_eq!((ring.avail_flags(), ring.used_event()), (0, start.wrapping_sub(1)), "already behind");
        assert_eq!(pair.driver.enable_callback(), MoreWork::None);
        assert_eq!((ring.avail_flags(), ring.used_event()), (0, start));
        for token in 0..4 {
            pair.driver.add(&[piece], &[], token).unwrap();
        }
        let _ = pair.driver.kick_prepare();
        // Three quarters of four in flight: after three more than the next.
        assert_eq!(pair.driver.enable_callback_delayed(), MoreWork::None);
        assert_eq!((ring.avail_flags(), ring.used_event()), (0, start + 3));
        for place in start..start + 4 {
            ring.put_used_entry(place, ring.avail_entry(place).into(), 0);
        }
        ring.put_used_idx(start + 4);
        while pair.driver.get().unwrap().is_some() {}
    }
}

#[test]
fn s2_7_7_1_spurious_used_buffer_notifications_find_nothing() {
    for features in [Features::NONE, Features::RING_PACKED, Features::EVENT_IDX] {
        let mut pair = Pair::new(4, features);
        let piece = pair.alloc(1);
        for _ in 0..3 {
            assert_eq!(pair.driver.get(), Ok(None));
        }
        pair.driver.add(&[piece], &[], 1).unwrap();
        let _ = pair.driver.kick_prepare();
        assert_eq!(pair.driver.get(), Ok(None));
        assert_eq!(pair.driver.in_flight(), 1);
    }
}

#[test]
fn s2_7_7_2_without_event_index_flags_decide_and_used_event_is_ignored() {
    let (mut pair, ring) = split(8, Features::NONE);
    for round in 0..30u16 {
        // Whatever stands in used_event, and whatever else is in the flags.
        ring.put_used_event(round.wrapping_mul(7).wrapping_sub(3));
        ring.put_avail_flags(0);
        assert_eq!(use_split(&mut pair, &ring, 1 + round % 3), Notify::Needed, "round {round}");
        ring.put_avail_flags(1);
        assert_eq!(use_split(&mut pair, &ring, 1 + round % 3), Notify::Suppressed, "round {round}");
        ring.put_avail_flags(0xfffe);
        assert_eq!(use_split(&mut pair, &ring, 1), Notify::Needed, "round {round}");
    }
}

#[test]
fn s2_7_7_2_with_event_index_used_event_decides_and_flags_are_ignored() {
    let (mut pair, ring) = split(8, Features::EVENT_IDX);
    assert_eq!(use_split(&mut pair, &ring, 1), Notify::Needed, "the first is always sent");
    for round in 0..20_000u32 {
        ring.put_avail_flags((round % 2) as u16);
        let (old, count) = (ring.used_idx(), (1 + round % 8) as u16);
        let last = old.wrapping_add(count - 1);
        let (event, expected) = match round % 5 {
            0 => (old, Notify::Needed),
            1 => (last, Notify::Needed),
            2 => (old.wrapping_sub(1), Notify::Suppressed),
            3 => (last.wrapping_add(1), Notify::Suppressed),
            _ => (old.wrapping_add(0x8000), Notify::Suppressed),
        };
        ring.put_used_event(event);
        assert_eq!(use_split(&mut pair, &ring, count), expected, "round {round}: {event} in {old}..={last}");
    }
}

#[test]
fn s2_7_7_2_nothing_published_notifies_of_nothing() {
    for features in [Features::NONE, Features::EVENT_IDX, Features::RING_PACKED] {
        let mut pair = Pair::new(4, features);
        assert_eq!(pair.device.publish().unwrap(), Notify::Suppressed);
        let piece = pair.alloc(1);
        pair.driver.add(&[piece], &[], 0).unwrap();
        let _ = pair.driver.kick_prepare();
        let chain = pair.device.pop().unwrap().unwrap();
        assert_eq!(pair.device.publish().unwrap(), Notify::Suppressed);
        pair.device.complete(chain, 0).unwrap();
        assert_eq!(pair.device.publish().unwrap(), Notify::Needed);
        assert_eq!(pair.device.publish().unwrap(), Notify::Suppressed);
    }
}

#[test]
fn s2_7_10_1_used_flags_start_at_0() {
    let (mut pair, ring) = split(4, Features::NONE);
    assert_eq!(ring.used_flags(), 0);
    ring.put_used_flags(1);
    ring.put_avail_event(77);
    pair.driver.reset();
    assert_eq!((ring.used_flags(), ring.avail_event(), ring.used_idx()), (0, 0, 0));
}

#[test]
fn s2_7_10_1_without_event_index_flags_decide_and_avail_event_is_ignored() {
    let (mut pair, ring) = split(8, Features::NONE);
    for round in 0..30u16 {
        ring.put_avail_event(round.wrapping_mul(5).wrapping_sub(2));
        ring.put_used_flags(0);
        assert_eq!(add_split(&mut pair, &ring, 1 + round % 3), Kick::Needed);
        ring.put_used_flags(1);
        assert_eq!(add_split(&mut pair, &ring, 1 + round % 3), Kick::Suppressed);
        ring.put_used_flags(0xfffe);
        assert_eq!(add_split(&mut pair, &ring, 1), Kick::Needed, "only the lowest bit says anything");
    }
}

#[test]
fn s2_7_10_1_with_event_index_avail_event_decides_and_flags_are_ignored() {
    let (mut pair, ring) = split(8, Features::EVENT_IDX);
    for round in 0..20_000u32 {
        ring.put_used_flags((round % 2) as u16);
        let (old, count) = (ring.avail_idx(), (1 + round % 8) as u16);
        let last = old.wrapping_add(count - 1);
        let (event, expected) = match round % 5 {
            0 => (old, Kick::Needed),
            1 => (last, Kick::Needed),
            2 => (old.wrapping_sub(1), Kick::Suppressed),
            3 => (last.wrapping_add(1), Kick::Suppressed),
            _ => (old.wrapping_add(0x8000), Kick::Suppressed),
        };
        ring.put_avail_event(event);
        assert_eq!(add_split(&mut pair, &ring, count), expected, "round {round}: {event} in {old}..={last}");
    }
}

#[test]
fn s2_7_10_2_without_event_index_flags_are_0_or_1() {
    let (mut pair, ring) = split(4, Features::NONE);
    assert_eq!(ring.used_flags(), 0);
    pair.device.disarm().unwrap();
    assert_eq!(ring.used_flags(), 1);
    assert_eq!(pair.device.arm().unwrap(), MoreWork::None);
    assert_eq!(ring.used_flags(), 0);
}

#[test]
fn s2_7_10_2_with_event_index_flags_stay_0_and_avail_event_names_the_entry() {
    let (mut pair, ring) = split(4, Features::EVENT_IDX);
    for round in 0..20u16 {
        assert_eq!(pair.device.arm().unwrap(), MoreWork::None);
        assert_eq!((ring.used_flags(), ring.avail_event()), (0, round));
        pair.device.disarm().unwrap();
        assert_eq!(ring.used_flags(), 0);
        let _ = use_split(&mut pair, &ring, 1);
    }
}

#[test]
fn s2_7_10_2_spurious_available_buffer_notifications_find_nothing() {
    for features in [Features::NONE, Features::RING_PACKED, Features::EVENT_IDX] {
        let mut pair = Pair::new(4, features);
        for _ in 0..3 {
            pair.device.disarm().unwrap();
            assert!(pair.device.pop().unwrap().is_none());
            assert_eq!(pair.device.publish().unwrap(), Notify::Suppressed);
            assert_eq!(pair.device.poll().unwrap(), MoreWork::None);
            assert_eq!(pair.device.arm().unwrap(), MoreWork::None);
        }
    }
}

#[test]
fn s2_7_10_2_what_came_before_arming_is_found_by_arming() {
    for features in [Features::NONE, Features::EVENT_IDX] {
        let (mut pair, ring) = split(4, features);
        pair.device.disarm().unwrap();
        ring.offer(&[0]);
        assert_eq!(pair.device.arm().unwrap(), MoreWork::Pending);
        pair.device.pop().unwrap().unwrap().discard();
        assert_eq!(pair.device.arm().unwrap(), MoreWork::None);
    }
}

#[test]
fn s2_8_10_driver_asks_by_its_event_suppression_structure() {
    let (mut pair, ring) = packed(3, Features::NONE);
    pair.driver.disable_callback();
    assert_eq!(ring.driver_event().1, 1);
    assert_eq!(pair.driver.enable_callback(), MoreWork::None);
    assert_eq!(ring.driver_event().1, 0, "a single descriptor cannot be asked for without EVENT_IDX");
    let (mut pair, ring) = packed(3, Features::EVENT_IDX);
    let piece = pair.alloc(1);
    let (mut index, mut wrap) = (0u16, true);
    for _ in 0..12 {
        pair.driver.disable_callback();
        assert_eq!(ring.driver_event().1, 1);
        pair.driver.add(&[piece], &[], 0).unwrap();
        let _ = pair.driver.kick_prepare();
        assert_eq!(pair.driver.enable_callback(), MoreWork::None);
        assert_eq!(ring.driver_event(), (index | u16::from(wrap) << 15, 2));
        let id = ring.descriptor(index).2;
        ring.put_used(index, 0, id, used(wrap));
        assert_eq!(pair.driver.enable_callback(), MoreWork::Pending);
        assert!(pair.driver.get().unwrap().is_some());
        (index, wrap) = if index == 2 { (0, !wrap) } else { (index + 1, wrap) };
    }
}

#[test]
fn s2_8_10_device_asks_by_its_event_suppression_structure() {
    let (mut pair, ring) = packed(3, Features::NONE);
    pair.device.disarm().unwrap();
    assert_eq!(ring.device_event().1, 1);
    assert_eq!(pair.device.arm().unwrap(), MoreWork::None);
    assert_eq!(ring.device_event().1, 0);
    let (mut pair, ring) = packed(3, Features::EVENT_IDX);
    let (mut index, mut wrap) = (0u16, true);
    for _ in 0..12 {
        pair.device.disarm().unwrap();
        assert_eq!(ring.device_event().1, 1);
        assert_eq!(pair.device.arm().unwrap(), MoreWork::None);
        assert_eq!(ring.device_event(), (index | u16::from(wrap) << 15, 2));
        ring.put_descriptor(index, PackedDescriptor(crate::rig::GUEST_START, 1, 0, available(wrap)));
        assert_eq!(pair.device.arm().unwrap(), MoreWork::Pending);
        let chain = pair.device.pop().unwrap().unwrap();
        pair.device.complete(chain, 0).unwrap();
        let _ = pair.device.publish().unwrap();
        (index, wrap) = if index == 2 { (0, !wrap) } else { (index + 1, wrap) };
    }
}

/// A place on the endless line of descriptors, as an event suppression structure has it.
fn place(descriptor: u32, size: u16) -> u16 {
    let lap = descriptor / u32::from(size);
    (descriptor % u32::from(size)) as u16 | u16::from(lap.is_multiple_of(2)) << 15
}

#[test]
fn s2_8_10_device_notifies_when_the_descriptor_asked_for_is_used() {
    for size in 1..=7u16 {
        let (mut pair, ring) = packed(size, Features::EVENT_IDX);
        let mut done = 0u32;
        for round in 0..400u32 {
            let count = 1 + round % u32::from(size);
            // Up to a lap behind and a lap ahead of what is about to be used.
            let event = (done + round % 11).saturating_sub(5).min(done + u32::from(size));
            let event = event.max(done.saturating_sub(u32::from(size) - 1));
            ring.put_driver_event(place(event, size), 2);
            for step in 0..count {
                let at = place(done + step, size);
                let descriptor =
                    PackedDescriptor(crate::rig::GUEST_START, 1, step as u16, available(at & 0x8000 != 0));
                ring.put_descriptor(at & 0x7fff, descriptor);
                let chain = pair.device.pop().unwrap().unwrap();
                pair.device.complete(chain, 0).unwrap();
            }
            let expected = round == 0 || (done..done + count).contains(&event);
            let notify = if expected { Notify::Needed } else { Notify::Suppressed };
            assert_eq!(pair.device.publish().unwrap(), notify, "size {size}: {event} in {done}+{count}");
            done += count;
        }
    }
}

#[test]
fn s2_8_10_driver_notifies_when_the_descriptor_asked_for_is_made_available() {
    for size in 1..=7u16 {
        let (mut pair, ring) = packed(size, Features::EVENT_IDX);
        let piece = pair.alloc(1);
        let mut done = 0u32;
        for round in 0..400u32 {
            let count = 1 + round % u32::from(size);
            let event = (done + round % 11).saturating_sub(5).min(done + u32::from(size));
            let event = event.max(done.saturating_sub(u32::from(size) - 1));
            ring.put_device_event(place(event, size), 2);
            for _ in 0..count {
                pair.driver.add(&[piece], &[], 0).unwrap();
            }
            let kick = if (done..done + count).contains(&event) { Kick::Needed } else { Kick::Suppressed };
            assert_eq!(pair.driver.kick_prepare(), kick, "size {size}: {event} in {done}+{count}");
            for step in 0..count {
                let at = place(done + step, size);
                let id = ring.descriptor(at & 0x7fff).2;
                ring.put_used(at & 0x7fff, 0, id, used(at & 0x8000 != 0));
                assert!(pair.driver.get().unwrap().is_some());
            }
            done += count;
        }
    }
}

#[test]
fn s2_8_14_flags_enable_and_disable_and_reserved_bits_say_nothing() {
    let (mut pair, ring) = packed(4, Features::NONE);
    let piece = pair.alloc(1);
    for (number, (flags, needed)) in
        [(0u16, true), (1, false), (3, true), (0xfffc, true), (0xfffd, false)].into_iter().enumerate()
    {
        ring.put_driver_event(0x1234, flags);
        ring.put_device_event(0x1234, flags);
        pair.driver.add(&[piece], &[], 0).unwrap();
        let kick = if needed { Kick::Needed } else { Kick::Suppressed };
        assert_eq!(pair.driver.kick_prepare(), kick, "flags {flags:#x}");
        let chain = pair.device.pop().unwrap().unwrap();
        pair.device.complete(chain, 0).unwrap();
        let notify = if needed { Notify::Needed } else { Notify::Suppressed };
        assert_eq!(pair.device.publish().unwrap(), notify, "flags {flags:#x}");
        assert_eq!(pair.driver.get().unwrap().map(|done| done.token), Some(0), "number {number}");
    }
}

#[test]
fn s2_8_14_own_reserved_bits_are_0() {
    for features in [Features::NONE, Features::EVENT_IDX] {
        let (mut pair, ring) = packed(5, features);
        let (driver, device) = (&mut pair.driver, &mut pair.device);
        for _ in 0..3 {
            driver.disable_callback();
            device.disarm().unwrap();
            assert_eq!((ring.driver_event().1 >> 2, ring.device_event().1 >> 2), (0, 0));
            let _ = (driver.enable_callback(), device.arm().unwrap());
            assert_eq!((ring.driver_event().1 >> 2, ring.device_event().1 >> 2), (0, 0));
        }
    }
}

#[test]
fn s2_9_split_notification_carries_the_whole_available_index() {
    let (mut pair, ring) = split(4, Features::NONE);
    let mut pieces = 0u32;
    while pieces < 70_000 {
        pieces += 3;
        let _ = add_split(&mut pair, &ring, 3);
        assert_eq!(pair.driver.notification_data(), pieces as u16);
        assert_eq!(pair.driver.notification_data(), ring.avail_idx());
    }
    let piece = pair.alloc(1);
    pair.driver.add(&[piece], &[], 0).unwrap();
    assert_eq!(pair.driver.notification_data(), ring.avail_idx(), "what is not exposed does not count");
}

#[test]
fn s2_9_packed_notification_carries_offset_and_wrap_counter() {
    let (mut pair, ring) = packed(3, Features::NONE);
    let piece = pair.alloc(1);
    assert_eq!(pair.driver.notification_data(), 0x8000);
    for done in 0..20u32 {
        pair.driver.add(&[piece], &[], 0).unwrap();
        // virtio 1.3 §2.8.16: the next descriptor that is not yet made available.
        assert_eq!(pair.driver.notification_data(), place(done, 3), "added, not yet exposed");
        let _ = pair.driver.kick_prepare();
        assert_eq!(pair.driver.notification_data(), place(done + 1, 3));
        assert_eq!(pair.driver.notification_data(), place(done + 1, 3), "the same however often it is sent");
        let at = place(done, 3);
        ring.put_used(at & 0x7fff, 0, ring.descriptor(at & 0x7fff).2, used(at & 0x8000 != 0));
        assert!(pair.driver.get().unwrap().is_some());
    }
}

/// What was shown to a device that polled may be asked about later, once for all of it, and however much of it there was.
#[test]
fn s2_7_13_4_1_s2_8_21_3_1_the_wish_is_looked_at_for_all_that_was_shown() {
    for features in every_wish() {
        let mut pair = Pair::new(4, features);
        let piece = pair.alloc(1);
        for shown in [1, 2, 3, 4, 5, 1 << 16] {
            for number in 0..shown {
                pair.driver.add(&[piece], &[], number).unwrap();
                assert!(pair.device.pop().unwrap().is_none(), "{features}: not shown yet");
                if number + 1 == shown {
                    assert_eq!(pair.device.arm().unwrap(), MoreWork::None, "{features}");
                }
                pair.driver.publish();
                let chain = pair.device.pop().unwrap().unwrap();
                pair.device.complete(chain, 0).unwrap();
                let _ = pair.device.publish().unwrap();
                assert_eq!(pair.driver.get().unwrap().map(|done| done.token), Some(number));
            }
            assert_eq!(pair.driver.kick_prepare(), Kick::Needed, "{features}, {shown} shown");
            assert_eq!(pair.driver.kick_prepare(), Kick::Suppressed, "{features}: asked already");
        }
    }
}

fn every_wish() -> impl Iterator<Item = Features> {
    let layouts = [Features::NONE, Features::RING_PACKED];
    layouts.into_iter().flat_map(|layout| [layout, layout | Features::EVENT_IDX])
}
