//! Addresses where there is no memory, or not enough of it, or not of the right kind.

use crate::rig::patchwork::{Patchwork, Place};
use crate::rig::raw::{
    Bytes, INDIRECT, NEXT, PackedBytes, PackedDescriptor, SplitBytes, SplitDescriptor, WRITE, available,
    put_table, readable_bytes,
};
use crate::rig::{GUEST_START, Pair, REGION_LEN};
use std::sync::Arc;
use vioduct_spec::Features;
use vioduct_virtqueue::{
    Access, Chain, IoAddr, Memory, MemoryFault, Queue, QueueError, QueuePosition, RingLayout, SetupError,
};

const BASE: u64 = 0x10_0000;

/// Descriptor area at 0, driver area at 0x1000, device area at 0x2000 from `BASE`.
fn layout() -> RingLayout {
    RingLayout {
        size: 8,
        descriptor_area: IoAddr(BASE),
        driver_area: IoAddr(BASE + 0x1000),
        device_area: IoAddr(BASE + 0x2000),
    }
}

fn rings() -> Patchwork {
    Patchwork::default().with(BASE, 0x3000, Access::ReadWrite, Place::Mapped)
}

fn queue(memory: &Arc<Patchwork>, features: Features) -> Queue {
    let shared: Arc<dyn Memory> = memory.clone();
    Queue::new(shared, layout(), features, QueuePosition::START).unwrap()
}

/// Offers direct descriptors in a fresh ring: address, length, `WRITE` or 0.
fn offer(
    memory: &Arc<Patchwork>,
    features: Features,
    pieces: &[(u64, u32, u16)],
) -> Result<Chain, QueueError> {
    let mut device = queue(memory, features);
    for (index, (at, len, flags)) in (0u16..).zip(pieces) {
        let next = if usize::from(index) + 1 == pieces.len() { 0 } else { NEXT };
        if features.contains(Features::RING_PACKED) {
            let ring = PackedBytes { memory: memory.clone(), layout: layout() };
            ring.put_descriptor(index, PackedDescriptor(*at, *len, 0, flags | next | available(true)));
        } else {
            let ring = SplitBytes { memory: memory.clone(), layout: layout() };
            ring.put_descriptor(index, SplitDescriptor(*at, *len, flags | next, index + 1));
            ring.put_avail_entry(0, 0);
            ring.put_avail_idx(1);
        }
    }
    device.pop().map(Option::unwrap)
}

/// Puts a buffer of one piece behind those before.
fn put_one(memory: &Arc<Patchwork>, features: Features, index: u16, at: u64, len: u32, flags: u16) {
    if features.contains(Features::RING_PACKED) {
        let ring = PackedBytes { memory: memory.clone(), layout: layout() };
        ring.put_descriptor(index, PackedDescriptor(at, len, index, flags | available(true)));
    } else {
        let ring = SplitBytes { memory: memory.clone(), layout: layout() };
        ring.put_descriptor(index, SplitDescriptor(at, len, flags, 0));
        ring.offer(&[index]);
    }
}

const LAYOUTS: [Features; 2] = [Features::NONE, Features::RING_PACKED];

#[test]
fn row10_an_area_outside_of_memory_is_refused_at_set_up() {
    let (good, end) = (layout(), BASE + 0x3000);
    let shared: Arc<dyn Memory> = Arc::new(rings());
    for features in LAYOUTS {
        let queue = |layout| Queue::new(shared.clone(), layout, features, QueuePosition::START).err();
        // The last one starts within memory and ends beyond.
        for bad in [0, BASE - 16, end, 1 << 63, u64::MAX - 15, end - 16].map(IoAddr) {
            let refused = queue(RingLayout { descriptor_area: bad, ..good });
            assert_eq!(refused, Some(SetupError::Memory(MemoryFault { at: bad, len: 128 })));
        }
        let lengths = if features == Features::NONE { [22, 70] } else { [4, 4] };
        for bad in [0, BASE - 4, end, 1 << 63, u64::MAX - 3].map(IoAddr) {
            let refused = queue(RingLayout { driver_area: bad, ..good });
            assert_eq!(refused, Some(SetupError::Memory(MemoryFault { at: bad, len: lengths[0] })));
            let refused = queue(RingLayout { device_area: bad, ..good });
            assert_eq!(refused, Some(SetupError::Memory(MemoryFault { at: bad, len: lengths[1] })));
        }
        // Both areas fit to the byte, and not beyond it.
        let last = IoAddr(end - lengths[0]);
        assert_eq!(queue(RingLayout { driver_area: last, ..good }), None);
        let last = IoAddr((end - lengths[1]) & !3);
        assert_eq!(queue(RingLayout { device_area: last, ..good }), None);
        let beyond = IoAddr(last.0 + 4);
        assert!(matches!(queue(RingLayout { device_area: beyond, ..good }), Some(SetupError::Memory(_))));
    }
}

