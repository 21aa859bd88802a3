//! Split rings, device end, and what both ends agree on (virtio 1.3 §2.7).

use crate::rig::patchwork::{Patchwork, Place};
use crate::rig::raw::{INDIRECT, NEXT, SplitBytes, SplitDescriptor, WRITE, put_table};
use crate::rig::{GUEST_START, Pair};
use std::sync::Arc;
use vioduct_spec::Features;
use vioduct_virtqueue::{
    Access, AreaSizes, IoAddr, Memory, Queue, QueueError, QueuePosition, RingFormat, RingLayout, SetupError,
    is_valid_size,
};

fn split(size: u16, features: Features) -> (Pair, SplitBytes) {
    let pair = Pair::new(size, features);
    let ring = SplitBytes::of(&pair);
    (pair, ring)
}

#[test]
fn s2_7_parts_have_the_sizes_and_alignments_of_the_table() {
    for size in [1u16, 2, 4, 256, 32768] {
        let sizes = AreaSizes::of(RingFormat::Split, size);
        let bytes = usize::from(size);
        assert_eq!(
            (sizes.descriptor_len, sizes.driver_len, sizes.device_len),
            (16 * bytes, 6 + 2 * bytes, 6 + 8 * bytes)
        );
        assert_eq!(sizes.driver_align, 2);
    }
}

#[test]
fn s2_7_queue_size_is_a_power_of_two_up_to_32768() {
    let valid: Vec<u16> = (0..=u16::MAX).filter(|size| is_valid_size(RingFormat::Split, *size)).collect();
    assert_eq!(valid, (0..=15).map(|shift| 1u16 << shift).collect::<Vec<_>>());
    let pair = Pair::new(4, Features::NONE);
    for size in [0, 3, 6, 32769, 65535] {
        let layout = RingLayout { size, ..pair.driver.layout() };
        let refused = Queue::new(pair.memory.clone(), layout, Features::VERSION_1, QueuePosition::START);
        assert_eq!(refused.err(), Some(SetupError::Size(size)));
    }
}

#[test]
fn s2_7_1_misaligned_parts_are_refused() {
    let pair = Pair::new(4, Features::NONE);
    let good = pair.driver.layout();
    let queue = |layout| Queue::new(pair.memory.clone(), layout, Features::NONE, QueuePosition::START);
    for off in 1..16 {
        let descriptor_area = IoAddr(good.descriptor_area.0 + off);
        let refused = queue(RingLayout { descriptor_area, ..good }).err();
        assert_eq!(refused, Some(SetupError::Alignment(descriptor_area, 16)));
    }
    let driver_area = IoAddr(good.driver_area.0 + 1);
    assert_eq!(queue(RingLayout { driver_area, ..good }).err(), Some(SetupError::Alignment(driver_area, 2)));
    for off in 1..4 {
        let device_area = IoAddr(good.device_area.0 + off);
        let refused = queue(RingLayout { device_area, ..good }).err();
        assert_eq!(refused, Some(SetupError::Alignment(device_area, 4)));
    }
    // The least alignment of each part is enough.
    let driver_area = IoAddr(good.driver_area.0 + 2);
    let device_area = IoAddr(good.device_area.0 + 4);
    assert!(queue(RingLayout { driver_area, device_area, ..good }).is_ok());
}

