//! `IN_ORDER` (virtio 1.3 §2.7.5.2, §2.7.9, §2.8.8, §6.2).

use crate::rig::Pair;
use crate::rig::raw::{
    NEXT, PackedBytes, PackedDescriptor, SplitBytes, SplitDescriptor, WRITE, available, used,
};
use vioduct_spec::Features;
use vioduct_virtqueue::{Burst, Chain, MoreWork, Next, QueueError};

fn split(size: u16) -> (Pair, SplitBytes) {
    let pair = Pair::new(size, Features::IN_ORDER);
    let ring = SplitBytes::of(&pair);
    (pair, ring)
}

fn packed(size: u16) -> (Pair, PackedBytes) {
    let pair = Pair::new(size, Features::IN_ORDER | Features::RING_PACKED);
    let ring = PackedBytes::of(&pair);
    (pair, ring)
}

fn tokens(pair: &mut Pair) -> Vec<(u64, u32)> {
    std::iter::from_fn(|| pair.driver.get().unwrap()).map(|done| (done.token, done.written)).collect()
}

#[test]
fn s2_7_5_2_links_go_up_by_one_and_from_the_last_to_0() {
    let (mut pair, ring) = split(8);
    let piece = pair.alloc(2);
    let (mut place, mut added) = (0u16, 0u16);
    for round in 0..40u16 {
        let count = 2 + round % 4;
        pair.driver.add(&vec![piece; usize::from(count)], &[], 0).unwrap();
        let _ = pair.driver.kick_prepare();
        // virtio 1.3 §2.7.5: descriptors are used in ring order.
        assert_eq!(ring.avail_entry(added), place % 8, "round {round}");
        for step in 0..count - 1 {
            let SplitDescriptor(_, _, flags, next) = ring.descriptor((place + step) % 8);
            assert_eq!((flags, next), (NEXT, (place + step + 1) % 8));
        }
        assert_eq!(ring.descriptor((place + count - 1) % 8).2, 0);
        ring.put_used_entry(added, u32::from(place % 8), 0);
        added += 1;
        ring.put_used_idx(added);
        assert_eq!(tokens(&mut pair), [(0, 0)]);
        place += count;
    }
}

#[test]
fn s2_7_5_3_1_entries_of_a_table_are_linked_in_sequence() {
    let pair = &mut Pair::new(8, Features::IN_ORDER | Features::INDIRECT_DESC);
    let ring = SplitBytes::of(pair);
    let piece = pair.alloc(2);
    pair.driver.add(&[piece; 2], &[piece; 3], 0).unwrap();
    let at = ring.descriptor(0).0;
    let links = [0, 1, 2, 3].map(|index| ring.table(at, index).3);
    assert_eq!(links, [1, 2, 3, 4]);
    assert_eq!(ring.table(at, 4).2, WRITE);
}

/// Four buffers of one writable byte, ids 0 to 3, written raw and popped.
fn four_split(pair: &mut Pair, ring: &SplitBytes) -> Vec<Option<Chain>> {
    let data = pair.alloc(4).addr.0;
    for index in 0..4u16 {
        ring.put_descriptor(index, SplitDescriptor(data + u64::from(index), 1, WRITE, 0));
    }
    ring.offer(&[0, 1, 2, 3]);
    (0..4).map(|_| pair.device.pop().unwrap()).collect()
}

fn complete(pair: &mut Pair, chain: &mut Option<Chain>, written: usize) {
    let chain = chain.take().unwrap();
    chain.writer().write_all(&[9, 9][..written]).unwrap();
    pair.device.complete(chain, written as u32).unwrap();
}

