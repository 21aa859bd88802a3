//! Packed rings, device end, and what both ends agree on (virtio 1.3 §2.8).

use crate::rig::patchwork::{Patchwork, Place};
use crate::rig::raw::{
    INDIRECT, NEXT, PackedBytes, PackedDescriptor, WRITE, available, put_table, readable_bytes, used,
};
use crate::rig::{GUEST_START, Pair};
use std::sync::Arc;
use vioduct_spec::Features;
use vioduct_virtqueue::{
    Access, AreaSizes, IoAddr, Memory, Queue, QueueError, QueuePosition, RingFormat, RingLayout, SetupError,
    is_valid_size,
};

fn packed(size: u16, features: Features) -> (Pair, PackedBytes) {
    let pair = Pair::new(size, features | Features::RING_PACKED);
    let ring = PackedBytes::of(&pair);
    (pair, ring)
}

/// One available descriptor of one readable byte.
fn byte(id: u16, wrap: bool) -> PackedDescriptor {
    PackedDescriptor(GUEST_START, 1, id, available(wrap))
}

#[test]
fn s2_8_10_1_parts_have_the_sizes_and_alignments_of_the_table() {
    for size in [1u16, 3, 7, 256, 32768] {
        let sizes = AreaSizes::of(RingFormat::Packed, size);
        assert_eq!(sizes.descriptor_len, 16 * usize::from(size));
        assert_eq!((sizes.driver_len, sizes.device_len, sizes.driver_align), (4, 4, 4));
    }
}

#[test]
fn s2_8_10_1_any_size_up_to_32768_will_do() {
    let valid = (0..=u16::MAX).filter(|size| is_valid_size(RingFormat::Packed, *size));
    assert!(valid.eq(1..=32768));
    let (pair, _) = packed(4, Features::NONE);
    for size in [0, 32769, 65535] {
        let layout = RingLayout { size, ..pair.driver.layout() };
        let refused = Queue::new(pair.memory.clone(), layout, pair.features, QueuePosition::START);
        assert_eq!(refused.err(), Some(SetupError::Size(size)));
    }
}

#[test]
fn s2_8_11_misaligned_parts_are_refused() {
    let (pair, _) = packed(4, Features::NONE);
    let good = pair.driver.layout();
    let queue = |layout| Queue::new(pair.memory.clone(), layout, pair.features, QueuePosition::START).err();
    for off in 1..16 {
        let descriptor_area = IoAddr(good.descriptor_area.0 + off);
        let expected = Some(SetupError::Alignment(descriptor_area, 16));
        assert_eq!(queue(RingLayout { descriptor_area, ..good }), expected);
    }
    for off in 1..4 {
        let driver_area = IoAddr(good.driver_area.0 + off);
        let device_area = IoAddr(good.device_area.0 + off);
        assert_eq!(queue(RingLayout { driver_area, ..good }), Some(SetupError::Alignment(driver_area, 4)));
        assert_eq!(queue(RingLayout { device_area, ..good }), Some(SetupError::Alignment(device_area, 4)));
    }
}

#[test]
fn s2_8_1_the_wrap_counters_start_at_1_and_flip_after_the_last_descriptor() {
    for size in 1..=7u16 {
        let (mut pair, ring) = packed(size, Features::NONE);
        let mut wrap = true;
        for step in 0..6 * size {
            let index = step % size;
            // Marked with the other value it is not available.
            ring.put_descriptor(index, byte(step % 3 % size, !wrap));
            assert!(pair.device.pop().unwrap().is_none(), "size {size}, step {step}");
            ring.put_descriptor(index, byte(step % 3 % size, wrap));
            let chain = pair.device.pop().unwrap().unwrap();
            assert_eq!(chain.id(), step % 3 % size);
            pair.device.complete(chain, 0).unwrap();
            let _ = pair.device.publish().unwrap();
            assert_eq!(ring.flags(index), used(wrap), "size {size}, step {step}");
            wrap ^= index + 1 == size;
        }
    }
}