#[test]
fn s2_7_5_1_no_descriptor_and_no_readable_buffer_is_written() {
    // Where the device may not write at all, every request still works.
    let (size, base) = (4u16, 0x10_0000u64);
    let memory = Arc::new(
        Patchwork::default()
            .with(base, 0x1000, Access::Read, Place::Mapped)
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
    let mut device = Queue::new(shared, layout, Features::NONE, QueuePosition::START).unwrap();
    let ring = SplitBytes { memory: memory.clone(), layout };
    ring.put_descriptor(0, SplitDescriptor(base + 0x3000, 8, NEXT, 1));
    ring.put_descriptor(1, SplitDescriptor(base + 0x4000, 8, WRITE, 0));
    ring.memory.poke(base + 0x3000, &0x0102_0304_0506_0708u64.to_le_bytes());
    let before = (ring.descriptor_bytes(), ring.driver_bytes());
    for round in 0..10u64 {
        ring.offer(&[0]);
        let chain = device.pop().unwrap().unwrap();
        assert_eq!(chain.reader().read_u64().unwrap(), 0x0102_0304_0506_0708);
        chain.writer().write_u64(round).unwrap();
        device.complete(chain, 8).unwrap();
        let _ = device.publish().unwrap();
        assert_eq!(ring.used_entry(round as u16), (0, 8));
        assert_eq!(ring.memory.peek(base + 0x4000, 8), round.to_le_bytes());
    }
    assert_eq!(ring.descriptor_bytes(), before.0);
    assert_eq!(ring.driver_bytes()[4..], before.1[4..], "the available ring is the driver's alone");
}

#[test]
fn s2_7_5_3_2_write_flag_on_the_descriptor_of_a_table_is_ignored() {
    for flags in [INDIRECT, INDIRECT | WRITE] {
        let (mut pair, ring) = split(4, Features::INDIRECT_DESC);
        let [table, readable, writable] = [32, 8, 4].map(|len| pair.alloc(len));
        let entries = [
            SplitDescriptor(readable.addr.0, 8, NEXT, 1).to_bytes(),
            SplitDescriptor(writable.addr.0, 4, WRITE, 0).to_bytes(),
        ];
        put_table(&*ring.memory, table.addr.0, &entries);
        ring.put_descriptor(2, SplitDescriptor(table.addr.0, 32, flags, 0));
        ring.offer(&[2]);
        let chain = pair.device.pop().unwrap().unwrap();
        assert_eq!((chain.id(), chain.readable_len(), chain.writable_len()), (2, 8, 4));
        pair.device.complete(chain, 0).unwrap();
    }
}

#[test]
fn s2_7_5_3_2_direct_descriptors_may_precede_a_table() {
    for direct in 0..4u16 {
        let (mut pair, ring) = split(8, Features::INDIRECT_DESC);
        let (data, table) = (pair.alloc(64), pair.alloc(64));
        pair.memory.put(data.addr.0, &(0..64).collect::<Vec<u8>>());
        let mut expected = Vec::new();
        for index in 0..direct {
            let at = data.addr.0 + 2 * u64::from(index);
            ring.put_descriptor(index, SplitDescriptor(at, 2, NEXT, index + 1));
            expected.extend([2 * index as u8, 2 * index as u8 + 1]);
        }
        let entries = [
            SplitDescriptor(data.addr.0 + 40, 3, NEXT, 2).to_bytes(),
            SplitDescriptor(0, 99, 0, 99).to_bytes(),
            SplitDescriptor(data.addr.0 + 50, 5, WRITE, 0).to_bytes(),
        ];
        expected.extend([40, 41, 42]);
        put_table(&*ring.memory, table.addr.0, &entries);
        ring.put_descriptor(direct, SplitDescriptor(table.addr.0, 48, INDIRECT, 0));
        ring.offer(&[0]);
        let chain = pair.device.pop().unwrap().unwrap();
        assert_eq!(crate::rig::raw::readable_bytes(&chain), expected, "{direct} before the table");
        assert_eq!(chain.writable_len(), 5);
        pair.device.complete(chain, 0).unwrap();
    }
}

#[test]
fn s2_7_5_3_a_table_ends_where_next_is_clear() {
    let (mut pair, ring) = split(4, Features::INDIRECT_DESC);
    let (data, table) = (pair.alloc(64), pair.alloc(64));
    // Not in sequence, and shorter than the table: both are allowed without IN_ORDER.
    let entries = [
        SplitDescriptor(data.addr.0, 1, NEXT, 3).to_bytes(),
        SplitDescriptor(data.addr.0 + 2, 1, 0, 3).to_bytes(),
        SplitDescriptor(0, 0, 0xffff, 0xffff).to_bytes(),
        SplitDescriptor(data.addr.0 + 1, 1, NEXT, 1).to_bytes(),
    ];
    pair.memory.put(data.addr.0, b"abc");
    put_table(&*ring.memory, table.addr.0, &entries);
    ring.put_descriptor(0, SplitDescriptor(table.addr.0, 64, INDIRECT, 0));
    ring.offer(&[0]);
    let chain = pair.device.pop().unwrap().unwrap();
    assert_eq!(crate::rig::raw::readable_bytes(&chain), b"abc");
    pair.device.complete(chain, 0).unwrap();
}

#[test]
fn s2_7_5_3_1_a_table_longer_than_the_queue_counts_only_by_its_chain() {
    let (mut pair, ring) = split(2, Features::INDIRECT_DESC);
    let (data, table) = (pair.alloc(8), pair.alloc(16 * 16));
    let entry = |next: u16| SplitDescriptor(data.addr.0, 1, NEXT, next).to_bytes();
    put_table(&*ring.memory, table.addr.0, &[entry(15)]);
    put_table(&*ring.memory, table.addr.0 + 15 * 16, &[SplitDescriptor(data.addr.0, 1, 0, 0).to_bytes()]);
    ring.put_descriptor(0, SplitDescriptor(table.addr.0, 256, INDIRECT, 0));
    ring.offer(&[0]);
    let chain = pair.device.pop().unwrap().unwrap();
    assert_eq!(chain.readable_len(), 2);
    pair.device.complete(chain, 0).unwrap();
    put_table(&*ring.memory, table.addr.0, &[entry(1), entry(2), entry(3), entry(4)]);
    ring.offer(&[0]);
    assert_eq!(pair.device.pop().err(), Some(QueueError::ChainTooLong));
}

#[test]
fn s2_7_8_2_len_and_entry_stand_before_the_index_moves() {
    let (mut pair, ring) = split(4, Features::NONE);
    let writable = pair.alloc(8);
    for index in 0..2 {
        ring.put_descriptor(index, SplitDescriptor(writable.addr.0, 8, WRITE, 0));
    }
    ring.offer(&[1, 0]);
    let (first, second) = (pair.device.pop().unwrap().unwrap(), pair.device.pop().unwrap().unwrap());
    second.writer().write_u16(2).unwrap();
    pair.device.complete(second, 2).unwrap();
    assert_eq!((ring.used_entry(0), ring.used_idx()), ((0, 2), 0));
    first.writer().write_u32(4).unwrap();
    pair.device.complete(first, 4).unwrap();
    assert_eq!((ring.used_entry(1), ring.used_idx()), ((1, 4), 0));
    let _ = pair.device.publish().unwrap();
    assert_eq!((ring.used_entry(0), ring.used_entry(1), ring.used_idx()), ((0, 2), (1, 4), 2));
}

#[test]
fn s2_7_8_2_no_more_bytes_are_reported_than_were_written_from_the_start() {
    let (mut pair, ring) = split(8, Features::NONE);
    let (a, b) = (pair.alloc(3), pair.alloc(5));
    ring.put_descriptor(0, SplitDescriptor(a.addr.0, 3, WRITE | NEXT, 1));
    ring.put_descriptor(1, SplitDescriptor(b.addr.0, 5, WRITE, 0));
    // Bytes written, bytes claimed, bytes reported.
    let cases = [(0, 8, 0), (4, 8, 4), (4, 2, 2), (8, 8, 8), (8, u32::MAX, 8), (5, 0, 0)];
    for (round, (written, claimed, reported)) in cases.into_iter().enumerate() {
        ring.offer(&[0]);
        let chain = pair.device.pop().unwrap().unwrap();
        chain.writer().write_all(&vec![0xa5; written]).unwrap();
        pair.device.complete(chain, claimed).unwrap();
        let _ = pair.device.publish().unwrap();
        assert_eq!(ring.used_entry(round as u16), (0, reported), "{written} written, {claimed} claimed");
    }
}

#[test]
fn s2_7_8_used_index_counts_on_through_the_ring_and_65536() {
    let (mut pair, ring) = split(2, Features::NONE);
    let piece = pair.alloc(1);
    ring.put_descriptor(0, SplitDescriptor(piece.addr.0, 1, 0, 0));
    ring.put_descriptor(1, SplitDescriptor(piece.addr.0, 1, 0, 0));
    for round in 0..66_000u32 {
        let head = (round % 2) as u16;
        ring.offer(&[head]);
        let chain = pair.device.pop().unwrap().unwrap();
        assert_eq!(chain.id(), head);
        pair.device.complete(chain, 0).unwrap();
        let _ = pair.device.publish().unwrap();
        assert_eq!(ring.used_idx(), (round + 1) as u16);
        assert_eq!(ring.used_entry(round as u16), (u32::from(head), 0));
    }
    assert_eq!(pair.device.position().used.index, (66_000u32 % 65_536) as u16);
}

#[test]
fn s2_7_13_nothing_is_taken_before_the_index_exposes_it() {
    let (mut pair, ring) = split(4, Features::NONE);
    let piece = pair.alloc(1);
    ring.put_descriptor(3, SplitDescriptor(piece.addr.0, 1, 0, 0));
    ring.put_avail_entry(0, 3);
    assert!(pair.device.pop().unwrap().is_none());
    ring.put_avail_idx(1);
    let chain = pair.device.pop().unwrap().unwrap();
    assert_eq!(chain.id(), 3);
    pair.device.complete(chain, 0).unwrap();
    assert!(pair.device.pop().unwrap().is_none());
}

#[test]
fn s2_7_13_a_full_ring_is_told_from_an_empty_one() {
    for size in [1u16, 2, 8, 32768] {
        let mut pair = Pair::with_tables(size, Features::NONE, 1);
        let ring = SplitBytes::of(&pair);
        let heads: Vec<u16> = (0..size).collect();
        for head in &heads {
            ring.put_descriptor(*head, SplitDescriptor(GUEST_START, 1, 0, 0));
            ring.put_avail_entry(*head, *head);
        }
        ring.put_avail_idx(size);
        for head in heads {
            let chain = pair.device.pop().unwrap().unwrap();
            assert_eq!(chain.id(), head);
            pair.device.complete(chain, 0).unwrap();
        }
        assert!(pair.device.pop().unwrap().is_none());
        let _ = pair.device.publish().unwrap();
        assert_eq!(ring.used_idx(), size);
    }
}