#[test]
fn s2_7_9_early_completions_wait_and_a_batch_is_one_entry_of_its_last_buffer() {
    let (mut pair, ring) = split(8);
    let mut chains = four_split(&mut pair, &ring);
    for number in [2usize, 1] {
        complete(&mut pair, &mut chains[number], 1);
        let _ = pair.device.publish().unwrap();
        assert_eq!(ring.used_idx(), 0, "the first is still with the device");
    }
    complete(&mut pair, &mut chains[0], 1);
    let _ = pair.device.publish().unwrap();
    // One entry, at the offset of the batch's first, for three buffers.
    assert_eq!((ring.used_idx(), ring.used_entry(0)), (3, (2, 1)));
    assert_eq!((ring.used_entry(1), ring.used_entry(2)), ((0, 0), (0, 0)));
    complete(&mut pair, &mut chains[3], 1);
    let _ = pair.device.publish().unwrap();
    assert_eq!((ring.used_idx(), ring.used_entry(3)), (4, (3, 1)), "at the next batch's first");
}

#[test]
fn s2_7_9_a_buffer_not_written_whole_is_never_left_out() {
    let (mut pair, ring) = split(8);
    let mut chains = four_split(&mut pair, &ring);
    for (number, written) in [(3usize, 1), (2, 1), (1, 0), (0, 1)] {
        complete(&mut pair, &mut chains[number], written);
    }
    let _ = pair.device.publish().unwrap();
    // Left out: 0 and 2. Told: 1, of which nothing was written, and 3.
    assert_eq!(ring.used_idx(), 4);
    assert_eq!((ring.used_entry(0), ring.used_entry(2)), ((1, 0), (3, 1)));
}

#[test]
fn s6_2_the_device_uses_buffers_in_the_order_of_availability() {
    let (mut pair, ring) = split(8);
    let mut chains = four_split(&mut pair, &ring);
    for number in [3usize, 1, 2, 0] {
        complete(&mut pair, &mut chains[number], 0);
    }
    let _ = pair.device.publish().unwrap();
    assert_eq!(ring.used_idx(), 4);
    assert_eq!([0, 1, 2, 3].map(|place| ring.used_entry(place).0), [0, 1, 2, 3]);
}

#[test]
fn s2_7_9_the_driver_finds_the_skipped_buffers_and_takes_them_as_used_whole() {
    let (mut pair, ring) = split(4);
    let (readable, writable) = (pair.alloc(2), pair.alloc(6));
    for round in 0..20u16 {
        let start = 3 * round;
        pair.driver.add(&[readable], &[], 0).unwrap();
        pair.driver.add(&[], &[writable], 1).unwrap();
        pair.driver.add(&[], &[writable], 2).unwrap();
        let _ = pair.driver.kick_prepare();
        let last = ring.avail_entry(start + 2);
        ring.put_used_entry(start, last.into(), 4);
        ring.put_used_idx(start + 3);
        assert_eq!(tokens(&mut pair), [(0, 0), (1, 6), (2, 4)], "round {round}");
        assert_eq!(pair.driver.free_descriptors(), 4);
    }
}

#[test]
fn s2_8_8_a_batch_is_one_used_descriptor_at_its_first_place() {
    for size in 4..=7u16 {
        let (mut pair, ring) = packed(size);
        let data = pair.alloc(8).addr.0;
        let wrap = |place: u16| (place / size).is_multiple_of(2);
        for first in (0..8 * size).step_by(4) {
            // Two buffers of one descriptor and one of two.
            let pieces = [(0, 0), (1, 0), (2, NEXT), (2, 0)];
            for (step, (id, flags)) in (0u16..4).zip(pieces).rev() {
                let place = first + step;
                let flags = flags | WRITE | available(wrap(place));
                ring.put_descriptor(place % size, PackedDescriptor(data, 1, id, flags));
            }
            let mut chains: Vec<_> = (0..3).map(|_| pair.device.pop().unwrap()).collect();
            complete(&mut pair, &mut chains[2], 2);
            complete(&mut pair, &mut chains[1], 1);
            let _ = pair.device.publish().unwrap();
            assert_eq!(ring.flags(first % size), WRITE | available(wrap(first)), "0 is not done");
            complete(&mut pair, &mut chains[0], 1);
            let rest = [1, 2, 3].map(|step| ring.descriptor((first + step) % size));
            let _ = pair.device.publish().unwrap();
            let shown = ring.descriptor(first % size);
            assert_eq!(shown, PackedDescriptor(data, 2, 2, WRITE | used(wrap(first))), "{size} {first}");
            assert_eq!([1, 2, 3].map(|step| ring.descriptor((first + step) % size)), rest);
            assert_eq!(pair.device.position().used.index, (first + 4) % size);
        }
    }
}