#[test]
fn s2_8_15_a_descriptor_is_used_only_after_its_avail_bit_has_changed() {
    for size in 1..=4u16 {
        let (mut pair, ring) = packed(size, Features::NONE);
        let mut wrap = true;
        for lap in 0..4 {
            for index in 0..size {
                // Zero at first, later what the last lap left; and used by this lap's counter.
                assert!(pair.device.pop().unwrap().is_none(), "lap {lap}");
                let kept = ring.descriptor(index);
                ring.put_descriptor(index, PackedDescriptor(kept.0, kept.1, kept.2, used(wrap)));
                assert!(pair.device.pop().unwrap().is_none(), "lap {lap}");
                ring.put_descriptor(index, byte(0, wrap));
                let chain = pair.device.pop().unwrap().unwrap();
                assert!(pair.device.pop().unwrap().is_none(), "not a second time, lap {lap}");
                pair.device.complete(chain, 0).unwrap();
                let _ = pair.device.publish().unwrap();
            }
            wrap = !wrap;
        }
    }
}

#[test]
fn s2_8_2_only_the_next_place_is_polled() {
    let (mut pair, ring) = packed(4, Features::NONE);
    ring.put_descriptor(1, byte(1, true));
    ring.put_descriptor(3, byte(3, true));
    assert!(pair.device.pop().unwrap().is_none());
    ring.put_descriptor(0, byte(0, true));
    let mut ids = Vec::new();
    while let Some(chain) = pair.device.pop().unwrap() {
        ids.push(chain.id());
        chain.discard();
    }
    assert_eq!(ids, [0, 1], "2 is missing, so 3 waits");
}

#[test]
fn s2_8_3_the_write_flag_of_a_used_descriptor_says_whether_anything_was_written() {
    let (mut pair, ring) = packed(3, Features::NONE);
    let data = pair.alloc(8).addr.0;
    // Flags of the buffer, bytes written, length reported.
    let cases =
        [(WRITE, 0u32, 0), (WRITE, 1, WRITE), (0, 0, 0), (WRITE, 8, WRITE), (0, 0, 0), (WRITE, 3, WRITE)];
    let (mut index, mut wrap) = (0, true);
    for (flags, written, expected) in cases {
        ring.put_descriptor(index, PackedDescriptor(data, 8, 2, flags | available(wrap)));
        let chain = pair.device.pop().unwrap().unwrap();
        chain.writer().write_all(&vec![7; written as usize]).unwrap();
        pair.device.complete(chain, u32::MAX).unwrap();
        let _ = pair.device.publish().unwrap();
        let PackedDescriptor(_, len, id, shown) = ring.descriptor(index);
        // virtio 1.3 §2.8.4: the length is what has been written.
        assert_eq!((len, id, shown), (written, 2, used(wrap) | expected));
        (index, wrap) = if index == 2 { (0, !wrap) } else { (index + 1, wrap) };
    }
}

#[test]
fn s2_8_5_lists_and_tables_mix_in_one_ring() {
    let (mut pair, ring) = packed(5, Features::INDIRECT_DESC);
    let (data, table) = (pair.alloc(8).addr.0, pair.alloc(32).addr.0);
    pair.memory.put(data, b"abcdefgh");
    let entry = |at: u64, len: u32| PackedDescriptor(at, len, 0, 0).to_bytes();
    put_table(&*ring.memory, table, &[entry(data + 4, 1), entry(data, 2)]);
    ring.put_descriptor(1, PackedDescriptor(data + 3, 3, 0, available(true)));
    ring.put_descriptor(2, PackedDescriptor(table, 32, 1, INDIRECT | available(true)));
    ring.put_descriptor(0, PackedDescriptor(data + 1, 1, 99, NEXT | available(true)));
    let shown: Vec<_> = (0..2)
        .map(|_| {
            let chain = pair.device.pop().unwrap().unwrap();
            let shown = (chain.id(), readable_bytes(&chain));
            chain.discard();
            shown
        })
        .collect();
    assert_eq!(shown, [(0, b"bdef".to_vec()), (1, b"eab".to_vec())]);
}