#[test]
fn row10_an_area_without_the_access_that_it_needs_is_refused() {
    let kinds = [Access::Read, Access::Write, Access::ReadWrite];
    for features in LAYOUTS {
        for (descriptors, driver, device) in
            kinds.into_iter().flat_map(|a| kinds.into_iter().flat_map(move |b| kinds.map(|c| (a, b, c))))
        {
            for place in [Place::Mapped, Place::Remote] {
                let memory = Patchwork::default()
                    .with(BASE, 0x1000, descriptors, place)
                    .with(BASE + 0x1000, 0x1000, driver, place)
                    .with(BASE + 0x2000, 0x1000, device, place);
                let need = if features == Features::NONE { Access::Read } else { Access::ReadWrite };
                let enough =
                    descriptors.allows(need) && driver.allows(Access::Read) && device.allows(Access::Write);
                let result = Queue::new(Arc::new(memory), layout(), features, QueuePosition::START);
                assert_eq!(result.is_ok(), enough, "{descriptors:?} {driver:?} {device:?} {place:?}");
            }
        }
    }
}

#[test]
fn row10_a_buffer_without_memory_is_a_fault_wherever_it_stands_in_the_chain() {
    for features in LAYOUTS {
        for place in 0..4usize {
            for (at, len) in
                [(0u64, 1u32), (BASE + 0x3000, 1), (BASE + 0x2fff, 2), (u64::MAX, 1), (u64::MAX - 3, 8)]
            {
                let memory = Arc::new(rings());
                let mut pieces = [
                    (BASE + 0x2800, 4, 0),
                    (BASE + 0x2800, 4, 0),
                    (BASE + 0x2900, 4, WRITE),
                    (BASE + 0x2900, 4, WRITE),
                ];
                pieces[place].0 = at;
                pieces[place].1 = len;
                let outcome = offer(&memory, features, &pieces).err();
                let fault = MemoryFault { at: IoAddr(at), len: len.into() };
                assert_eq!(outcome, Some(QueueError::Memory(fault)), "{features}, piece {place}");
            }
        }
    }
}

#[test]
fn row10_a_buffer_across_regions_comes_in_pieces_and_whole() {
    let border = GUEST_START + REGION_LEN as u64;
    for features in LAYOUTS {
        for (before, len) in [(1u64, 2u32), (1, 100), (99, 100), (50, 100), (4096, 8192)] {
            let mut pair = Pair::new(4, features);
            let data: Vec<u8> = (0..len).map(|byte| (byte * 7) as u8).collect();
            pair.memory.put(border - before, &data);
            let buffer = vioduct_virtqueue::Buffer { addr: IoAddr(border - before), len };
            pair.driver.add(&[buffer], &[buffer], 1).unwrap();
            let _ = pair.driver.kick_prepare();
            let chain = pair.device.pop().unwrap().unwrap();
            let shown: Vec<_> =
                chain.readable().iter().map(|piece| (piece.addr().0, u64::from(piece.len()))).collect();
            assert_eq!(shown, [(border - before, before), (border, u64::from(len) - before)]);
            assert_eq!(readable_bytes(&chain), data);
            let answer: Vec<u8> = data.iter().map(|byte| !byte).collect();
            chain.writer().write_all(&answer).unwrap();
            assert_eq!(pair.memory.bytes(border - before, len as usize), answer);
            pair.device.complete(chain, len).unwrap();
        }
    }
}

