//! Packed rings, driver end (virtio 1.3 §2.8).

use crate::rig::Pair;
use crate::rig::raw::{AVAIL, INDIRECT, NEXT, PackedBytes, PackedDescriptor, USED, WRITE, available, used};
use vioduct_spec::Features;
use vioduct_virtqueue::{AddError, QueueError, RingFormat, SetupError};

fn packed(size: u16, features: Features) -> (Pair, PackedBytes) {
    let pair = Pair::new(size, features | Features::RING_PACKED);
    let ring = PackedBytes::of(&pair);
    (pair, ring)
}

/// The device marks one buffer used at a place on the endless line of descriptors.
fn put_used(ring: &PackedBytes, place: u16, id: u16, len: u32, flags: u16) {
    let size = ring.layout.size;
    ring.put_used(place % size, len, id, flags | used((place / size).is_multiple_of(2)));
}

#[test]
fn s2_8_11_every_part_is_aligned_and_apart() {
    for size in (1..=17).chain([255, 256, 1000, 32768]) {
        let layout = Pair::with_tables(size, Features::RING_PACKED, 1).driver.layout();
        let (descriptors, driver, device) =
            (layout.descriptor_area.0, layout.driver_area.0, layout.device_area.0);
        assert_eq!((descriptors % 16, driver % 4, device % 4), (0, 0, 0), "size {size}");
        assert!(driver >= descriptors + 16 * u64::from(size) && device >= driver + 4, "size {size}");
    }
    let (mut pair, _) = packed(3, Features::NONE);
    for misaligned in 1..16 {
        let refused = pair.ring_memory(misaligned, RingFormat::Packed, 3).err();
        assert!(matches!(refused, Some(SetupError::Alignment(_, 16))), "{refused:?}");
    }
    assert_eq!(pair.ring_memory(0, RingFormat::Packed, 0).err(), Some(SetupError::Size(0)));
    assert_eq!(pair.ring_memory(0, RingFormat::Packed, 32769).err(), Some(SetupError::Size(32769)));
}

#[test]
fn s2_8_1_available_descriptors_carry_the_drivers_wrap_counter() {
    for size in 1..=7u16 {
        let (mut pair, ring) = packed(size, Features::NONE);
        let piece = pair.alloc(6);
        for place in 0..6 * size {
            let wrap = (place / size).is_multiple_of(2);
            pair.driver.add(&[piece], &[], place.into()).unwrap();
            let _ = pair.driver.kick_prepare();
            let PackedDescriptor(addr, len, id, flags) = ring.descriptor(place % size);
            assert_eq!((addr, len, flags), (piece.addr.0, 6, available(wrap)), "size {size}, place {place}");
            // Used by the other counter's value is not used.
            ring.put_used(place % size, 0, id, used(!wrap));
            assert_eq!(pair.driver.get(), Ok(None));
            put_used(&ring, place, id, 0, 0);
            assert_eq!(pair.driver.get().unwrap().unwrap().token, u64::from(place));
        }
    }
}

#[test]
fn s2_8_2_the_driver_polls_only_the_next_place() {
    let (mut pair, ring) = packed(4, Features::NONE);
    let piece = pair.alloc(6);
    for token in 0..4 {
        pair.driver.add(&[piece], &[], token).unwrap();
    }
    let _ = pair.driver.kick_prepare();
    let ids = [0, 1, 2, 3].map(|index| ring.descriptor(index).2);
    put_used(&ring, 1, ids[3], 0, 0);
    put_used(&ring, 2, ids[0], 0, 0);
    assert_eq!(pair.driver.get(), Ok(None));
    put_used(&ring, 0, ids[2], 0, 0);
    let tokens: Vec<u64> = std::iter::from_fn(|| pair.driver.get().unwrap()).map(|done| done.token).collect();
    assert_eq!(tokens, [2, 3, 0]);
}