#[test]
fn s2_8_19_a_table_at_the_end_of_a_list_is_refused() {
    let (mut pair, ring) = packed(4, Features::INDIRECT_DESC);
    let (data, table) = (pair.alloc(8).addr.0, pair.alloc(16).addr.0);
    put_table(&*ring.memory, table, &[PackedDescriptor(data, 1, 0, 0).to_bytes()]);
    ring.put_descriptor(1, PackedDescriptor(table, 16, 0, INDIRECT | available(true)));
    ring.put_descriptor(0, PackedDescriptor(data, 1, 0, NEXT | available(true)));
    assert_eq!(pair.device.pop().err(), Some(QueueError::Indirect));
}

#[test]
fn s2_8_6_a_list_takes_its_id_from_its_last_descriptor_and_one_used_descriptor() {
    for size in 3..=7u16 {
        let (mut pair, ring) = packed(size, Features::NONE);
        let data = pair.alloc(8).addr.0;
        pair.memory.put(data, b"abc");
        let mut place = 0u16;
        for round in 0..5 * size {
            let wrap = |place: u16| (place / size).is_multiple_of(2);
            let id = round % size;
            for step in [2u16, 1, 0] {
                let flags = if step == 2 { 0 } else { NEXT } | available(wrap(place + step));
                let shown = if step == 2 { id } else { 0xdead };
                let descriptor = PackedDescriptor(data + u64::from(step), 1, shown, flags);
                ring.put_descriptor((place + step) % size, descriptor);
            }
            let rest: Vec<_> = [1, 2].map(|step| ring.descriptor((place + step) % size)).into();
            let chain = pair.device.pop().unwrap().unwrap();
            // virtio 1.3 §2.8.18: in the order of the list.
            assert_eq!((chain.id(), readable_bytes(&chain)), (id, b"abc".to_vec()));
            pair.device.complete(chain, 0).unwrap();
            let _ = pair.device.publish().unwrap();
            let PackedDescriptor(_, len, shown, flags) = ring.descriptor(place % size);
            assert_eq!((len, shown, flags), (0, id, used(wrap(place))));
            let after: Vec<_> = [1, 2].map(|step| ring.descriptor((place + step) % size)).into();
            assert_eq!(after, rest, "one used descriptor for the whole list");
            place += 3;
        }
    }
}

#[test]
fn s2_8_7_only_the_write_flag_of_a_tables_entries_counts() {
    let (mut pair, ring) = packed(4, Features::INDIRECT_DESC);
    let (data, table) = (pair.alloc(16).addr.0, pair.alloc(64).addr.0);
    pair.memory.put(data, b"abcdefgh");
    let others = !(INDIRECT | WRITE);
    let entries = [
        PackedDescriptor(data, 2, 0xffff, others).to_bytes(),
        PackedDescriptor(data + 5, 1, 0, 0).to_bytes(),
        PackedDescriptor(data + 8, 3, 77, WRITE | others).to_bytes(),
    ];
    put_table(&*ring.memory, table, &entries);
    // WRITE on the descriptor that refers to the table is ignored, too.
    for flags in [INDIRECT | WRITE, INDIRECT] {
        let index = pair.device.position().available.index;
        ring.put_descriptor(index, PackedDescriptor(table, 48, 3, flags | available(true)));
        let chain = pair.device.pop().unwrap().unwrap();
        assert_eq!((chain.id(), readable_bytes(&chain)), (3, b"abf".to_vec()));
        assert_eq!(chain.writable_len(), 3);
        pair.device.complete(chain, 0).unwrap();
        let _ = pair.device.publish().unwrap();
    }
    assert_eq!(pair.device.position().used.index, 2, "a table is one descriptor of the ring");
}

#[test]
fn s2_8_9_the_first_of_a_batch_is_marked_used_last() {
    for size in 3..=7u16 {
        let (mut pair, ring) = packed(size, Features::NONE);
        let wrap = |place: u16| (place / size).is_multiple_of(2);
        for first in (0..5 * size).step_by(3) {
            let places = [first, first + 1, first + 2];
            for place in places {
                ring.put_descriptor(place % size, byte(place % size, wrap(place)));
            }
            let before = ring.descriptor(first % size);
            for place in places {
                let chain = pair.device.pop().unwrap().unwrap();
                pair.device.complete(chain, 0).unwrap();
                assert_eq!(ring.descriptor(first % size), before, "at place {place}");
            }
            assert_eq!(ring.flags(places[2] % size), used(wrap(places[2])), "the others may be seen");
            let _ = pair.device.publish().unwrap();
            for place in places {
                assert_eq!(ring.flags(place % size), used(wrap(place)));
            }
        }
    }
}