#[test]
fn s2_8_8_the_driver_finds_the_skipped_buffers_and_skips_their_descriptors() {
    for size in 4..=7u16 {
        let (mut pair, ring) = packed(size);
        let writable = pair.alloc(6);
        for first in (0..8 * size).step_by(4) {
            pair.driver.add(&[], &[writable], 0).unwrap();
            pair.driver.add(&[], &[writable; 2], 1).unwrap();
            pair.driver.add(&[], &[writable], 2).unwrap();
            let _ = pair.driver.kick_prepare();
            let last = ring.descriptor((first + 3) % size).2;
            ring.put_used(first % size, 5, last, WRITE | used(first / size % 2 == 0));
            assert_eq!(tokens(&mut pair), [(0, 6), (1, 12), (2, 5)], "size {size}, place {first}");
            assert_eq!(pair.driver.next_used().index, (first + 4) % size);
            assert_eq!(pair.driver.free_descriptors(), size);
        }
    }
}

#[test]
fn s2_7_9_a_batch_that_names_no_buffer_in_flight_breaks_the_queue() {
    let (mut pair, ring) = split(4);
    let piece = pair.alloc(2);
    for token in 0..3 {
        pair.driver.add(&[], &[piece], token).unwrap();
    }
    let _ = pair.driver.kick_prepare();
    ring.put_used_entry(0, 3, 0);
    ring.put_used_idx(3);
    assert_eq!(pair.driver.get(), Err(QueueError::BufferId(3)));
}

/// Buffers of one writable byte each, made available and popped together.
fn burst_of(pair: &mut Pair, count: u64) -> Burst {
    for token in 0..count {
        let piece = pair.alloc(1);
        pair.driver.add(&[], &[piece], token).unwrap();
    }
    let _ = pair.driver.kick_prepare();
    let mut burst = Burst::new(8);
    assert_eq!(pair.device.pop_burst(&mut burst, 8), Ok(Next::Nothing));
    burst
}

#[test]
fn s2_7_9_a_burst_is_one_entry_for_what_was_written_whole() {
    let (mut pair, ring) = split(8);
    let mut burst = burst_of(&mut pair, 5);
    // The third is not written whole: it has an entry of its own, as the last one has.
    let written = [1, 1, 0, 1, 0];
    burst.singles_mut().iter_mut().zip(written).for_each(|(single, len)| single.mark_written(len));
    pair.device.complete_burst(&mut burst, 5).unwrap();
    let _ = pair.device.publish().unwrap();
    assert_eq!(ring.used_idx(), 5);
    assert_eq!([0, 3].map(|place| ring.used_entry(place)), [(2, 0), (4, 0)]);
    assert_eq!([1, 2, 4].map(|place| ring.used_entry(place)), [(0, 0); 3], "left out");
    assert_eq!(tokens(&mut pair), [(0, 1), (1, 1), (2, 0), (3, 1), (4, 0)]);
}

#[test]
fn s2_8_8_a_burst_is_one_used_descriptor_for_what_was_written_whole() {
    let (mut pair, ring) = packed(8);
    let mut burst = burst_of(&mut pair, 5);
    let written = [1, 1, 0, 1, 0];
    burst.singles_mut().iter_mut().zip(written).for_each(|(single, len)| single.mark_written(len));
    let before = [1, 2, 4].map(|place| ring.descriptor(place));
    pair.device.complete_burst(&mut burst, 5).unwrap();
    let _ = pair.device.publish().unwrap();
    let entry = |place| {
        let PackedDescriptor(_, len, id, flags) = ring.descriptor(place);
        (id, len, flags)
    };
    assert_eq!([entry(0), entry(3)], [(2, 0, used(true)), (4, 0, used(true))]);
    assert_eq!([1, 2, 4].map(|place| ring.descriptor(place)), before, "left out");
    assert_eq!(tokens(&mut pair), [(0, 1), (1, 1), (2, 0), (3, 1), (4, 0)]);
}

