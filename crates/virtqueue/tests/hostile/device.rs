//! A hostile driver and the ring's own fields, against the device end.

use crate::rig::patchwork::{Patchwork, Place};
use crate::rig::raw::{NEXT, PackedBytes, PackedDescriptor, SplitBytes, SplitDescriptor, WRITE, available};
use crate::rig::{GUEST_START, Pair, REGION_LEN};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vioduct_spec::Features;
use vioduct_virtqueue::{
    Access, BufferError, Burst, IoAddr, Memory, MoreWork, Next, Queue, QueueError, QueuePosition, RingIndex,
    RingLayout, SetupError, Single, Wrap,
};

fn split(size: u16, features: Features) -> (Pair, SplitBytes) {
    let pair = Pair::with_tables(size, features, 1);
    let ring = SplitBytes::of(&pair);
    (pair, ring)
}

fn packed(size: u16, features: Features) -> (Pair, PackedBytes) {
    let pair = Pair::with_tables(size, features | Features::RING_PACKED, 1);
    let ring = PackedBytes::of(&pair);
    (pair, ring)
}

/// Every operation says the same from now on.
fn assert_stopped(device: &mut Queue, fault: QueueError) {
    assert_eq!(device.fault(), Some(fault));
    assert_eq!(device.pop().err(), Some(fault));
    assert_eq!(device.pop_burst(&mut Burst::new(8), 8), Err(fault));
    assert_eq!(device.poll(), Err(fault));
    assert_eq!(device.arm(), Err(fault));
    assert_eq!(device.disarm(), Err(fault));
    assert_eq!(device.publish(), Err(fault));
}

#[test]
fn row01_an_index_more_than_the_queue_ahead_stops_the_queue() {
    for (size, index) in [(4u16, 5u16), (4, 32768), (4, 65535), (1, 2), (32768, 32769), (256, 257)] {
        let (mut pair, ring) = split(size, Features::NONE);
        ring.put_avail_idx(index);
        let fault = QueueError::AvailableIndex { found: index, processed: 0 };
        assert_eq!(pair.device.pop().err(), Some(fault));
        assert_stopped(&mut pair.device, fault);
        assert_eq!(pair.device.in_flight(), 0);
    }
}

#[test]
fn row01_an_index_that_goes_back_or_overtakes_stops_the_queue() {
    for (index, bad) in [(2u16, 1u16), (2, 0), (2, 65535), (2, 7)] {
        let (mut pair, ring) = split(4, Features::NONE);
        ring.put_descriptor(0, SplitDescriptor(GUEST_START, 1, 0, 0));
        ring.put_descriptor(1, SplitDescriptor(GUEST_START, 1, 0, 0));
        ring.offer(&[0, 1]);
        for _ in 0..2 {
            let chain = pair.device.pop().unwrap().unwrap();
            pair.device.complete(chain, 0).unwrap();
        }
        let _ = pair.device.publish().unwrap();
        ring.put_avail_idx(bad);
        let fault = QueueError::AvailableIndex { found: bad, processed: index };
        // Whoever looks first finds it.
        assert_eq!(if bad % 2 == 0 { pair.device.arm() } else { pair.device.poll() }, Err(fault));
        assert_stopped(&mut pair.device, fault);
    }
}

#[test]
fn row02_a_loop_of_descriptors_ends_at_the_queue_size() {
    for size in [1u16, 2, 8, 256] {
        for len in [0, 1] {
            for length in [1, size / 2, size] {
                let (mut pair, ring) = split(size, Features::NONE);
                for index in 0..size {
                    let next = (index + 1) % length.max(1);
                    ring.put_descriptor(index, SplitDescriptor(GUEST_START, len, NEXT, next));
                }
                ring.offer(&[0]);
                assert_eq!(pair.device.pop().err(), Some(QueueError::ChainTooLong), "size {size}");
                assert_stopped(&mut pair.device, QueueError::ChainTooLong);
            }
        }
    }
}

