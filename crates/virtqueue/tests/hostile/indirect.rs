//! Hostile indirect tables, and honest ones in awkward places.

use crate::rig::raw::{
    Bytes, INDIRECT, NEXT, PackedBytes, PackedDescriptor, SplitBytes, SplitDescriptor, WRITE, available,
    put_table, readable_bytes,
};
use crate::rig::{GUEST_START, Pair, REGION_LEN};
use vioduct_spec::Features;
use vioduct_virtqueue::{Chain, IoAddr, MemoryFault, QueueError};

/// Whether the ring is packed.
type Packed = bool;

/// One entry of a table, in a chain of `count`.
fn entry(packed: Packed, at: u64, len: u32, flags: u16, place: u16, count: u16) -> [u8; 16] {
    let last = place + 1 == count;
    if packed {
        PackedDescriptor(at, len, 0, flags).to_bytes()
    } else {
        SplitDescriptor(at, len, flags | if last { 0 } else { NEXT }, place + 1).to_bytes()
    }
}

fn pair(packed: Packed, size: u16, features: Features) -> Pair {
    Pair::new(size, features | if packed { Features::RING_PACKED } else { Features::NONE })
}

/// Offers one descriptor that refers to a table.
fn offer(pair: &mut Pair, at: u64, len: u32, flags: u16) -> Result<Option<Chain>, QueueError> {
    if pair.features.contains(Features::RING_PACKED) {
        let descriptor = PackedDescriptor(at, len, 0, flags | available(true));
        let index = pair.device.position().available.index;
        PackedBytes::of(pair).put_descriptor(index, descriptor);
    } else {
        let ring = SplitBytes::of(pair);
        ring.put_descriptor(0, SplitDescriptor(at, len, flags, 1));
        ring.offer(&[0]);
    }
    pair.device.pop()
}

#[test]
fn row05_tables_of_no_possible_length_are_refused() {
    for packed in [false, true] {
        for len in [0u32, 1, 15, 17, 31, 16 * 32769, 16 * 65536, 16 * 65537, u32::MAX, u32::MAX - 15] {
            let mut pair = pair(packed, 8, Features::INDIRECT_DESC);
            let outcome = offer(&mut pair, GUEST_START + 0x8000, len, INDIRECT);
            assert_eq!(outcome.err(), Some(QueueError::IndirectLength(len)), "packed {packed}");
        }
    }
}

#[test]
fn row05_a_table_longer_than_the_queue_is_refused() {
    for packed in [false, true] {
        let mut pair = pair(packed, 4, Features::INDIRECT_DESC);
        let (data, table) = (pair.alloc(8).addr.0, pair.alloc(256).addr.0);
        let entries: Vec<_> = (0..5).map(|place| entry(packed, data, 1, 0, place, 5)).collect();
        put_table(&*pair.memory, table, &entries);
        assert_eq!(offer(&mut pair, table, 80, INDIRECT).err(), Some(QueueError::ChainTooLong));
    }
}

#[test]
fn row05_a_table_within_a_table_is_refused() {
    for packed in [false, true] {
        let mut pair = pair(packed, 4, Features::INDIRECT_DESC);
        let table = pair.alloc(256).addr.0;
        // The table refers to itself.
        let entries = [entry(packed, table, 16, INDIRECT, 0, 1)];
        put_table(&*pair.memory, table, &entries);
        assert_eq!(offer(&mut pair, table, 16, INDIRECT).err(), Some(QueueError::Indirect));
    }
}

#[test]
fn row05_a_table_with_a_successor_is_refused() {
    for packed in [false, true] {
        let mut pair = pair(packed, 4, Features::INDIRECT_DESC);
        let (data, table) = (pair.alloc(8).addr.0, pair.alloc(256).addr.0);
        put_table(&*pair.memory, table, &[entry(packed, data, 1, 0, 0, 1)]);
        assert_eq!(offer(&mut pair, table, 16, INDIRECT | NEXT).err(), Some(QueueError::Indirect));
    }
}

#[test]
fn row05_a_table_that_was_not_negotiated_is_refused() {
    for packed in [false, true] {
        let mut pair = pair(packed, 4, Features::NONE);
        let (data, table) = (pair.alloc(8).addr.0, pair.alloc(256).addr.0);
        put_table(&*pair.memory, table, &[entry(packed, data, 1, 0, 0, 1)]);
        assert_eq!(offer(&mut pair, table, 16, INDIRECT).err(), Some(QueueError::Indirect));
    }
}

#[test]
fn row02_a_loop_within_a_table_ends_at_the_queue_size() {
    let mut pair = pair(false, 8, Features::INDIRECT_DESC);
    let table = pair.alloc(64).addr.0;
    for (first, second) in [(0, 0), (1, 0), (1, 1)] {
        let entries = [first, second].map(|next| SplitDescriptor(GUEST_START, 1, NEXT, next).to_bytes());
        put_table(&*pair.memory, table, &entries);
        let outcome = offer(&mut pair, table, 32, INDIRECT);
        assert_eq!(outcome.err(), Some(QueueError::ChainTooLong), "{first} {second}");
        pair.device = pair.device_at(vioduct_virtqueue::QueuePosition::START);
        SplitBytes::of(&pair).put_avail_idx(0);
    }
}

#[test]
fn row03_no_link_beyond_a_table_is_followed() {
    for bad in [2u16, 3, 7, 0xffff] {
        let mut pair = pair(false, 8, Features::INDIRECT_DESC);
        let table = pair.alloc(256).addr.0;
        let entries = [1, bad].map(|next| SplitDescriptor(GUEST_START, 1, NEXT, next).to_bytes());
        put_table(&*pair.memory, table, &entries);
        assert_eq!(offer(&mut pair, table, 32, INDIRECT).err(), Some(QueueError::DescriptorIndex(bad)));
    }
}

