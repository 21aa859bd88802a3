use super::*;
use crate::memory::{GuestMemory, Piece};
use vioduct_virtio_device::MemoryMap;
use vioduct_virtqueue::Wrap;

const LAYOUT: RingLayout = RingLayout {
    size: 8,
    descriptor_area: IoAddr(0),
    driver_area: IoAddr(0x1000),
    device_area: IoAddr(0x2000),
};

fn memory() -> GuestMemory {
    GuestMemory::new(vec![Piece::new(MemoryMap::shared(0x3000).unwrap()).unwrap()], None)
}

fn at(index: u16, wrap: Wrap) -> RingIndex {
    RingIndex { index, wrap }
}

#[test]
fn a_split_base_is_the_available_index_and_the_used_index_is_in_the_ring() {
    let memory = memory();
    memory.write(IoAddr(0x2002), &[0xfe, 0xff]).unwrap();
    let found = position(RingFormat::Split, 3, &LAYOUT, &memory).unwrap();
    assert_eq!((found.available.index, found.used.index), (3, 0xfffe));
    assert_eq!(vring_base(RingFormat::Split, found), 3);
    assert!(position(RingFormat::Split, 0x1_0003, &LAYOUT, &memory).is_err());
}

#[test]
fn a_packed_base_is_both_places_with_their_wrap_counters() {
    let memory = memory();
    for (value, available, used) in [
        (0x8000_8000, at(0, Wrap::Set), at(0, Wrap::Set)),
        (0x8005_0001, at(1, Wrap::Clear), at(5, Wrap::Set)),
        (0x0002_0004, at(4, Wrap::Clear), at(2, Wrap::Clear)),
    ] {
        let found = position(RingFormat::Packed, value, &LAYOUT, &memory).unwrap();
        assert_eq!(found, QueuePosition { available, used }, "{value:#x}");
        assert_eq!(vring_base(RingFormat::Packed, found), value);
    }
}

/// The flags of the first descriptor: untouched, made available in the first round, used in it, made available in the second.
#[test]
fn vring_base_0_of_a_packed_ring_is_told_apart_by_its_first_descriptor() {
    let memory = memory();
    for (flags, wrap) in
        [(0x0000u16, Wrap::Set), (0x0080, Wrap::Set), (0x8080, Wrap::Clear), (0x8000, Wrap::Clear)]
    {
        memory.write(IoAddr(14), &flags.to_le_bytes()).unwrap();
        let found = position(RingFormat::Packed, 0, &LAYOUT, &memory).unwrap();
        assert_eq!(found, QueuePosition { available: at(0, wrap), used: at(0, wrap) }, "{flags:#x}");
    }
}

/// With a wrap counter for the available descriptor alone: a ring that begins, and one that is all in flight in its second round.
#[test]
fn vring_base_0x8000_of_a_packed_ring_is_told_apart_by_its_descriptors() {
    let memory = memory();
    for (flags, used) in [(0x0000u16, Wrap::Set), (0x0080, Wrap::Set), (0x8000, Wrap::Clear)] {
        memory.write(IoAddr(14), &flags.to_le_bytes()).unwrap();
        let found = position(RingFormat::Packed, 0x8000, &LAYOUT, &memory).unwrap();
        assert_eq!(found, QueuePosition { available: at(0, Wrap::Set), used: at(0, used) }, "{flags:#x}");
    }
}

/// A round that began in the midst of a chain: the first descriptor is the rest of it, and only a later one has been used.
#[test]
fn vring_base_0_of_a_packed_ring_is_told_apart_by_any_descriptor() {
    let memory = memory();
    for (place, flags) in [(0, 0x0080u16), (1, 0x0080), (5, 0x8080)] {
        memory.write(IoAddr(place * 16 + 14), &flags.to_le_bytes()).unwrap();
    }
    let found = position(RingFormat::Packed, 0, &LAYOUT, &memory).unwrap();
    assert_eq!(found, QueuePosition { available: at(0, Wrap::Clear), used: at(0, Wrap::Clear) });
}

#[test]
fn a_ring_beyond_memory_has_no_position() {
    let memory = memory();
    for area in [0x2fff, 0x3000, u64::MAX] {
        let layout = RingLayout { descriptor_area: IoAddr(area), device_area: IoAddr(area), ..LAYOUT };
        assert!(position(RingFormat::Split, 0, &layout, &memory).is_err(), "{area:#x}");
        assert!(position(RingFormat::Packed, 0, &layout, &memory).is_err(), "{area:#x}");
    }
}