#[test]
fn row02_a_packed_list_without_end_ends_at_the_queue_size() {
    for size in (1..=7u16).chain([256]) {
        for len in [0, 1] {
            let (mut pair, ring) = packed(size, Features::NONE);
            for index in 0..size {
                ring.put_descriptor(index, PackedDescriptor(GUEST_START, len, 0, NEXT | available(true)));
            }
            assert_eq!(pair.device.pop().err(), Some(QueueError::ChainTooLong));
            assert_stopped(&mut pair.device, QueueError::ChainTooLong);
        }
    }
}

#[test]
fn row02_a_packed_list_does_not_run_into_descriptors_in_flight() {
    let (mut pair, ring) = packed(4, Features::NONE);
    ring.put_descriptor(0, PackedDescriptor(GUEST_START, 1, 0, available(true)));
    pair.device.pop().unwrap().unwrap().discard();
    for (index, wrap) in [(1, true), (2, true), (3, true), (0, false)] {
        let next = if index == 0 { 0 } else { NEXT };
        ring.put_descriptor(index, PackedDescriptor(GUEST_START, 1, 1, next | available(wrap)));
    }
    assert_eq!(pair.device.pop().err(), Some(QueueError::ChainTooLong));
}

#[test]
fn row03_no_index_beyond_the_table_is_followed() {
    for bad in [4u16, 5, 0x8000, 0xffff] {
        let (mut pair, ring) = split(4, Features::NONE);
        ring.offer(&[bad]);
        assert_eq!(pair.device.pop().err(), Some(QueueError::DescriptorIndex(bad)));
        assert_stopped(&mut pair.device, QueueError::DescriptorIndex(bad));
        let (mut pair, ring) = split(4, Features::NONE);
        ring.put_descriptor(2, SplitDescriptor(GUEST_START, 1, NEXT, 3));
        ring.put_descriptor(3, SplitDescriptor(GUEST_START, 1, NEXT, bad));
        ring.offer(&[2]);
        assert_eq!(pair.device.pop().err(), Some(QueueError::DescriptorIndex(bad)));
    }
}

#[test]
fn row04_lengths_that_reach_2_to_the_32_are_refused() {
    // The same 4 MiB over and over: 1024 times are 2^32 bytes.
    let whole = REGION_LEN as u32;
    for (first, last, flags, fits) in [
        (whole, whole, 0, false),
        (whole, whole - 1, 0, true),
        (whole, whole, WRITE, false),
        (whole, whole - 1, WRITE, true),
    ] {
        for layout in [Features::NONE, Features::RING_PACKED] {
            let mut pair = Pair::with_tables(1024, layout, 1);
            let (split, packed) = (SplitBytes::of(&pair), PackedBytes::of(&pair));
            for index in 0..1024u16 {
                // Half of them readable, so that neither part alone is too long.
                let flags = if index < 512 { 0 } else { flags };
                let (len, next) = if index == 1023 { (last, 0) } else { (first, NEXT) };
                if layout == Features::NONE {
                    split.put_descriptor(index, SplitDescriptor(GUEST_START, len, flags | next, index + 1));
                } else {
                    let flags = flags | next | available(true);
                    packed.put_descriptor(index, PackedDescriptor(GUEST_START, len, 0, flags));
                }
            }
            // Raw rings lie at the start of the same memory: the index is written behind the descriptors.
            if layout == Features::NONE {
                split.offer(&[0]);
            }
            match pair.device.pop() {
                Ok(chain) => {
                    let chain = chain.unwrap();
                    assert!(fits, "{layout}");
                    assert_eq!(chain.readable_len() + chain.writable_len(), u64::from(u32::MAX));
                    chain.discard();
                }
                Err(fault) => assert_eq!((fits, fault), (false, QueueError::LengthOverflow), "{layout}"),
            }
        }
    }
}