#[test]
fn row10_a_buffer_that_crosses_into_a_gap_is_a_fault() {
    for features in LAYOUTS {
        let memory = Arc::new(rings().with(BASE + 0x3000, 0x1000, Access::ReadWrite, Place::Mapped).with(
            BASE + 0x5000,
            0x1000,
            Access::ReadWrite,
            Place::Mapped,
        ));
        for (at, len, fits) in [
            (BASE + 0x2ff0, 0x20u32, true),
            (BASE + 0x3ff0, 0x10, true),
            (BASE + 0x3ff0, 0x11, false),
            (BASE + 0x3ff0, 0x1010, false),
            (BASE + 0x2ff0, 0x2010, false),
            (BASE + 0x4fff, 2, false),
            (BASE + 0x5000, 0x1000, true),
            (BASE + 0x5000, 0x1001, false),
        ] {
            match offer(&memory, features, &[(at, len, WRITE)]) {
                Ok(chain) => {
                    assert!(fits, "{at:#x} {len:#x}");
                    assert_eq!(chain.writer().write(&vec![1; 0x3000]), Ok(len as usize));
                    chain.discard();
                }
                Err(fault) => assert!(!fits && matches!(fault, QueueError::Memory(_)), "{fault}"),
            }
        }
    }
}

#[test]
fn row10_memory_of_the_wrong_kind_is_a_fault() {
    for features in LAYOUTS {
        for place in [Place::Mapped, Place::Remote] {
            let memory = Arc::new(rings().with(BASE + 0x3000, 0x1000, Access::Read, place).with(
                BASE + 0x4000,
                0x1000,
                Access::Write,
                place,
            ));
            let (readable, writable) = (BASE + 0x3000, BASE + 0x4000);
            // Twice each, so that the second look-up is by the region remembered.
            for (pieces, fits) in [
                ([(readable, 8, 0), (readable, 8, 0)], true),
                ([(writable, 8, WRITE), (writable, 8, WRITE)], true),
                ([(readable, 8, 0), (readable, 8, WRITE)], false),
                ([(readable, 8, 0), (writable, 8, WRITE)], true),
                ([(readable, 8, 0), (writable, 8, 0)], false),
                ([(writable, 8, WRITE), (readable, 8, WRITE)], false),
                ([(readable, 8, 0), (readable + 0xfff, 2, 0)], false),
                ([(readable, 8, 0), (writable - 1, 2, WRITE)], false),
            ] {
                match offer(&memory, features, &pieces) {
                    Ok(chain) => {
                        assert!(fits, "{pieces:x?}");
                        chain.discard();
                    }
                    Err(fault) => assert!(!fits && matches!(fault, QueueError::Memory(_)), "{pieces:x?}"),
                }
            }
        }
    }
}

#[test]
fn row10_a_table_that_may_not_be_read_is_a_fault() {
    for features in LAYOUTS {
        for place in [Place::Mapped, Place::Remote] {
            let memory = Arc::new(rings().with(BASE + 0x3000, 0x1000, Access::Write, place));
            let pieces = [(BASE + 0x3000, 16, INDIRECT)];
            let outcome = offer(&memory, features | Features::INDIRECT_DESC, &pieces).err();
            assert!(matches!(outcome, Some(QueueError::Memory(_))), "{outcome:?}");
        }
    }
}

#[test]
fn row11_mapped_and_remote_memory_are_judged_alike() {
    // Every pair of pieces over a list of good and bad addresses, once where all is mapped and once where all is remote.
    let addresses = [0u64, BASE - 1, BASE + 0x3000, BASE + 0x3fff, BASE + 0x4000, BASE + 0x5fff, u64::MAX];
    let lengths = [0u32, 1, 0x1000, 0x1001, u32::MAX];
    let pieces: Vec<(u64, u32, u16)> = addresses
        .into_iter()
        .flat_map(|at| lengths.into_iter().flat_map(move |len| [0, WRITE].map(|flags| (at, len, flags))))
        .collect();
    for features in LAYOUTS {
        let both = [Place::Mapped, Place::Remote].map(|place| {
            Arc::new(
                rings()
                    .with(BASE + 0x3000, 0x1000, Access::ReadWrite, place)
                    .with(BASE + 0x4000, 0x1000, Access::Read, place)
                    .with(BASE + 0x5000, 0x1000, Access::ReadWrite, place),
            )
        });
        for (first, second) in pieces.iter().flat_map(|a| pieces.iter().map(move |b| (*a, *b))) {
            let [mapped, remote] = both.each_ref().map(|memory| {
                offer(memory, features, &[first, second]).map(|chain| {
                    let shown = (chain.readable_len(), chain.writable_len());
                    chain.discard();
                    shown
                })
            });
            assert_eq!(mapped.is_ok(), remote.is_ok(), "{first:x?} {second:x?}");
            if mapped.is_ok() {
                assert_eq!(mapped, remote);
            }
        }
    }
}