#[test]
fn s2_8_4_the_length_of_a_used_descriptor_is_limited_to_what_was_posted() {
    let (mut pair, ring) = packed(4, Features::NONE);
    let (readable, writable) = (pair.alloc(6), pair.alloc(10));
    let cases = [(0, 0), (4, 4), (10, 10), (11, 10), (u32::MAX, 10)];
    for (round, (said, believed)) in (0u16..).zip(cases) {
        pair.driver.add(&[readable], &[writable], 0).unwrap();
        let _ = pair.driver.kick_prepare();
        let id = ring.descriptor((2 * round + 1) % 4).2;
        put_used(&ring, 2 * round, id, said, WRITE);
        assert_eq!(pair.driver.get().unwrap().unwrap().written, believed);
    }
    // A buffer with nothing to write into has nothing written, whatever stands in the reserved length.
    pair.driver.add(&[readable], &[], 0).unwrap();
    let _ = pair.driver.kick_prepare();
    put_used(&ring, 10, ring.descriptor(10 % 4).2, 6, 0);
    assert_eq!(pair.driver.get().unwrap().unwrap().written, 0);
}

#[test]
fn s2_8_6_a_list_is_chained_by_next_and_named_by_its_last_descriptor() {
    for size in 3..=7u16 {
        let (mut pair, ring) = packed(size, Features::NONE);
        let [a, b, c] = [5, 6, 7].map(|len| pair.alloc(len));
        for round in 0..4 * size {
            let first = 3 * round;
            pair.driver.add(&[a], &[b, c], round.into()).unwrap();
            let _ = pair.driver.kick_prepare();
            let at = [0, 1, 2].map(|step| (first + step) % size);
            let mark = [0, 1, 2].map(|step| available((first + step) / size % 2 == 0));
            let shown = at.map(|index| ring.descriptor(index));
            let id = shown[2].2;
            let expected = [
                PackedDescriptor(a.addr.0, 5, shown[0].2, NEXT | mark[0]),
                PackedDescriptor(b.addr.0, 6, shown[1].2, NEXT | WRITE | mark[1]),
                PackedDescriptor(c.addr.0, 7, id, WRITE | mark[2]),
            ];
            assert_eq!(shown, expected, "size {size}, round {round}");
            // One used descriptor, in which NEXT is reserved and ignored; then the driver skips the list.
            put_used(&ring, first, id, 1, NEXT | WRITE);
            assert_eq!(pair.driver.get().unwrap().unwrap().token, u64::from(round));
            assert_eq!(pair.driver.get(), Ok(None));
            assert_eq!(pair.driver.next_used().index, (first + 3) % size);
        }
    }
}

#[test]
fn s2_8_17_the_first_of_a_list_is_made_available_last() {
    for size in 3..=7u16 {
        let (mut pair, ring) = packed(size, Features::NONE);
        let piece = pair.alloc(4);
        for round in 0..3 * size {
            let first = 3 * round % size;
            let before = ring.descriptor(first);
            pair.driver.add(&[piece; 3], &[], 0).unwrap();
            assert_eq!(ring.descriptor(first), before, "size {size}, round {round}");
            let rest = [1, 2].map(|step| ring.descriptor((first + step) % size));
            let _ = pair.driver.kick_prepare();
            assert_eq!(ring.flags(first) & (AVAIL | USED), available(3 * round / size % 2 == 0));
            assert_eq!([1, 2].map(|step| ring.descriptor((first + step) % size)), rest);
            put_used(&ring, 3 * round, rest[1].2, 0, 0);
            assert!(pair.driver.get().unwrap().is_some());
        }
    }
}

#[test]
fn s2_8_17_no_list_longer_than_the_queue_and_none_without_room() {
    for size in 1..=7u16 {
        let (mut pair, ring) = packed(size, Features::NONE);
        let piece = pair.alloc(4);
        let pieces = vec![piece; usize::from(size) + 1];
        assert_eq!(pair.driver.add(&pieces, &[], 1), Err((AddError::TooLong, 1)));
        pair.driver.add(&[piece], &[], 2).unwrap();
        let before = ring.descriptor_bytes();
        assert_eq!(pair.driver.add(&pieces[1..], &[], 3), Err((AddError::Full, 3)));
        assert_eq!(ring.descriptor_bytes(), before, "a refused list leaves no trace");
        if size > 1 {
            pair.driver.add(&pieces[2..], &[], 4).unwrap();
        }
        assert_eq!(pair.driver.free_descriptors(), 0);
    }
}