#[test]
fn row07_empty_descriptors_leave_nothing_in_the_log() {
    let base = 0x10_0000u64;
    let memory = Arc::new(Patchwork::default().with(base, 0x4000, Access::ReadWrite, Place::Mapped));
    let layout = RingLayout {
        size: 64,
        descriptor_area: IoAddr(base),
        driver_area: IoAddr(base + 0x1000),
        device_area: IoAddr(base + 0x2000),
    };
    let shared: Arc<dyn Memory> = memory.clone();
    let mut device = Queue::new(shared, layout, Features::NONE, QueuePosition::START).unwrap();
    let ring = SplitBytes { memory: memory.clone(), layout };
    for index in 0..64u16 {
        let next = if index == 63 { 0 } else { NEXT };
        let len = if index == 62 { 4 } else { 0 };
        ring.put_descriptor(index, SplitDescriptor(base + 0x3000, len, WRITE | next, index + 1));
    }
    ring.offer(&[0]);
    let chain = device.pop().unwrap().unwrap();
    assert_eq!(chain.writable().len(), 1, "an empty descriptor is no piece");
    chain.writer().write_u32(7).unwrap();
    device.complete(chain, 4).unwrap();
    assert_eq!(memory.logged(), [(base + 0x3000, 4)]);
}

#[test]
fn row08_a_header_in_many_pieces_or_cut_short_is_no_fault_of_the_queue() {
    let (mut pair, ring) = split(8, Features::NONE);
    let data = pair.alloc(8).addr.0;
    pair.memory.put(data, &0x0807_0605_0403_0201u64.to_le_bytes());
    for index in 0..8u16 {
        let next = if index == 7 { 0 } else { NEXT };
        ring.put_descriptor(index, SplitDescriptor(data + u64::from(index), 1, next, index + 1));
    }
    ring.offer(&[0, 1]);
    let whole = pair.device.pop().unwrap().unwrap();
    assert_eq!(whole.reader().read_u64(), Ok(0x0807_0605_0403_0201));
    pair.device.complete(whole, 0).unwrap();
    let cut = pair.device.pop().unwrap().unwrap();
    let mut reader = cut.reader();
    assert_eq!(reader.read_u64(), Err(BufferError::Short { wanted: 8, remaining: 7 }));
    assert_eq!(reader.remaining(), 7, "and nothing was read");
    pair.device.complete(cut, 0).unwrap();
    assert_eq!(pair.device.fault(), None);
}

#[test]
fn row09_a_runt_buffer_is_skipped_with_nothing_written() {
    let (mut pair, ring) = split(2, Features::NONE);
    let data = pair.alloc(16).addr.0;
    ring.put_descriptor(0, SplitDescriptor(data, 3, WRITE, 0));
    ring.offer(&[0]);
    let chain = pair.device.pop().unwrap().unwrap();
    let mut writer = chain.writer();
    assert_eq!(writer.write_all(&[1; 12]), Err(BufferError::Short { wanted: 12, remaining: 3 }));
    assert_eq!(writer.skip(4), Err(BufferError::Short { wanted: 4, remaining: 3 }));
    assert_eq!((writer.written(), writer.remaining()), (0, 3));
    pair.device.complete(chain, 12).unwrap();
    let _ = pair.device.publish().unwrap();
    assert_eq!(ring.used_entry(0), (0, 0));
    assert_eq!(pair.memory.bytes(data, 16), [0; 16]);
}

