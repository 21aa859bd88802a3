//! Reset and re-enabling of a queue, as far as rings go (virtio 1.3 §2.6.1), and where a queue stands when it is moved.

use crate::rig::raw::{PackedBytes, SplitBytes, every_feature_set};
use crate::rig::{Pair, REGION_LEN};
use vioduct_spec::Features;
use vioduct_virtqueue::{
    AddError, DriverQueue, Queue, QueueError, QueuePosition, RingFormat, RingIndex, SetupError, Wrap,
};

fn run(pair: &mut Pair, count: u64) {
    let piece = pair.alloc(4);
    for token in 0..count {
        pair.driver.add(&[piece], &[piece], token).unwrap();
        let _ = pair.driver.kick_prepare();
        let chain = pair.device.pop().unwrap().unwrap();
        pair.device.complete(chain, 0).unwrap();
        let _ = pair.device.publish().unwrap();
        assert_eq!(pair.driver.get().unwrap().unwrap().token, token);
    }
}

#[test]
fn s2_6_1_1_1_a_reset_queue_starts_from_the_default_state() {
    for features in every_feature_set() {
        let mut pair = Pair::new(4, features);
        run(&mut pair, 7);
        assert_ne!(pair.device.position(), QueuePosition::START);
        let piece = pair.alloc(4);
        pair.driver.add(&[piece], &[], 70).unwrap();
        let _ = pair.driver.kick_prepare();
        let chain = pair.device.pop().unwrap().unwrap();
        // The driver resets the queue while the device still has a buffer.
        chain.discard();
        pair.device = pair.device_at(QueuePosition::START);
        pair.driver.reset();
        assert_eq!(pair.device.position(), QueuePosition::START);
        assert!(pair.device.pop().unwrap().is_none(), "nothing of before is executed");
        assert_eq!((pair.device.in_flight(), pair.driver.in_flight()), (0, 0));
        assert_eq!(pair.driver.free_descriptors(), 4);
        run(&mut pair, 7);
    }
}

#[test]
fn s2_6_1_1_1_a_chain_of_before_the_reset_is_refused() {
    for features in every_feature_set() {
        let mut pair = Pair::new(4, features);
        let piece = pair.alloc(4);
        pair.driver.add(&[], &[piece], 1).unwrap();
        let _ = pair.driver.kick_prepare();
        let old = pair.device.pop().unwrap().unwrap();
        pair.device = pair.device_at(QueuePosition::START);
        pair.driver.reset();
        pair.driver.add(&[], &[piece], 2).unwrap();
        let _ = pair.driver.kick_prepare();
        let new = pair.device.pop().unwrap().unwrap();
        assert_eq!(old.id(), new.id(), "the ids alone do not tell them apart");
        assert_eq!(pair.device.complete(old, 0), Err(QueueError::BufferId(new.id())));
        let _ = pair.device.publish();
        assert_eq!(pair.driver.get(), Ok(None), "the driver is not told of a buffer that it never gave");
        new.discard();
    }
}

#[test]
fn s2_6_1_1_2_the_driver_takes_all_buffers_back_once_the_queue_is_reset() {
    for features in every_feature_set() {
        let mut pair = Pair::new(4, features);
        let piece = pair.alloc(4);
        run(&mut pair, 3);
        for token in 10..14 {
            pair.driver.add(&[piece], &[], token).unwrap();
        }
        let _ = pair.driver.kick_prepare();
        let mut tokens = pair.driver.detach_unused();
        tokens.sort_unstable();
        assert_eq!(tokens, [10, 11, 12, 13], "{features}");
        assert_eq!(pair.driver.add(&[piece], &[], 1), Err((AddError::Broken, 1)));
        pair.driver.reset();
        assert_eq!((pair.driver.in_flight(), pair.driver.free_descriptors()), (0, 4));
        assert!(!pair.driver.is_broken());
    }
}

#[test]
fn s2_6_1_2_2_ring_memory_is_zero_when_the_queue_is_enabled_again() {
    for features in every_feature_set() {
        let mut pair = Pair::new(4, features);
        run(&mut pair, 5);
        pair.driver.disable_callback();
        pair.device.disarm().unwrap();
        pair.driver.reset();
        let layout = pair.driver.layout();
        let all = pair.memory.bytes(layout.descriptor_area.0, 16 * 4);
        assert_eq!(all, [0; 64], "{features}");
        if features.contains(Features::RING_PACKED) {
            let ring = PackedBytes::of(&pair);
            assert_eq!((ring.driver_event(), ring.device_event()), ((0, 0), (0, 0)));
        } else {
            let ring = SplitBytes::of(&pair);
            assert!(ring.driver_bytes().iter().chain(&ring.device_bytes()).all(|byte| *byte == 0));
        }
    }
}