#[test]
fn s2_8_17_writable_elements_follow_readable_ones() {
    for features in [Features::NONE, Features::INDIRECT_DESC] {
        let (mut pair, ring) = packed(4, features);
        let piece = pair.alloc(4);
        pair.driver.add(&[piece; 2], &[piece; 2], 0).unwrap();
        let _ = pair.driver.kick_prepare();
        let at =
            if features == Features::NONE { ring.layout.descriptor_area.0 } else { ring.descriptor(0).0 };
        assert_eq!([0, 1, 2, 3].map(|index| ring.table(at, index).3 & WRITE), [0, 0, WRITE, WRITE]);
    }
}

#[test]
fn s2_8_16_descriptors_in_flight_are_left_alone() {
    let (mut pair, ring) = packed(4, Features::NONE);
    let piece = pair.alloc(4);
    for token in 0..4 {
        pair.driver.add(&[piece], &[], token).unwrap();
    }
    let _ = pair.driver.kick_prepare();
    let held = ring.descriptor_bytes();
    assert_eq!(pair.driver.add(&[piece], &[], 9), Err((AddError::Full, 9)));
    let _ = pair.driver.kick_prepare();
    assert_eq!(pair.driver.get(), Ok(None));
    assert_eq!(ring.descriptor_bytes(), held);
    // The third buffer is used first: its place in the ring is the first one, and only that is free again.
    let third = ring.descriptor(2).2;
    put_used(&ring, 0, third, 0, 0);
    assert_eq!(pair.driver.get().unwrap().unwrap().token, 2);
    pair.driver.add(&[piece], &[], 10).unwrap();
    let _ = pair.driver.kick_prepare();
    assert_eq!(ring.descriptor_bytes()[16..], held[16..]);
    assert_eq!((ring.descriptor(0).2, ring.flags(0)), (third, available(false)));
}

#[test]
fn s2_8_13_buffer_ids_in_flight_are_unique() {
    let (mut pair, ring) = packed(5, Features::NONE);
    let piece = pair.alloc(4);
    // By place: the id there.
    let mut flying: Vec<u16> = Vec::new();
    let mut random = 1u32;
    let (mut added, mut taken) = (0u16, 0u16);
    for _ in 0..2000 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if flying.is_empty() || flying.len() < 5 && random >> 31 == 0 {
            pair.driver.add(&[piece], &[], 0).unwrap();
            let _ = pair.driver.kick_prepare();
            let id = ring.descriptor(added % 5).2;
            assert!(id < 5 && !flying.contains(&id), "{id} in {flying:?}");
            flying.push(id);
            added += 1;
        } else {
            let id = flying.swap_remove((random >> 16) as usize % flying.len());
            put_used(&ring, taken, id, 0, 0);
            assert!(pair.driver.get().unwrap().is_some());
            taken += 1;
        }
    }
}

#[test]
fn s2_8_19_indirect_only_when_negotiated_and_only_write_within() {
    let (mut pair, ring) = packed(4, Features::NONE);
    let pieces = [pair.alloc(3), pair.alloc(4), pair.alloc(5)];
    pair.driver.add(&pieces[..2], &pieces[2..], 0).unwrap();
    let _ = pair.driver.kick_prepare();
    assert!((0..3).all(|index| ring.flags(index) & INDIRECT == 0));
    let (mut pair, ring) = packed(4, Features::INDIRECT_DESC);
    for round in 0..9u16 {
        pair.driver.add(&pieces[..2], &pieces[2..], 0).unwrap();
        let _ = pair.driver.kick_prepare();
        let PackedDescriptor(at, len, id, flags) = ring.descriptor(round % 4);
        // No NEXT beside it: a table is the whole list.
        assert_eq!((len, flags), (48, INDIRECT | available(round / 4 % 2 == 0)));
        let shown = [0, 1, 2].map(|index| ring.table(at, index));
        let expected = [0, 1, 2].map(|n| (pieces[n].addr.0, 3 + n as u32, if n == 2 { WRITE } else { 0 }));
        assert_eq!(shown.map(|PackedDescriptor(addr, len, _, flags)| (addr, len, flags)), expected);
        put_used(&ring, round, id, 0, 0);
        assert!(pair.driver.get().unwrap().is_some());
    }
    let piece = pieces[0];
    assert_eq!(pair.driver.add(&[piece; 3], &[piece; 2], 1), Err((AddError::TooLong, 1)));
}

