//! Split rings, driver end (virtio 1.3 §2.7).

use crate::rig::Pair;
use crate::rig::raw::{INDIRECT, NEXT, SplitBytes, SplitDescriptor, WRITE};
use vioduct_spec::Features;
use vioduct_virtqueue::{AddError, Buffer, IoAddr, RingFormat, SetupError};

fn split(size: u16, features: Features) -> (Pair, SplitBytes) {
    let pair = Pair::new(size, features);
    let ring = SplitBytes::of(&pair);
    (pair, ring)
}

const SIZES: [u16; 8] = [1, 2, 4, 8, 64, 256, 1024, 32768];

#[test]
fn s2_7_1_every_part_is_aligned_and_apart() {
    for size in SIZES {
        let layout = Pair::with_tables(size, Features::NONE, 1).driver.layout();
        let (descriptors, driver, device) =
            (layout.descriptor_area.0, layout.driver_area.0, layout.device_area.0);
        assert_eq!((descriptors % 16, driver % 2, device % 4), (0, 0, 0), "size {size}");
        assert!(driver >= descriptors + 16 * u64::from(size), "size {size}");
        assert!(device >= driver + 6 + 2 * u64::from(size), "size {size}");
    }
}

#[test]
fn s2_7_1_misaligned_ring_memory_is_refused() {
    let mut pair = Pair::new(4, Features::NONE);
    for misaligned in 1..16 {
        let refused = pair.ring_memory(misaligned, RingFormat::Split, 4).err();
        assert!(matches!(refused, Some(SetupError::Alignment(_, 16))), "{misaligned}: {refused:?}");
    }
}

#[test]
fn s2_7_ring_memory_is_for_powers_of_two() {
    let mut pair = Pair::new(4, Features::NONE);
    for size in [0, 3, 5, 6, 7, 32767, 32769, 65535] {
        assert_eq!(pair.ring_memory(0, RingFormat::Split, size).err(), Some(SetupError::Size(size)));
    }
    assert!(pair.ring_memory(0, RingFormat::Split, 32768).is_ok());
}

#[test]
fn s2_7_4_2_writable_pieces_follow_readable_ones() {
    for features in [Features::NONE, Features::INDIRECT_DESC] {
        let (mut pair, ring) = split(4, features);
        let [a, b, c, d] = [1, 2, 3, 4].map(|len| pair.alloc(len));
        pair.driver.add(&[a, b], &[c, d], 0).unwrap();
        let first = ring.descriptor(0);
        let at = if features == Features::NONE { ring.layout.descriptor_area.0 } else { first.0 };
        let shown: Vec<_> = (0..4).map(|index| ring.table(at, index)).collect();
        let expected = [
            SplitDescriptor(a.addr.0, 1, NEXT, 1),
            SplitDescriptor(b.addr.0, 2, NEXT, 2),
            SplitDescriptor(c.addr.0, 3, WRITE | NEXT, 3),
            SplitDescriptor(d.addr.0, 4, WRITE, 0),
        ];
        assert_eq!(shown, expected, "{features}");
    }
}

#[test]
fn s2_7_5_2_no_buffer_reaches_2_to_the_32_bytes() {
    for features in [Features::NONE, Features::INDIRECT_DESC] {
        let (mut pair, ring) = split(4, features);
        let half = Buffer { addr: IoAddr(0x1000), len: 1 << 31 };
        let most = Buffer { addr: IoAddr(0x1000), len: u32::MAX };
        let one = Buffer { addr: IoAddr(0x1000), len: 1 };
        let before = ring.descriptor_bytes();
        for (readable, writable) in
            [(&[half, half][..], &[][..]), (&[half], &[half]), (&[], &[most, one]), (&[most], &[most, most])]
        {
            assert_eq!(pair.driver.add(readable, writable, 7), Err((AddError::TooLong, 7)));
        }
        assert_eq!(ring.descriptor_bytes(), before, "a refused buffer leaves no trace");
        assert_eq!(pair.driver.free_descriptors(), 4);
        pair.driver.add(&[most], &[], 8).unwrap();
    }
}

#[test]
fn s2_7_5_3_1_indirect_only_when_negotiated() {
    let (mut pair, ring) = split(4, Features::NONE);
    let [a, b] = [8, 8].map(|len| pair.alloc(len));
    pair.driver.add(&[a], &[b], 0).unwrap();
    assert!((0..4).all(|index| ring.descriptor(index).2 & INDIRECT == 0));
    let (mut pair, ring) = split(4, Features::INDIRECT_DESC);
    pair.driver.add(&[a], &[b], 0).unwrap();
    assert_eq!(ring.descriptor(0).2 & INDIRECT, INDIRECT);
}