#[test]
fn row11_a_region_remembered_is_judged_for_each_buffer_anew() {
    // The first buffer makes the region the one that is looked at first; the second, of one piece, is found there.
    let regions =
        [(BASE + 0x3000, Access::Read), (BASE + 0x4000, Access::Write), (BASE + 0x5000, Access::ReadWrite)];
    for features in LAYOUTS {
        for (warm, access) in regions {
            for (at, len, flags) in [warm, warm + 0xff8, warm - 8, warm + 0x1000].into_iter().flat_map(|at| {
                [0u32, 8, 9, 0x1000].into_iter().flat_map(move |len| [(at, len, 0), (at, len, WRITE)])
            }) {
                let mut memory = rings();
                for (at, access) in regions {
                    memory = memory.with(at, 0x1000, access, Place::Mapped);
                }
                let memory = Arc::new(memory);
                let mut device = queue(&memory, features);
                let warming = if access == Access::Write { WRITE } else { 0 };
                for (index, (at, len, flags)) in
                    [(warm, 8, warming), (at, len, flags)].into_iter().enumerate()
                {
                    put_one(&memory, features, index as u16, at, len, flags);
                }
                device.pop().unwrap().unwrap().discard();
                let wanted = if flags == WRITE { Access::Write } else { Access::Read };
                let allowed = |at: u64| match at {
                    at if at < BASE + 0x3000 => true,
                    at => regions
                        .iter()
                        .any(|(start, access)| at >= *start && at < start + 0x1000 && access.allows(wanted)),
                };
                let expected = (at..at + u64::from(len)).all(allowed);
                match device.pop() {
                    Ok(chain) => {
                        chain.unwrap().discard();
                        assert!(expected, "{features}: {at:#x}+{len:#x} after {warm:#x}");
                    }
                    Err(fault) => assert!(!expected && matches!(fault, QueueError::Memory(_)), "{fault}"),
                }
            }
        }
    }
}

#[test]
fn row18_memory_is_not_touched_after_a_fault() {
    for features in LAYOUTS {
        let memory =
            Arc::new(Patchwork::default().with(BASE, 0x3000, Access::ReadWrite, Place::Remote).with(
                BASE + 0x3000,
                0x1000,
                Access::ReadWrite,
                Place::Remote,
            ));
        let mut device = queue(&memory, features);
        let pieces = [(BASE + 0x9000, 8, 0)];
        offer(&memory, features, &pieces).unwrap_err();
        let fault = device.pop().unwrap_err();
        let (asked, logged) = (memory.asked(), memory.logged());
        let bytes = memory.peek(BASE, 0x4000);
        for _ in 0..3 {
            assert_eq!(device.pop().err(), Some(fault));
            assert_eq!(device.publish(), Err(fault));
            assert_eq!(device.arm(), Err(fault));
            assert_eq!(device.disarm(), Err(fault));
            assert_eq!(device.poll(), Err(fault));
        }
        assert_eq!((memory.asked(), memory.logged()), (asked, logged));
        assert_eq!(memory.peek(BASE, 0x4000), bytes);
    }
}

#[test]
fn row10_a_table_may_lie_where_nothing_else_does() {
    for features in LAYOUTS {
        let memory = Arc::new(rings().with(BASE + 0x8000, 0x1000, Access::Read, Place::Mapped).with(
            BASE + 0x9000,
            0x1000,
            Access::Read,
            Place::Remote,
        ));
        memory.poke(BASE + 0x2800, b"data");
        for table in
            [BASE + 0x8000, BASE + 0x8008, BASE + 0x8004, BASE + 0x8ff8, BASE + 0x9000, BASE + 0x9003]
        {
            let entry = if features == Features::NONE {
                SplitDescriptor(BASE + 0x2800, 4, 0, 0).to_bytes()
            } else {
                PackedDescriptor(BASE + 0x2800, 4, 0, 0).to_bytes()
            };
            put_table(&*memory, table, &[entry]);
            let pieces = [(table, 16, INDIRECT)];
            let chain = offer(&memory, features | Features::INDIRECT_DESC, &pieces).unwrap();
            assert_eq!(readable_bytes(&chain), b"data", "{features}, table at {table:#x}");
            chain.discard();
        }
    }
}