#[test]
fn s2_8_21_1_a_batch_shows_from_its_first_descriptor_on() {
    let (mut pair, ring) = packed(6, Features::NONE);
    let piece = pair.alloc(4);
    for token in 0..3 {
        pair.driver.add(&[piece], &[piece], token).unwrap();
    }
    assert_eq!(ring.flags(0), 0, "nothing is exposed by adding");
    assert_eq!(ring.flags(1) & (AVAIL | USED), AVAIL);
    let _ = pair.driver.kick_prepare();
    assert_eq!(ring.descriptor(0), PackedDescriptor(piece.addr.0, 4, ring.descriptor(1).2, NEXT | AVAIL));
    // A second exposure without a new buffer changes nothing.
    let shown = ring.descriptor_bytes();
    let _ = pair.driver.kick_prepare();
    assert_eq!(ring.descriptor_bytes(), shown);
}

#[test]
fn s2_8_22_an_id_that_is_not_in_flight_breaks_the_queue() {
    for bogus in [1u16, 3, 4, 0x8000, 0xffff] {
        let (mut pair, ring) = packed(4, Features::NONE);
        let piece = pair.alloc(4);
        pair.driver.add(&[piece], &[], 0).unwrap();
        let _ = pair.driver.kick_prepare();
        put_used(&ring, 0, bogus, 0, 0);
        assert_eq!(pair.driver.get(), Err(QueueError::BufferId(bogus)));
        assert!(pair.driver.is_broken());
    }
}

#[test]
fn what_is_taken_ends_with_a_cache_line_of_descriptors() {
    let (mut pair, ring) = packed(8, Features::NONE);
    let piece = pair.alloc(4);
    let expected = [
        [1, 2, 3, 4, 4, 4, 4, 8],
        [1, 2, 3, 3, 3, 3, 7, 7],
        [1, 2, 2, 2, 2, 6, 6, 6],
        [1, 1, 1, 1, 5, 5, 5, 5],
    ];
    for place in 0..32u16 {
        let counts = [1, 2, 3, 4, 5, 6, 7, 8].map(|count| pair.driver.whole_lines(count));
        assert_eq!(counts, expected[usize::from(place % 4)], "from {place}");
        pair.driver.add(&[], &[piece], 0).unwrap();
        let _ = pair.driver.kick_prepare();
        put_used(&ring, place, ring.descriptor(place % 8).2, 4, WRITE);
        assert!(pair.driver.get().unwrap().is_some());
    }
    assert_eq!(Pair::new(8, Features::NONE).driver.whole_lines(7), 7);
}

/// The ring's first descriptor begins a line, wherever the last one is.
#[test]
fn what_is_taken_ends_with_the_ring() {
    let (mut pair, ring) = packed(6, Features::NONE);
    let piece = pair.alloc(4);
    for (place, expected) in [[1, 2, 3, 4, 4, 6], [1, 2, 3, 3, 5, 5], [1, 2, 2, 4, 4, 4], [1, 1, 3, 3, 3, 3]]
        .into_iter()
        .enumerate()
    {
        assert_eq!([1, 2, 3, 4, 5, 6].map(|count| pair.driver.whole_lines(count)), expected, "from {place}");
        pair.driver.add(&[], &[piece], 0).unwrap();
        let _ = pair.driver.kick_prepare();
        put_used(&ring, place as u16, ring.descriptor(place as u16).2, 4, WRITE);
        assert!(pair.driver.get().unwrap().is_some());
    }
}