#[test]
fn s2_7_5_3_1_one_table_per_descriptor_and_no_chain_beside_it() {
    let (mut pair, ring) = split(4, Features::INDIRECT_DESC);
    let pieces: Vec<_> = (1..=4).map(|len| pair.alloc(len)).collect();
    for round in 0..20u64 {
        pair.driver.add(&pieces[..2], &pieces[2..], round).unwrap();
        let head = ring.avail_entry(round as u16);
        let SplitDescriptor(at, len, flags, _) = ring.descriptor(head);
        assert_eq!((len, flags), (4 * 16, INDIRECT), "neither NEXT nor WRITE");
        assert_eq!(at % 16, 0);
        let entries: Vec<_> = (0..4).map(|index| ring.table(at, index)).collect();
        assert!(entries.iter().all(|entry| entry.2 & INDIRECT == 0), "{entries:?}");
        assert_eq!(entries.iter().map(|entry| entry.2 & NEXT).collect::<Vec<_>>(), [NEXT, NEXT, NEXT, 0]);
        let _ = pair.driver.kick_prepare();
        ring.put_used_entry(round as u16, u32::from(head), 0);
        ring.put_used_idx(round as u16 + 1);
        assert_eq!(pair.driver.get().unwrap().unwrap().token, round);
    }
}

#[test]
fn s2_7_5_3_1_no_chain_longer_than_the_queue() {
    for features in [Features::NONE, Features::INDIRECT_DESC] {
        let (mut pair, _) = split(4, features);
        let piece = pair.alloc(1);
        assert_eq!(pair.driver.add(&[piece; 3], &[piece; 2], 1), Err((AddError::TooLong, 1)), "{features}");
        pair.driver.add(&[piece; 2], &[piece; 2], 2).unwrap();
    }
}

#[test]
fn s2_7_5_3_tables_of_buffers_in_flight_never_overlap() {
    let (mut pair, ring) = split(8, Features::INDIRECT_DESC);
    let piece = pair.alloc(1);
    for token in 0..8 {
        pair.driver.add(&[piece; 8], &[], token).unwrap();
    }
    let mut tables: Vec<u64> = (0..8).map(|index| ring.descriptor(index).0).collect();
    tables.sort_unstable();
    assert!(tables.windows(2).all(|two| two[1] - two[0] >= 8 * 16), "{tables:x?}");
}

#[test]
fn s2_7_6_1_available_index_starts_at_0_and_never_goes_back() {
    let (mut pair, ring) = split(4, Features::NONE);
    let piece = pair.alloc(1);
    let mut seen = ring.avail_idx();
    assert_eq!(seen, 0);
    let mut laps = 0;
    for round in 0..70_000u64 {
        let count = 1 + round % 4;
        for _ in 0..count {
            pair.driver.add(&[piece], &[], round).unwrap();
            assert_eq!(ring.avail_idx(), seen);
        }
        let _ = pair.driver.kick_prepare();
        let now = ring.avail_idx();
        assert_eq!(now.wrapping_sub(seen), count as u16);
        laps += u32::from(now < seen);
        for step in 0..count as u16 {
            let place = seen.wrapping_add(step);
            ring.put_used_entry(place, ring.avail_entry(place).into(), 0);
        }
        ring.put_used_idx(now);
        while pair.driver.get().unwrap().is_some() {}
        assert_eq!(ring.avail_idx(), now);
        seen = now;
        if laps == 2 {
            return;
        }
    }
    panic!("the index was to wrap twice");
}

#[test]
fn s2_7_8_3_nothing_is_reported_beyond_len_nor_beyond_what_was_posted() {
    let (mut pair, ring) = split(4, Features::NONE);
    let (readable, writable) = (pair.alloc(16), pair.alloc(10));
    for (round, (said, believed)) in
        [(0, 0), (3, 3), (10, 10), (11, 10), (u32::MAX, 10)].into_iter().enumerate()
    {
        let place = round as u16;
        pair.driver.add(&[readable], &[writable], 0).unwrap();
        let _ = pair.driver.kick_prepare();
        ring.put_used_entry(place, ring.avail_entry(place).into(), said);
        ring.put_used_idx(place + 1);
        assert_eq!(pair.driver.get().unwrap().unwrap().written, believed);
    }
}