#[test]
fn row04_lengths_within_a_table_add_up_without_wrapping() {
    for packed in [false, true] {
        let mut pair = Pair::with_tables(
            2048,
            Features::INDIRECT_DESC | if packed { Features::RING_PACKED } else { Features::NONE },
            1,
        );
        let table = pair.alloc(16 * 2048).addr.0;
        let entries: Vec<_> = (0..2048)
            .map(|place| {
                let flags = if place < 1024 { 0 } else { WRITE };
                entry(packed, GUEST_START, REGION_LEN as u32, flags, place, 2048)
            })
            .collect();
        put_table(&*pair.memory, table, &entries);
        let outcome = offer(&mut pair, table, 16 * 2048, INDIRECT);
        assert_eq!(outcome.err(), Some(QueueError::LengthOverflow));
    }
}

#[test]
fn row10_a_table_at_any_address_is_read_right() {
    for packed in [false, true] {
        for off in 0..16 {
            let mut pair = pair(packed, 4, Features::INDIRECT_DESC);
            let (data, table) = (pair.alloc(16).addr.0, pair.alloc(128).addr.0 / 16 * 16 + 16 + off);
            pair.memory.put(data, b"abcdefgh");
            let entries = [
                entry(packed, data, 3, 0, 0, 3),
                entry(packed, data + 5, 2, 0, 1, 3),
                entry(packed, data + 8, 4, WRITE, 2, 3),
            ];
            put_table(&*pair.memory, table, &entries);
            let chain = offer(&mut pair, table, 48, INDIRECT).unwrap().unwrap();
            assert_eq!(readable_bytes(&chain), b"abcfg", "packed {packed}, {off} off");
            assert_eq!(chain.writable_len(), 4);
            pair.device.complete(chain, 0).unwrap();
        }
    }
}

#[test]
fn row10_a_table_across_two_regions_is_read_right() {
    let border = GUEST_START + REGION_LEN as u64;
    for packed in [false, true] {
        for before in [1u64, 8, 15, 16, 17, 32, 47] {
            let mut pair = pair(packed, 4, Features::INDIRECT_DESC);
            let data = pair.alloc(16).addr.0;
            pair.memory.put(data, b"abcdefgh");
            let table = border - before;
            let entries = [0, 1, 2].map(|n| entry(packed, data + u64::from(n), 1, 0, n, 3));
            put_table(&*pair.memory, table, &entries);
            let chain = offer(&mut pair, table, 48, INDIRECT).unwrap().unwrap();
            assert_eq!(readable_bytes(&chain), b"abc", "packed {packed}, {before} before the border");
            chain.discard();
        }
    }
}

#[test]
fn row10_a_table_beyond_memory_is_a_fault() {
    let end = GUEST_START + 2 * REGION_LEN as u64;
    for packed in [false, true] {
        for at in [end - 16, end - 1, end, 0, GUEST_START - 16, u64::MAX - 31, u64::MAX - 15, u64::MAX] {
            let mut pair = pair(packed, 4, Features::INDIRECT_DESC);
            if at == end - 16 {
                // The first entry is there, the second is not.
                pair.memory.poke(at, &entry(packed, GUEST_START, 1, 0, 0, 2));
            }
            match offer(&mut pair, at, 32, INDIRECT) {
                // Whoever finds it may say where exactly.
                Err(QueueError::Memory(MemoryFault { at: IoAddr(found), .. })) => {
                    assert!(found.wrapping_sub(at) < 32, "{found:#x} for {at:#x}");
                }
                other => panic!("packed {packed}, {at:#x}: {other:?}"),
            }
        }
    }
}

#[test]
fn row02_empty_entries_do_not_make_a_table_longer() {
    for packed in [false, true] {
        let mut pair = pair(packed, 8, Features::INDIRECT_DESC);
        let table = pair.alloc(256).addr.0;
        let entries: Vec<_> = (0..8).map(|place| entry(packed, 0, 0, 0, place, 8)).collect();
        put_table(&*pair.memory, table, &entries);
        let chain = offer(&mut pair, table, 128, INDIRECT).unwrap().unwrap();
        assert!(chain.readable().is_empty() && chain.writable().is_empty());
        pair.device.complete(chain, 4).unwrap();
    }
}

#[test]
fn row02_direct_descriptors_count_together_with_the_table_behind_them() {
    for (direct, entries) in (0..4u16).flat_map(|direct| (1..=4u16).map(move |entries| (direct, entries))) {
        let mut pair = pair(false, 4, Features::INDIRECT_DESC);
        let table = pair.alloc(256).addr.0;
        let content: Vec<_> = (0..entries).map(|n| entry(false, GUEST_START, 1, 0, n, entries)).collect();
        put_table(&*pair.memory, table, &content);
        let ring = SplitBytes::of(&pair);
        for index in 0..direct {
            ring.put_descriptor(index, SplitDescriptor(GUEST_START, 1, NEXT, index + 1));
        }
        ring.put_descriptor(direct, SplitDescriptor(table, 16 * u32::from(entries), INDIRECT, 0));
        ring.offer(&[0]);
        match pair.device.pop() {
            Ok(chain) => {
                let chain = chain.unwrap();
                assert_eq!(chain.readable_len(), u64::from(direct + entries));
                chain.discard();
                assert!(direct + entries <= 4, "{direct} and {entries}");
            }
            Err(fault) => {
                assert_eq!((fault, direct + entries > 4), (QueueError::ChainTooLong, true));
            }
        }
    }
}
