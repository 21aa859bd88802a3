//! Rings byte by byte, as the specification lays them out: offsets are written out here, not taken from the crate under test.

use super::{GuestMemory, Pair};
use std::sync::Arc;
use vioduct_spec::Features;
use vioduct_virtqueue::{IoAddr, Memory, RingLayout};

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;
pub const AVAIL: u16 = 1 << 7;
pub const USED: u16 = 1 << 15;

/// Memory as its owner sees it, whatever the device may do there.
pub trait Bytes {
    fn peek(&self, at: u64, len: usize) -> Vec<u8>;
    fn poke(&self, at: u64, data: &[u8]);
}

impl Bytes for GuestMemory {
    fn peek(&self, at: u64, len: usize) -> Vec<u8> {
        self.bytes(at, len)
    }

    fn poke(&self, at: u64, data: &[u8]) {
        self.put(at, data);
    }
}

fn u16_at(memory: &dyn Bytes, at: u64) -> u16 {
    u16::from_le_bytes(memory.peek(at, 2).try_into().unwrap())
}

fn u32_at(memory: &dyn Bytes, at: u64) -> u32 {
    u32::from_le_bytes(memory.peek(at, 4).try_into().unwrap())
}

fn u64_at(memory: &dyn Bytes, at: u64) -> u64 {
    u64::from_le_bytes(memory.peek(at, 8).try_into().unwrap())
}

/// A split descriptor: `addr`, `len`, `flags`, `next`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SplitDescriptor(pub u64, pub u32, pub u16, pub u16);

impl SplitDescriptor {
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.1.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.2.to_le_bytes());
        bytes[14..].copy_from_slice(&self.3.to_le_bytes());
        bytes
    }

    fn read(memory: &dyn Bytes, at: u64) -> Self {
        Self(u64_at(memory, at), u32_at(memory, at + 8), u16_at(memory, at + 12), u16_at(memory, at + 14))
    }
}

/// A packed descriptor: `addr`, `len`, `id`, `flags`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PackedDescriptor(pub u64, pub u32, pub u16, pub u16);

impl PackedDescriptor {
    pub fn to_bytes(self) -> [u8; 16] {
        SplitDescriptor(self.0, self.1, self.2, self.3).to_bytes()
    }
}

/// Writes a table of descriptors of either layout.
pub fn put_table(memory: &dyn Bytes, at: u64, entries: &[[u8; 16]]) {
    memory.poke(at, &entries.concat());
}

/// The bytes of a split ring.
pub struct SplitBytes {
    pub memory: Arc<dyn Bytes>,
    pub layout: RingLayout,
}

impl SplitBytes {
    pub fn of(pair: &Pair) -> Self {
        Self { memory: pair.memory.clone(), layout: pair.driver.layout() }
    }

    fn entry(&self, index: u16) -> u64 {
        u64::from(index % self.layout.size)
    }

    fn driver(&self, offset: u64) -> u64 {
        self.layout.driver_area.0 + offset
    }

    fn device(&self, offset: u64) -> u64 {
        self.layout.device_area.0 + offset
    }

    pub fn descriptor(&self, index: u16) -> SplitDescriptor {
        SplitDescriptor::read(&*self.memory, self.layout.descriptor_area.0 + 16 * u64::from(index))
    }

    pub fn table(&self, at: u64, index: u16) -> SplitDescriptor {
        SplitDescriptor::read(&*self.memory, at + 16 * u64::from(index))
    }

    pub fn put_descriptor(&self, index: u16, descriptor: SplitDescriptor) {
        let at = self.layout.descriptor_area.0 + 16 * u64::from(index);
        self.memory.poke(at, &descriptor.to_bytes());
    }

    pub fn descriptor_bytes(&self) -> Vec<u8> {
        self.memory.peek(self.layout.descriptor_area.0, 16 * usize::from(self.layout.size))
    }

    pub fn driver_bytes(&self) -> Vec<u8> {
        self.memory.peek(self.layout.driver_area.0, 6 + 2 * usize::from(self.layout.size))
    }

    pub fn device_bytes(&self) -> Vec<u8> {
        self.memory.peek(self.layout.device_area.0, 6 + 8 * usize::from(self.layout.size))
    }

    pub fn avail_flags(&self) -> u16 {
        u16_at(&*self.memory, self.driver(0))
    }

    pub fn avail_idx(&self) -> u16 {
        u16_at(&*self.memory, self.driver(2))
    }

    pub fn avail_entry(&self, index: u16) -> u16 {
        u16_at(&*self.memory, self.driver(4 + 2 * self.entry(index)))
    }

    pub fn used_event(&self) -> u16 {
        u16_at(&*self.memory, self.driver(4 + 2 * u64::from(self.layout.size)))
    }

    pub fn put_avail_flags(&self, flags: u16) {
        self.memory.poke(self.driver(0), &flags.to_le_bytes());
    }

    pub fn put_avail_idx(&self, index: u16) {
        self.memory.poke(self.driver(2), &index.to_le_bytes());
    }

    pub fn put_avail_entry(&self, index: u16, head: u16) {
        self.memory.poke(self.driver(4 + 2 * self.entry(index)), &head.to_le_bytes());
    }

    pub fn put_used_event(&self, index: u16) {
        self.memory.poke(self.driver(4 + 2 * u64::from(self.layout.size)), &index.to_le_bytes());
    }