#[test]
fn row12_a_packed_id_beyond_the_queue_or_in_flight_is_refused() {
    for size in [1u16, 3, 4, 7] {
        for bad in [size, size + 1, 0x8000, 0xffff] {
            let (mut pair, ring) = packed(size, Features::NONE);
            ring.put_descriptor(0, PackedDescriptor(GUEST_START, 1, bad, available(true)));
            assert_eq!(pair.device.pop().err(), Some(QueueError::BufferId(bad)));
            assert_stopped(&mut pair.device, QueueError::BufferId(bad));
        }
    }
    let (mut pair, ring) = packed(4, Features::NONE);
    ring.put_descriptor(0, PackedDescriptor(GUEST_START, 1, 2, available(true)));
    ring.put_descriptor(1, PackedDescriptor(GUEST_START, 1, 2, available(true)));
    let first = pair.device.pop().unwrap().unwrap();
    assert_eq!(pair.device.pop().err(), Some(QueueError::InFlight(2)));
    first.discard();
}

#[test]
fn row13_a_head_is_not_lent_twice() {
    for features in [Features::NONE, Features::IN_ORDER] {
        let (mut pair, ring) = split(4, features);
        ring.put_descriptor(1, SplitDescriptor(GUEST_START, 1, WRITE, 0));
        ring.offer(&[1, 1]);
        let first = pair.device.pop().unwrap().unwrap();
        assert_eq!(pair.device.pop().err(), Some(QueueError::InFlight(1)));
        assert_stopped(&mut pair.device, QueueError::InFlight(1));
        first.discard();
        // After its completion it may come again.
        let (mut pair, ring) = split(4, features);
        ring.put_descriptor(1, SplitDescriptor(GUEST_START, 1, WRITE, 0));
        for _ in 0..10 {
            ring.offer(&[1]);
            let chain = pair.device.pop().unwrap().unwrap();
            pair.device.complete(chain, 0).unwrap();
            let _ = pair.device.publish().unwrap();
        }
    }
}

#[test]
fn row17_no_queue_of_size_0_nor_beyond_its_bounds() {
    for features in [Features::NONE, Features::RING_PACKED] {
        let pair = Pair::new(4, features);
        for size in [0, 32769, 0xffff] {
            let layout = RingLayout { size, ..pair.driver.layout() };
            let refused = Queue::new(pair.memory.clone(), layout, features, QueuePosition::START);
            assert_eq!(refused.err(), Some(SetupError::Size(size)));
        }
    }
}

#[test]
fn row18_a_queue_that_has_stopped_stays_so_and_takes_its_chains_back_nowhere() {
    let (mut pair, ring) = split(4, Features::NONE);
    ring.put_descriptor(0, SplitDescriptor(GUEST_START, 1, WRITE, 0));
    ring.offer(&[0]);
    let chain = pair.device.pop().unwrap().unwrap();
    ring.put_avail_idx(9);
    let fault = pair.device.pop().unwrap_err();
    let before = ring.device_bytes();
    assert_eq!(pair.device.complete(chain, 0), Err(fault));
    // What the driver mends afterwards does not count.
    ring.put_avail_idx(1);
    assert_stopped(&mut pair.device, fault);
    assert_eq!(ring.device_bytes(), before);
    pair.device = pair.device_at(QueuePosition::START);
    pair.device.pop().unwrap().unwrap().discard();
}

#[test]
fn row19_the_index_is_never_read_torn() {
    // Torn, the two values below would read as 0x1ff, too far ahead for 256 descriptors.
    let (mut pair, ring) = split(256, Features::NONE);
    let at = ring.layout.driver_area.0 + 2;
    let done = AtomicBool::new(false);
    let memory = &pair.memory;
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                memory.store_u16(at, 0xff);
                memory.store_u16(at, 0x100);
            }
        });
        let found = (0..50_000).all(|_| pair.device.arm().is_ok());
        done.store(true, Ordering::Relaxed);
        assert!(found, "{:?}", pair.device.fault());
    });
}