#[test]
fn s2_7_9_a_burst_waits_for_chains_that_were_popped_before_it() {
    for (mut pair, name) in [(split(8).0, "split"), (packed(8).0, "packed")] {
        let pieces = [pair.alloc(1), pair.alloc(1)];
        pair.driver.add(&pieces, &[], 9).unwrap();
        let _ = pair.driver.kick_prepare();
        let first = pair.device.pop().unwrap().unwrap();
        let mut burst = burst_of(&mut pair, 3);
        burst.singles_mut().iter_mut().for_each(|single| single.mark_written(1));
        pair.device.complete_burst(&mut burst, 2).unwrap();
        let _ = pair.device.publish().unwrap();
        assert_eq!(tokens(&mut pair), [], "{name}");
        pair.device.complete(first, 0).unwrap();
        let last = pair.device.chain_of(&mut burst).unwrap();
        pair.device.complete(last, 1).unwrap();
        let _ = pair.device.publish().unwrap();
        assert_eq!(tokens(&mut pair), [(9, 0), (0, 1), (1, 1), (2, 1)], "{name}");
    }
}

#[test]
fn s2_7_9_of_buffers_that_are_only_read_the_driver_takes_as_many_as_the_index_says() {
    let (mut pair, ring) = split(4);
    let piece = pair.alloc(2);
    let mut used = 0u16;
    for round in 0..20u64 {
        for token in 0..3 {
            pair.driver.add(&[piece], &[], 3 * round + token).unwrap();
        }
        let _ = pair.driver.kick_prepare();
        // No entry says anything of interest, so none is looked at.
        (0..3).for_each(|step| ring.put_used_entry(used + step, 99, 7));
        for (more, expected) in [(1, 0..1), (2, 1..3)] {
            used += more;
            ring.put_used_idx(used);
            let expected: Vec<_> = expected.map(|token| (3 * round + token, 0)).collect();
            assert_eq!(tokens(&mut pair), expected, "round {round}");
        }
        assert_eq!(pair.driver.free_descriptors(), 4);
    }
}

#[test]
fn s2_7_9_a_batch_of_buffers_that_are_only_read_stays_one_when_others_are_added() {
    let (mut pair, ring) = split(8);
    let piece = pair.alloc(2);
    pair.driver.add(&[piece], &[], 0).unwrap();
    pair.driver.add(&[piece], &[], 1).unwrap();
    let _ = pair.driver.kick_prepare();
    // One entry for both; where the second's would be there is none.
    ring.put_used_entry(0, 1, 0);
    ring.put_used_entry(1, 99, 0);
    ring.put_used_idx(2);
    assert_eq!(pair.driver.get().unwrap().map(|done| done.token), Some(0));
    pair.driver.add(&[], &[piece], 2).unwrap();
    let _ = pair.driver.kick_prepare();
    assert_eq!(pair.driver.enable_callback(), MoreWork::Pending);
    assert_eq!(pair.driver.get().unwrap().map(|done| done.token), Some(1));
    ring.put_used_entry(2, 2, 1);
    ring.put_used_idx(3);
    assert_eq!(tokens(&mut pair), [(2, 1)], "how much was written is read again");
}

#[test]
fn s2_7_9_an_index_beyond_what_is_in_flight_breaks_a_queue_of_buffers_that_are_only_read() {
    let (mut pair, ring) = split(4);
    let piece = pair.alloc(2);
    pair.driver.add(&[piece], &[], 0).unwrap();
    let _ = pair.driver.kick_prepare();
    ring.put_used_idx(2);
    assert_eq!(pair.driver.get(), Err(QueueError::AvailableIndex { found: 2, processed: 0 }));
}