    /// Puts `heads` behind what is available, and moves the index.
    pub fn offer(&self, heads: &[u16]) {
        let mut index = self.avail_idx();
        for head in heads {
            self.put_avail_entry(index, *head);
            index = index.wrapping_add(1);
        }
        self.put_avail_idx(index);
    }

    pub fn used_flags(&self) -> u16 {
        u16_at(&*self.memory, self.device(0))
    }

    pub fn used_idx(&self) -> u16 {
        u16_at(&*self.memory, self.device(2))
    }

    /// `id` and `len`.
    pub fn used_entry(&self, index: u16) -> (u32, u32) {
        let at = self.device(4 + 8 * self.entry(index));
        (u32_at(&*self.memory, at), u32_at(&*self.memory, at + 4))
    }

    pub fn avail_event(&self) -> u16 {
        u16_at(&*self.memory, self.device(4 + 8 * u64::from(self.layout.size)))
    }

    pub fn put_used_flags(&self, flags: u16) {
        self.memory.poke(self.device(0), &flags.to_le_bytes());
    }

    pub fn put_used_idx(&self, index: u16) {
        self.memory.poke(self.device(2), &index.to_le_bytes());
    }

    pub fn put_used_entry(&self, index: u16, id: u32, len: u32) {
        let at = self.device(4 + 8 * self.entry(index));
        self.memory.poke(at, &[id.to_le_bytes(), len.to_le_bytes()].concat());
    }

    pub fn put_avail_event(&self, index: u16) {
        self.memory.poke(self.device(4 + 8 * u64::from(self.layout.size)), &index.to_le_bytes());
    }
}

/// The bytes of a packed ring.
pub struct PackedBytes {
    pub memory: Arc<dyn Bytes>,
    pub layout: RingLayout,
}

impl PackedBytes {
    pub fn of(pair: &Pair) -> Self {
        Self { memory: pair.memory.clone(), layout: pair.driver.layout() }
    }

    fn at(&self, index: u16) -> u64 {
        self.layout.descriptor_area.0 + 16 * u64::from(index)
    }

    pub fn descriptor(&self, index: u16) -> PackedDescriptor {
        self.table(self.layout.descriptor_area.0, index)
    }

    pub fn table(&self, at: u64, index: u16) -> PackedDescriptor {
        let SplitDescriptor(addr, len, id, flags) =
            SplitDescriptor::read(&*self.memory, at + 16 * u64::from(index));
        PackedDescriptor(addr, len, id, flags)
    }

    pub fn flags(&self, index: u16) -> u16 {
        self.descriptor(index).3
    }

    pub fn put_descriptor(&self, index: u16, descriptor: PackedDescriptor) {
        self.memory.poke(self.at(index), &descriptor.to_bytes());
    }

    /// The device's used descriptor: everything but the address.
    pub fn put_used(&self, index: u16, len: u32, id: u16, flags: u16) {
        let addr = self.descriptor(index).0;
        self.put_descriptor(index, PackedDescriptor(addr, len, id, flags));
    }

    pub fn descriptor_bytes(&self) -> Vec<u8> {
        self.memory.peek(self.layout.descriptor_area.0, 16 * usize::from(self.layout.size))
    }

    /// Offset and wrap word, and flags word, of the driver event suppression structure.
    pub fn driver_event(&self) -> (u16, u16) {
        let at = self.layout.driver_area.0;
        (u16_at(&*self.memory, at), u16_at(&*self.memory, at + 2))
    }

    /// The same of the device event suppression structure.
    pub fn device_event(&self) -> (u16, u16) {
        let at = self.layout.device_area.0;
        (u16_at(&*self.memory, at), u16_at(&*self.memory, at + 2))
    }

    pub fn put_driver_event(&self, place: u16, flags: u16) {
        self.memory.poke(self.layout.driver_area.0, &[place.to_le_bytes(), flags.to_le_bytes()].concat());
    }

    pub fn put_device_event(&self, place: u16, flags: u16) {
        self.memory.poke(self.layout.device_area.0, &[place.to_le_bytes(), flags.to_le_bytes()].concat());
    }
}

/// Flags of an available descriptor by the driver's wrap counter.
pub fn available(wrap: bool) -> u16 {
    if wrap { AVAIL } else { USED }
}

/// Flags of a used descriptor by the device's wrap counter.
pub fn used(wrap: bool) -> u16 {
    if wrap { AVAIL | USED } else { 0 }
}

/// Every set of the ring features given.
pub fn subsets(options: &[Features]) -> Vec<Features> {
    (0..1u32 << options.len())
        .map(|mask| {
            let chosen = options.iter().enumerate().filter(|(bit, _)| mask & 1 << bit != 0);
            chosen.fold(Features::NONE, |set, (_, option)| set | *option)
        })
        .collect()
}

/// All ring features, both layouts.
pub fn every_feature_set() -> Vec<Features> {
    subsets(&[Features::RING_PACKED, Features::INDIRECT_DESC, Features::EVENT_IDX, Features::IN_ORDER])
}

/// The bytes of a chain's readable part.
pub fn readable_bytes(chain: &vioduct_virtqueue::Chain) -> Vec<u8> {
    let mut out = vec![0; chain.readable_len() as usize];
    chain.reader().read_exact(&mut out).unwrap();
    out
}

/// Reads by the way of devices.
pub fn device_reads(memory: &dyn Memory, at: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    memory.read(IoAddr(at), &mut out).unwrap();
    out
}