#[test]
fn row20_free_running_indices_are_masked_at_every_size_and_across_their_wrap() {
    for size in [1u16, 2, 4, 64] {
        let (mut pair, ring) = split(size, Features::NONE);
        let start = RingIndex { index: 65_530, wrap: Wrap::Set };
        pair.device = pair.device_at(QueuePosition { available: start, used: start });
        for index in 0..size {
            ring.put_descriptor(index, SplitDescriptor(GUEST_START, 1, 0, 0));
        }
        ring.put_avail_idx(65_530);
        for step in 0..20u16 {
            let place = 65_530u16.wrapping_add(step);
            ring.offer(&[step % size]);
            let chain = pair.device.pop().unwrap().unwrap();
            assert_eq!(chain.id(), step % size);
            pair.device.complete(chain, 0).unwrap();
            let _ = pair.device.publish().unwrap();
            assert_eq!(ring.used_entry(place), (u32::from(step % size), 0));
            assert_eq!(ring.used_idx(), place.wrapping_add(1));
        }
        let end = RingIndex { index: 14, wrap: Wrap::Set };
        assert_eq!(pair.device.position(), QueuePosition { available: end, used: end });
    }
}

#[test]
fn row21_a_used_length_never_exceeds_what_was_written() {
    let (mut pair, ring) = packed(4, Features::NONE);
    let data = pair.alloc(8).addr.0;
    for (index, (written, claimed, told)) in (0u16..).zip([(0, 8, 0), (3, 8, 3), (8, u32::MAX, 8)]) {
        ring.put_descriptor(index, PackedDescriptor(data, 8, 0, WRITE | available(true)));
        let chain = pair.device.pop().unwrap().unwrap();
        chain.mark_written(written);
        chain.mark_written(written / 2);
        pair.device.complete(chain, claimed).unwrap();
        let _ = pair.device.publish().unwrap();
        assert_eq!(ring.descriptor(index).1, told);
    }
    ring.put_descriptor(3, PackedDescriptor(data, 8, 0, WRITE | available(true)));
    let chain = pair.device.pop().unwrap().unwrap();
    chain.mark_written(u64::MAX);
    pair.device.complete(chain, u32::MAX).unwrap();
    let _ = pair.device.publish().unwrap();
    assert_eq!(ring.descriptor(3).1, 8, "limited to the writable part");
}

#[test]
fn row22_a_batch_ends_at_its_budget_however_fast_the_driver_adds() {
    let (mut pair, ring) = split(8, Features::NONE);
    for index in 0..8 {
        ring.put_descriptor(index, SplitDescriptor(GUEST_START, 1, 0, 0));
    }
    ring.offer(&[0, 1, 2, 3, 4, 5, 6, 7]);
    let mut burst = Burst::new(3);
    for round in 0..20 {
        assert_eq!(pair.device.pop_burst(&mut burst, 3), Ok(Next::Unknown), "round {round}");
        // As soon as they are used the driver offers them again.
        let heads: Vec<u16> = burst.singles().iter().map(Single::id).collect();
        assert_eq!(heads.len(), 3);
        pair.device.complete_burst(&mut burst, 3).unwrap();
        let _ = pair.device.publish().unwrap();
        ring.offer(&heads);
    }
    assert_eq!(pair.device.arm(), Ok(MoreWork::Pending));
}

#[test]
fn row23_a_buffer_made_available_around_arming_is_found_or_notified() {
    for features in [Features::NONE, Features::EVENT_IDX, Features::RING_PACKED] {
        let mut pair = Pair::new(4, features);
        let piece = pair.alloc(1);
        // Before arming: arming says so. After arming: the kick is needed.
        pair.device.disarm().unwrap();
        pair.driver.add(&[piece], &[], 1).unwrap();
        let _ = pair.driver.kick_prepare();
        assert_eq!(pair.device.arm(), Ok(MoreWork::Pending));
        pair.device.pop().unwrap().unwrap().discard();
        assert_eq!(pair.device.arm(), Ok(MoreWork::None));
        pair.driver.add(&[piece], &[], 2).unwrap();
        assert_eq!(pair.driver.kick_prepare(), vioduct_virtqueue::Kick::Needed);
    }
}