#[test]
fn s2_6_1_2_1_another_size_and_place_are_observed() {
    for (features, format) in
        [(Features::NONE, RingFormat::Split), (Features::RING_PACKED, RingFormat::Packed)]
    {
        let mut pair = Pair::new(8, features);
        run(&mut pair, 3);
        let memory = pair.ring_memory(0, format, 2).unwrap();
        pair.driver = DriverQueue::new(memory, None, features).unwrap();
        pair.device = pair.device_at(QueuePosition::START);
        assert_eq!((pair.device.size(), pair.device.layout()), (2, pair.driver.layout()));
        assert!(pair.driver.layout().descriptor_area.0 < crate::rig::GUEST_START + REGION_LEN as u64);
        run(&mut pair, 9);
    }
}

#[test]
fn a_stopped_queue_resumes_where_it_stood() {
    for features in every_feature_set() {
        for size in [2u16, 4, 8] {
            let mut pair = Pair::new(size, features);
            for step in 0..3 * u64::from(size) + 1 {
                let position = pair.device.position();
                assert_eq!(position.available, position.used, "nothing is in flight");
                assert_eq!(position.available, pair.driver.next_available(), "{features}, step {step}");
                assert_eq!(position.used, pair.driver.next_used());
                pair.device = pair.device_at(position);
                assert_eq!(pair.device.position(), position);
                run(&mut pair, 1);
            }
        }
    }
}

#[test]
fn packed_positions_go_round_the_ring_with_their_wrap_counters() {
    for size in 1..=7u16 {
        let mut pair = Pair::new(size, Features::RING_PACKED | Features::INDIRECT_DESC);
        let mut expected = RingIndex::START;
        for _ in 0..4 * size {
            assert_eq!(pair.device.position(), QueuePosition { available: expected, used: expected });
            let (index, lap) = ((expected.index + 1) % size, expected.index + 1 == size);
            expected = RingIndex { index, wrap: if lap { expected.wrap.flipped() } else { expected.wrap } };
            let piece = pair.alloc(1);
            pair.driver.add(&[piece], &[], 0).unwrap();
            let _ = pair.driver.kick_prepare();
            let chain = pair.device.pop().unwrap().unwrap();
            let between = pair.device.position();
            assert_eq!(between.available, expected);
            assert_ne!(between.used, expected);
            pair.device.complete(chain, 0).unwrap();
            let _ = pair.device.publish().unwrap();
            assert!(pair.driver.get().unwrap().is_some());
        }
    }
}

#[test]
fn split_positions_are_refused_where_more_than_the_queue_would_be_in_flight() {
    let pair = Pair::new(4, Features::NONE);
    let at = |available: u16, used: u16| QueuePosition {
        available: RingIndex { index: available, wrap: Wrap::Set },
        used: RingIndex { index: used, wrap: Wrap::Set },
    };
    let queue = |position| {
        Queue::new(pair.memory.clone(), pair.driver.layout(), pair.features, position).map(|q| q.position())
    };
    for (available, used) in [(0, 0), (4, 0), (65535, 65535), (3, 65535), (2, 65534), (65532, 65530)] {
        assert_eq!(queue(at(available, used)), Ok(at(available, used)));
    }
    for (available, used) in [(5, 0), (0, 1), (65535, 0), (4, 65535), (32768, 0), (0, 32768)] {
        assert_eq!(queue(at(available, used)), Err(SetupError::Position), "{available} {used}");
    }
}

#[test]
fn packed_positions_are_refused_beyond_the_ring_or_a_lap_apart() {
    let pair = Pair::new(5, Features::RING_PACKED);
    let wraps = [Wrap::Clear, Wrap::Set];
    for (available, used) in (0..=6u16).flat_map(|a| (0..=6u16).map(move |b| (a, b))) {
        for (first, second) in wraps.into_iter().flat_map(|a| wraps.map(|b| (a, b))) {
            let position = QueuePosition {
                available: RingIndex { index: available, wrap: first },
                used: RingIndex { index: used, wrap: second },
            };
            let ahead = i32::from(available) - i32::from(used) + if first == second { 0 } else { 5 };
            let valid = available < 5 && used < 5 && (0..=5).contains(&ahead);
            let found = Queue::new(pair.memory.clone(), pair.driver.layout(), pair.features, position);
            let expected = if valid { Ok(position) } else { Err(SetupError::Position) };
            assert_eq!(found.map(|queue| queue.position()), expected);
        }
    }
}

#[test]
fn a_packed_position_is_one_word_of_the_wire_and_back() {
    for word in 0..=u16::MAX {
        assert_eq!(RingIndex::from_packed_word(word).to_packed_word(), word);
    }
    let place = RingIndex { index: 5, wrap: Wrap::Set };
    assert_eq!(place.to_packed_word(), 0x8005);
    assert_eq!(RingIndex { wrap: Wrap::Clear, ..place }.to_packed_word(), 5);
}
