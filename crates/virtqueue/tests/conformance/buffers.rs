//! What a device makes of buffers, whatever the layout (virtio 1.3 §2.7.4).

use crate::rig::Pair;
use crate::rig::raw::{
    NEXT, PackedBytes, PackedDescriptor, SplitBytes, SplitDescriptor, WRITE, available, used,
};
use vioduct_spec::Features;
use vioduct_virtqueue::{BufferError, Chain, QueueError};

/// Pieces of one buffer: address, length, `WRITE` or 0.
type Pieces = Vec<(u64, u32, u16)>;

/// Puts pieces at the start of a fresh ring of either layout, and pops them.
fn pop(pair: &mut Pair, pieces: &Pieces) -> Result<Option<Chain>, QueueError> {
    let packed = pair.features.contains(Features::RING_PACKED);
    for (index, (addr, len, flags)) in (0u16..).zip(pieces) {
        let next = if usize::from(index) + 1 < pieces.len() { NEXT } else { 0 };
        if packed {
            let descriptor = PackedDescriptor(*addr, *len, 1, flags | next | available(true));
            PackedBytes::of(pair).put_descriptor(index, descriptor);
        } else {
            SplitBytes::of(pair).put_descriptor(index, SplitDescriptor(*addr, *len, flags | next, index + 1));
        }
    }
    if !packed {
        SplitBytes::of(pair).offer(&[0]);
    }
    pair.device.pop()
}

/// `len` bytes cut in `count` pieces as unequal as they come, one of them empty.
fn cut(at: u64, len: u32, count: u32, flags: u16) -> Pieces {
    let ends = (0..=count).map(|piece| (len * piece * piece) / (count * count));
    let ends: Vec<u32> = ends.collect();
    ends.windows(2).map(|two| (at + u64::from(two[0]), two[1] - two[0], flags)).collect()
}

const LAYOUTS: [Features; 2] = [Features::NONE, Features::RING_PACKED];

#[test]
fn s2_7_4_1_no_assumption_is_made_about_framing() {
    for features in LAYOUTS {
        for (readable, writable) in (1..=6).flat_map(|a| (1..=6).map(move |b| (a, b))) {
            let mut pair = Pair::new(16, features);
            let (request, reply) = (pair.alloc(14), pair.alloc(14));
            pair.memory.put(request.addr.0, &(1..=14).collect::<Vec<u8>>());
            let mut pieces = cut(request.addr.0, 14, readable, 0);
            pieces.extend(cut(reply.addr.0, 14, writable, WRITE));
            let chain = pop(&mut pair, &pieces).unwrap().unwrap();
            let mut reader = chain.reader();
            assert_eq!(reader.read_u16().unwrap(), 0x0201);
            assert_eq!(reader.read_u32().unwrap(), 0x0605_0403);
            assert_eq!(reader.read_u64().unwrap(), 0x0e0d_0c0b_0a09_0807);
            assert_eq!(reader.read_array::<1>(), Err(BufferError::Short { wanted: 1, remaining: 0 }));
            let mut writer = chain.writer();
            writer.write_u16(0x0201).unwrap();
            writer.write_u32(0x0605_0403).unwrap();
            writer.write_u64(0x0e0d_0c0b_0a09_0807).unwrap();
            assert_eq!(writer.write_u16(0), Err(BufferError::Short { wanted: 2, remaining: 0 }));
            assert_eq!(pair.memory.bytes(reply.addr.0, 14), (1..=14).collect::<Vec<u8>>());
            pair.device.complete(chain, 14).unwrap();
        }
    }
}

#[test]
fn s2_7_4_2_a_readable_piece_after_a_writable_one_is_refused() {
    for features in LAYOUTS {
        let mut pair = Pair::new(4, features);
        let data = pair.alloc(8).addr.0;
        let pieces = vec![(data, 4, 0), (data, 4, WRITE), (data, 4, 0)];
        assert_eq!(pop(&mut pair, &pieces).err(), Some(QueueError::Order), "{features}");
    }
}

#[test]
fn s2_7_5_1_a_writer_has_no_way_into_readable_pieces() {
    for features in LAYOUTS {
        let mut pair = Pair::new(4, features);
        let data = pair.alloc(8).addr.0;
        let chain = pop(&mut pair, &vec![(data, 8, 0)]).unwrap().unwrap();
        assert_eq!(chain.writer().write(&[1; 8]), Ok(0));
        assert!(chain.writable().is_empty());
        chain.mark_written(8);
        pair.device.complete(chain, 8).unwrap();
        let _ = pair.device.publish().unwrap();
        assert_eq!(pair.memory.bytes(data, 8), [0; 8]);
        if features == Features::NONE {
            assert_eq!(SplitBytes::of(&pair).used_entry(0), (0, 0));
        } else {
            assert_eq!(PackedBytes::of(&pair).descriptor(0), PackedDescriptor(data, 0, 1, used(true)));
        }
    }
}