#[test]
fn s2_7_13_1_each_element_takes_the_next_free_descriptor() {
    let (mut pair, ring) = split(8, Features::NONE);
    let [a, b, c] = [0x11, 0x22, 0x33].map(|len| pair.alloc(len));
    pair.driver.add(&[a], &[], 0).unwrap();
    pair.driver.add(&[b], &[c], 1).unwrap();
    assert_eq!(ring.descriptor(0), SplitDescriptor(a.addr.0, 0x11, 0, 0));
    assert_eq!(ring.descriptor(1), SplitDescriptor(b.addr.0, 0x22, NEXT, 2));
    assert_eq!(ring.descriptor(2), SplitDescriptor(c.addr.0, 0x33, WRITE, 0));
    assert_eq!(pair.driver.free_descriptors(), 5);
}

#[test]
fn s2_7_13_1_descriptors_in_flight_are_left_alone() {
    let (mut pair, ring) = split(4, Features::NONE);
    let piece = pair.alloc(9);
    pair.driver.add(&[piece; 2], &[], 1).unwrap();
    let _ = pair.driver.kick_prepare();
    let held = [ring.descriptor(0), ring.descriptor(1)];
    // Everything else comes and goes, the first buffer stays with the device.
    for round in 0..100u16 {
        pair.driver.add(&[piece], &[piece], 100 + u64::from(round)).unwrap();
        let _ = pair.driver.kick_prepare();
        let head = ring.avail_entry(1 + round);
        assert!(head >= 2, "descriptor {head} is in flight");
        assert_eq!([ring.descriptor(0), ring.descriptor(1)], held);
        assert_eq!(pair.driver.add(&[piece], &[], 0), Err((AddError::Full, 0)));
        ring.put_used_entry(round, head.into(), 0);
        ring.put_used_idx(round + 1);
        assert_eq!(pair.driver.get().unwrap().unwrap().token, 100 + u64::from(round));
    }
}

#[test]
fn s2_7_13_2_heads_go_into_the_next_entries_of_the_ring() {
    let (mut pair, ring) = split(4, Features::NONE);
    let piece = pair.alloc(4);
    for round in 0..10u16 {
        let heads: Vec<u16> = (0..2)
            .map(|number| {
                pair.driver.add(&[piece], &[piece], number).unwrap();
                ring.avail_entry(2 * round + number as u16)
            })
            .collect();
        let _ = pair.driver.kick_prepare();
        for (number, head) in (0u16..).zip(&heads) {
            let entry = ring.driver_bytes()[usize::from(4 + 2 * ((2 * round + number) % 4))];
            assert_eq!(u16::from(entry), *head);
            ring.put_used_entry(2 * round + number, u32::from(*head), 0);
        }
        assert_eq!(heads, [0, 2], "both pairs of descriptors come back in the order in which they went");
        ring.put_used_idx(2 * round + 2);
        assert!(pair.driver.get().unwrap().is_some() && pair.driver.get().unwrap().is_some());
    }
}

#[test]
fn s2_7_13_3_1_the_index_moves_after_all_else_is_there() {
    let (mut pair, ring) = split(4, Features::NONE);
    let piece = pair.alloc(4);
    pair.driver.add(&[piece], &[piece], 0).unwrap();
    pair.driver.add(&[piece], &[], 1).unwrap();
    assert_eq!(ring.avail_idx(), 0, "nothing is exposed by adding");
    let (descriptors, heads) = (ring.descriptor_bytes(), [ring.avail_entry(0), ring.avail_entry(1)]);
    assert_eq!(heads, [0, 2]);
    let _ = pair.driver.kick_prepare();
    assert_eq!(ring.avail_idx(), 2);
    assert_eq!(ring.descriptor_bytes(), descriptors, "and exposing writes the index alone");
}

#[test]
fn s2_7_14_used_entries_are_taken_in_ring_order_whatever_the_order_of_buffers() {
    let (mut pair, ring) = split(4, Features::NONE);
    let piece = pair.alloc(4);
    for round in 0..5u16 {
        let heads: Vec<u16> = (0..4u16)
            .map(|number| {
                pair.driver.add(&[], &[piece], u64::from(number)).unwrap();
                ring.avail_entry(4 * round + number)
            })
            .collect();
        let _ = pair.driver.kick_prepare();
        for (place, number) in [2u16, 0, 3, 1].into_iter().enumerate() {
            ring.put_used_entry(4 * round + place as u16, heads[usize::from(number)].into(), number.into());
        }
        assert_eq!(pair.driver.get(), Ok(None), "entries count only once the index says so");
        ring.put_used_idx(4 * round + 4);
        let tokens: Vec<u64> =
            std::iter::from_fn(|| pair.driver.get().unwrap()).map(|done| done.token).collect();
        assert_eq!(tokens, [2, 0, 3, 1]);
        assert_eq!(pair.driver.free_descriptors(), 4);
    }
}
