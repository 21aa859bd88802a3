//! A hostile device against the driver end.

use crate::rig::Pair;
use crate::rig::raw::{
    PackedBytes, PackedDescriptor, SplitBytes, SplitDescriptor, WRITE, every_feature_set, used,
};
use vioduct_spec::Features;
use vioduct_virtqueue::{AddError, Kick, MoreWork, QueueError};

fn split(size: u16, features: Features) -> (Pair, SplitBytes) {
    let pair = Pair::new(size, features);
    let ring = SplitBytes::of(&pair);
    (pair, ring)
}

fn packed(size: u16, features: Features) -> (Pair, PackedBytes) {
    let pair = Pair::new(size, features | Features::RING_PACKED);
    let ring = PackedBytes::of(&pair);
    (pair, ring)
}

fn assert_broken(pair: &mut Pair, error: QueueError) {
    let piece = pair.alloc(1);
    assert!(pair.driver.is_broken());
    assert_eq!(pair.driver.get(), Err(error));
    assert_eq!(pair.driver.add(&[piece], &[], 7), Err((AddError::Broken, 7)));
    let layout = pair.driver.layout();
    let before = pair.memory.bytes(layout.descriptor_area.0, 0x1000);
    assert_eq!(pair.driver.kick_prepare(), Kick::Suppressed);
    assert_eq!(pair.driver.enable_callback(), MoreWork::None);
    pair.driver.disable_callback();
    assert_eq!(pair.memory.bytes(layout.descriptor_area.0, 0x1000), before, "a broken queue is left alone");
    pair.driver.reset();
    pair.driver.add(&[piece], &[], 8).unwrap();
}

#[test]
fn row25_a_batch_by_a_bogus_id_breaks_the_queue() {
    for bogus in [3u32, 4, 0xffff, 0x1_0000, 0x1_0001, u32::MAX] {
        let (mut pair, ring) = split(4, Features::IN_ORDER);
        let piece = pair.alloc(4);
        for token in 0..3 {
            pair.driver.add(&[], &[piece], token).unwrap();
        }
        let _ = pair.driver.kick_prepare();
        ring.put_used_entry(0, bogus, 0);
        ring.put_used_idx(3);
        let error = QueueError::BufferId(u16::try_from(bogus).unwrap_or(u16::MAX));
        assert_eq!(pair.driver.get(), Err(error));
        assert_broken(&mut pair, error);
    }
}

#[test]
fn row25_a_batch_longer_than_the_index_says_waits_for_the_index() {
    let (mut pair, ring) = split(4, Features::IN_ORDER);
    let piece = pair.alloc(4);
    for token in 0..3 {
        pair.driver.add(&[], &[piece], token).unwrap();
    }
    let _ = pair.driver.kick_prepare();
    ring.put_used_entry(0, 2, 1);
    ring.put_used_idx(1);
    assert_eq!(pair.driver.get().unwrap().map(|done| done.token), Some(0));
    assert_eq!(pair.driver.get(), Ok(None));
    ring.put_used_idx(3);
    let rest: Vec<_> =
        std::iter::from_fn(|| pair.driver.get().unwrap()).map(|done| (done.token, done.written)).collect();
    assert_eq!(rest, [(1, 4), (2, 1)]);
    assert_eq!((pair.driver.in_flight(), pair.driver.free_descriptors()), (0, 4));
}

#[test]
fn row76_a_length_beyond_what_was_posted_is_cut() {
    for said in [0u32, 5, 6, 7, 1 << 31, u32::MAX] {
        for indirect in [Features::NONE, Features::INDIRECT_DESC] {
            let (mut pair, ring) = split(4, indirect);
            let [readable, first, second] = [9, 2, 4].map(|len| pair.alloc(len));
            pair.driver.add(&[readable], &[first, second], 1).unwrap();
            let _ = pair.driver.kick_prepare();
            ring.put_used_entry(0, 0, said);
            ring.put_used_idx(1);
            assert_eq!(pair.driver.get().unwrap().unwrap().written, said.min(6));
            let (mut pair, ring) = packed(4, indirect);
            pair.driver.add(&[readable], &[first, second], 1).unwrap();
            let _ = pair.driver.kick_prepare();
            let last = if indirect == Features::NONE { 2 } else { 0 };
            ring.put_used(0, said, ring.descriptor(last).2, WRITE | used(true));
            assert_eq!(pair.driver.get().unwrap().unwrap().written, said.min(6));
        }
    }
}

#[test]
fn row76_what_the_device_writes_into_descriptors_does_not_count() {
    // Lengths, links and flags come from the driver's own record, not from memory that the device can write.
    let (mut pair, ring) = split(4, Features::NONE);
    let piece = pair.alloc(4);
    for round in 0..10u16 {
        pair.driver.add(&[piece], &[piece], round.into()).unwrap();
        let _ = pair.driver.kick_prepare();
        let head = ring.avail_entry(round);
        for index in 0..4 {
            ring.put_descriptor(index, SplitDescriptor(u64::MAX, u32::MAX, 0xffff, 0xffff));
        }
        ring.put_avail_entry(round, 0xffff);
        ring.put_used_entry(round, head.into(), u32::MAX);
        ring.put_used_idx(round + 1);
        let done = pair.driver.get().unwrap().unwrap();
        assert_eq!((done.token, done.written), (round.into(), 4));
        assert_eq!(pair.driver.free_descriptors(), 4);
    }
    let (mut pair, ring) = packed(4, Features::NONE);
    for round in 0..10u16 {
        pair.driver.add(&[piece], &[piece], round.into()).unwrap();
        let _ = pair.driver.kick_prepare();
        let (first, second) = (2 * round % 4, (2 * round + 1) % 4);
        let (id, wrap) = (ring.descriptor(second).2, 2 * round / 4 % 2 == 0);
        ring.put_descriptor(second, PackedDescriptor(u64::MAX, u32::MAX, 0xffff, 0xffff));
        ring.put_descriptor(first, PackedDescriptor(u64::MAX, u32::MAX, id, 0x7f7f | used(wrap)));
        let done = pair.driver.get().unwrap().unwrap();
        assert_eq!((done.token, done.written), (round.into(), 4));
        assert_eq!(pair.driver.next_used().index, (first + 2) % 4);
    }
}