#[test]
fn s2_8_12_processing_starts_in_ring_order_and_ends_in_order_of_completion() {
    let (mut pair, ring) = packed(4, Features::NONE);
    for (index, id) in [(0, 3), (1, 1), (2, 0), (3, 2)] {
        ring.put_descriptor(index, byte(id, true));
    }
    let mut chains: Vec<_> = (0..4).map(|_| Some(pair.device.pop().unwrap().unwrap())).collect();
    let ids: Vec<_> = chains.iter().flatten().map(|chain| chain.id()).collect();
    assert_eq!(ids, [3, 1, 0, 2]);
    for number in [2usize, 0, 3, 1] {
        pair.device.complete(chains[number].take().unwrap(), 0).unwrap();
    }
    let _ = pair.device.publish().unwrap();
    assert_eq!([0, 1, 2, 3].map(|index| ring.descriptor(index).2), [0, 3, 2, 1]);
}

#[test]
fn s2_8_15_a_descriptor_is_left_alone_once_marked_used_and_the_address_always() {
    let (mut pair, ring) = packed(4, Features::NONE);
    let data = pair.alloc(8).addr.0;
    for index in 0..4 {
        ring.put_descriptor(index, PackedDescriptor(data + u64::from(index), 1, index, available(true)));
    }
    let mut chains: Vec<_> = (0..4).map(|_| pair.device.pop().unwrap().unwrap()).collect();
    let mut shown: Vec<PackedDescriptor> = Vec::new();
    while let Some(chain) = chains.pop() {
        pair.device.complete(chain, 0).unwrap();
        let _ = pair.device.publish().unwrap();
        let (now, count) = ((0..4).map(|index| ring.descriptor(index)).collect::<Vec<_>>(), shown.len());
        assert_eq!(now[..count], shown, "used descriptors stay as they are");
        assert!((0..4).all(|index| now[index].0 == data + index as u64));
        shown = now[..=count].to_vec();
    }
}

#[test]
fn s2_8_15_no_readable_buffer_is_written() {
    let (size, base) = (4u16, 0x10_0000u64);
    let memory = Arc::new(
        Patchwork::default()
            .with(base, 0x1000, Access::ReadWrite, Place::Mapped)
            .with(base + 0x1000, 0x1000, Access::Read, Place::Mapped)
            .with(base + 0x2000, 0x1000, Access::Write, Place::Mapped)
            .with(base + 0x3000, 0x1000, Access::Read, Place::Mapped)
            .with(base + 0x4000, 0x1000, Access::Write, Place::Mapped),
    );
    let layout = RingLayout {
        size,
        descriptor_area: IoAddr(base),
        driver_area: IoAddr(base + 0x1000),
        device_area: IoAddr(base + 0x2000),
    };
    let shared: Arc<dyn Memory> = memory.clone();
    let mut device = Queue::new(shared, layout, Features::RING_PACKED, QueuePosition::START).unwrap();
    let ring = PackedBytes { memory: memory.clone(), layout };
    ring.memory.poke(base + 0x3000, b"request!");
    ring.put_descriptor(1, PackedDescriptor(base + 0x4000, 8, 0, WRITE | available(true)));
    ring.put_descriptor(0, PackedDescriptor(base + 0x3000, 8, 0, NEXT | available(true)));
    let chain = device.pop().unwrap().unwrap();
    assert_eq!(readable_bytes(&chain), b"request!");
    assert_eq!(chain.writer().write(b"response, cut").unwrap(), 8);
    device.complete(chain, 8).unwrap();
    let _ = device.publish().unwrap();
    assert_eq!(ring.memory.peek(base + 0x3000, 8), b"request!");
    assert_eq!(ring.memory.peek(base + 0x4000, 8), b"response");
    assert_eq!(device.arm().unwrap(), vioduct_virtqueue::MoreWork::None);
}
