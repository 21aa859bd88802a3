//! The driver's end of a split ring, which makes what it is told, right or wrong.

use super::memory::Memory;

/// Descriptor flags (virtio 1.3 §2.7.5).
pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const INDIRECT: u16 = 4;

/// Bytes of a descriptor, and of an element of the used ring.
pub(super) const DESCRIPTOR_LEN: usize = 16;
const USED_LEN: usize = 8;
/// Where a ring's index and its entries are.
const INDEX: usize = 2;
const ENTRIES: usize = 4;

/// A descriptor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Descriptor {
    pub(super) guest: u64,
    pub(super) len: u32,
    pub(super) flags: u16,
    pub(super) next: u16,
}

impl Descriptor {
    pub(super) fn bytes(self) -> [u8; DESCRIPTOR_LEN] {
        let mut bytes = [0; DESCRIPTOR_LEN];
        bytes[..8].copy_from_slice(&self.guest.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.flags.to_le_bytes());
        bytes[14..].copy_from_slice(&self.next.to_le_bytes());
        bytes
    }
}

/// Where a ring is in its memory, and how far the driver is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ring {
    pub(super) size: u16,
    pub(super) descriptors: usize,
    pub(super) available: usize,
    pub(super) used: usize,
    /// Chains that were made available, as the ring counts.
    pub(super) made: u16,
    /// Used elements that were seen.
    pub(super) seen: u16,
}

impl Ring {
    /// A ring in front of the memory, its used ring in a page of its own, that starts to count at `position`.
    pub(super) fn new(memory: &Memory, size: u16, position: u16) -> Self {
        let available = DESCRIPTOR_LEN * usize::from(size);
        let used = (available + ENTRIES + 2 * usize::from(size) + 2).next_multiple_of(4096);
        let ring = Self { size, descriptors: 0, available, used, made: position, seen: position };
        memory.store(ring.available + INDEX, position);
        memory.store(ring.used + INDEX, position);
        ring
    }

    /// The first byte after the ring, at the start of a page.
    pub(super) fn end(&self) -> usize {
        (self.used + ENTRIES + USED_LEN * usize::from(self.size) + 2).next_multiple_of(4096)
    }

    pub(super) fn describe(&self, memory: &Memory, index: u16, descriptor: Descriptor) {
        memory.write(self.descriptors + DESCRIPTOR_LEN * usize::from(index), &descriptor.bytes());
    }

    pub(super) fn make_available(&mut self, memory: &Memory, head: u16) {
        let at = self.available + ENTRIES + 2 * usize::from(self.made % self.size);
        memory.store(at, head);
        self.made = self.made.wrapping_add(1);
        memory.store(self.available + INDEX, self.made);
    }

    /// Says that there is one chain more than the ring has room for.
    pub(super) fn claim_too_many(&mut self, memory: &Memory) {
        self.made = self.seen.wrapping_add(self.size + 1);
        memory.store(self.available + INDEX, self.made);
    }

    /// Used elements that were not seen yet.
    pub(super) fn waiting(&self, memory: &Memory) -> u16 {
        self.used_index(memory).wrapping_sub(self.seen)
    }

    pub(super) fn used_index(&self, memory: &Memory) -> u16 {
        memory.load(self.used + INDEX)
    }

    /// The next used element: its head, and the bytes that were written.
    pub(super) fn take_used(&mut self, memory: &Memory) -> Option<(u32, u32)> {
        if self.waiting(memory) == 0 {
            return None;
        }
        let mut element = [0; USED_LEN];
        memory.read(self.used + ENTRIES + USED_LEN * usize::from(self.seen % self.size), &mut element);
        self.seen = self.seen.wrapping_add(1);
        let [a, b, c, d, e, f, g, h] = element;
        Some((u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])))
    }

    /// Wants an interrupt for the next used element (virtio 1.3 §2.7.7).
    pub(super) fn want_interrupt(&self, memory: &Memory) {
        memory.store(self.available + ENTRIES + 2 * usize::from(self.size), self.seen);
    }
}