#[test]
fn row78_an_id_that_was_never_posted_breaks_the_queue() {
    for bogus in [1u32, 2, 4, 0xffff, 0x1_0000, u32::MAX] {
        let (mut pair, ring) = split(4, Features::NONE);
        let piece = pair.alloc(4);
        pair.driver.add(&[], &[piece, piece], 0).unwrap();
        let _ = pair.driver.kick_prepare();
        // 1 is in use, but not as a head.
        ring.put_used_entry(0, bogus, 0);
        ring.put_used_idx(1);
        let error = QueueError::BufferId(u16::try_from(bogus).unwrap_or(u16::MAX));
        assert_eq!(pair.driver.get(), Err(error));
        assert_broken(&mut pair, error);
    }
}

#[test]
fn row78_a_buffer_completed_twice_breaks_the_queue() {
    let (mut pair, ring) = split(4, Features::NONE);
    let piece = pair.alloc(4);
    for token in 0..2 {
        pair.driver.add(&[], &[piece], token).unwrap();
    }
    let _ = pair.driver.kick_prepare();
    ring.put_used_entry(0, 1, 0);
    ring.put_used_entry(1, 1, 0);
    ring.put_used_idx(2);
    assert_eq!(pair.driver.get().unwrap().unwrap().token, 1);
    assert_eq!(pair.driver.get(), Err(QueueError::BufferId(1)));
    assert_broken(&mut pair, QueueError::BufferId(1));
    let (mut pair, ring) = packed(4, Features::NONE);
    for token in 0..2 {
        pair.driver.add(&[], &[piece], token).unwrap();
    }
    let _ = pair.driver.kick_prepare();
    ring.put_used(0, 0, 1, used(true));
    ring.put_used(1, 0, 1, used(true));
    assert_eq!(pair.driver.get().unwrap().unwrap().token, 1);
    assert_eq!(pair.driver.get(), Err(QueueError::BufferId(1)));
    assert_broken(&mut pair, QueueError::BufferId(1));
}

#[test]
fn row78_an_index_beyond_what_is_in_flight_breaks_the_queue() {
    for bad in [3u16, 4, 5, 0x8000, 0xffff] {
        let (mut pair, ring) = split(4, Features::NONE);
        let piece = pair.alloc(4);
        for token in 0..2 {
            pair.driver.add(&[], &[piece], token).unwrap();
        }
        let _ = pair.driver.kick_prepare();
        ring.put_used_entry(0, 0, 0);
        ring.put_used_entry(1, 1, 0);
        ring.put_used_idx(bad);
        let error = QueueError::AvailableIndex { found: bad, processed: 0 };
        assert_eq!(pair.driver.get(), Err(error));
        assert_broken(&mut pair, error);
    }
}

#[test]
fn row78_completions_of_nothing_are_not_taken() {
    // A packed ring marked used all over, with nothing in flight; then with less in flight than is marked.
    for size in 1..=7u16 {
        let (mut pair, ring) = packed(size, Features::NONE);
        let piece = pair.alloc(4);
        for wrap in [true, false] {
            for index in 0..size {
                ring.put_used(index, 0, index, used(wrap));
            }
            assert_eq!(pair.driver.get(), Ok(None), "size {size}");
            assert_eq!(pair.driver.enable_callback(), MoreWork::None);
        }
        pair.driver.add(&[], &[piece], 5).unwrap();
        let _ = pair.driver.kick_prepare();
        for index in 0..size {
            ring.put_used(index, 4, 0, used(true));
        }
        assert_eq!(pair.driver.get().unwrap().map(|done| done.token), Some(5));
        assert_eq!(pair.driver.get(), Ok(None), "size {size}");
    }
}

#[test]
fn row78_garbage_everywhere_gives_errors_and_no_token_twice() {
    let mut random = 1u64;
    let mut next = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as u32
    };
    for features in every_feature_set() {
        let mut pair = Pair::new(4, features);
        let piece = pair.alloc(4);
        for _ in 0..300 {
            pair.driver.reset();
            let mut back = [false; 3];
            for token in 0..3 {
                pair.driver.add(&[], &[piece], token).unwrap();
            }
            let _ = pair.driver.kick_prepare();
            let layout = pair.driver.layout();
            for _ in 0..12 {
                // Small numbers are the likeliest to be taken for true.
                let at = layout.descriptor_area.0 + u64::from(next() % 200);
                pair.memory.put(at, &[if next() % 2 == 0 { next() as u8 } else { (next() % 5) as u8 }]);
                if let Ok(Some(done)) = pair.driver.get() {
                    let token = done.token as usize;
                    assert!(!back[token] && done.written <= 4, "{features}");
                    back[token] = true;
                }
            }
            let rest = pair.driver.detach_unused();
            assert_eq!(rest.len(), back.iter().filter(|back| !**back).count(), "{features}");
            assert!(rest.iter().all(|token| !back[*token as usize]), "{features}");
        }
    }
}
