//! Guest memory that both contenders can use, and split and packed rings filled in it by hand.
//!
//! `unsafe` because it implements `Memory` and writes rings as a driver does.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use vioduct_spec::ring::{DESC_F_AVAIL, DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_USED, DESCRIPTOR_SIZE};
use vioduct_virtqueue::{Access, AreaSizes, IoAddr, Memory, MemoryFault, Region, RingFormat, RingLayout};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// Bytes of guest memory.
const RAM_LEN: usize = 1 << 26;
const RING_AT: u64 = 0x1_0000;
const TABLES_AT: u64 = 0x10_0000;
const BUFFERS_AT: u64 = 0x100_0000;

/// Descriptors of a queue in the device-end contest, as in `virtio-queue`'s own benchmark.
pub const QUEUE_SIZE: u16 = 256;
/// Length in bytes of the buffer of one descriptor there.
pub const BUFFER_LEN: u32 = 0x1000;

/// Guest memory as `vm-memory` maps it, used by our queues through [`Memory`].
pub struct Ram {
    map: GuestMemoryMmap,
    host: NonNull<u8>,
}

// SAFETY: the memory is accessed by raw pointers and atomics only, as shared memory is.
unsafe impl Send for Ram {}
// SAFETY: as above.
unsafe impl Sync for Ram {}

impl Ram {
    /// Zeroed memory, all in one region that starts at 0.
    ///
    /// # Panics
    /// If the system has no memory left.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let map =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM_LEN)]).expect("invariant: memory to run in");
        let host = map.get_host_address(GuestAddress(0)).expect("invariant: the region starts at 0");
        let host = NonNull::new(host).expect("invariant: a mapping is not at the null address");
        Arc::new(Self { map, host })
    }

    /// The same memory, as the peer uses it.
    #[must_use]
    pub fn map(&self) -> &GuestMemoryMmap {
        &self.map
    }

    /// Where `at` is mapped.
    ///
    /// # Panics
    /// If it is outside of the memory.
    #[must_use]
    pub fn host(&self, at: IoAddr) -> NonNull<u8> {
        assert!(at.0 < RAM_LEN as u64);
        // SAFETY: within the mapping.
        unsafe { self.host.add(at.0 as usize) }
    }

    fn put(&self, at: u64, data: &[u8]) {
        self.map.write_slice(data, GuestAddress(at)).expect("invariant: benchmarks stay within their memory");
    }
}

// SAFETY: the mapping lives as long as the object, is page-aligned at a page-aligned address, and no reference is made into it.
unsafe impl Memory for Ram {
    fn read(&self, at: IoAddr, out: &mut [u8]) -> Result<(), MemoryFault> {
        let fault = MemoryFault { at, len: out.len() as u64 };
        self.map.read_slice(out, GuestAddress(at.0)).map_err(|_| fault)
    }

    fn write(&self, at: IoAddr, data: &[u8]) -> Result<(), MemoryFault> {
        let fault = MemoryFault { at, len: data.len() as u64 };
        self.map.write_slice(data, GuestAddress(at.0)).map_err(|_| fault)
    }

    fn region(&self, at: IoAddr) -> Option<Region> {
        let whole = Region { at: IoAddr(0), len: RAM_LEN as u64, host: self.host, access: Access::ReadWrite };
        whole.translate(at, 1).map(|_| whole)
    }
}

/// What a driver makes available in one batch.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// As the rows name it.
    pub name: &'static str,
    /// Chains per batch.
    pub chains: u16,
    /// Descriptors per chain, device-readable.
    pub descriptors: u16,
    /// Where the descriptors are.
    pub place: Place,
}

/// Where the descriptors of a chain are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In the ring's own table.
    Direct,
    /// In an indirect table per chain.
    Indirect,
}

/// The four shapes of `virtio-queue`'s own benchmark.
pub const SHAPES: [Shape; 4] = [
    Shape { name: "1 chain of 128, direct", chains: 1, descriptors: 128, place: Place::Direct },
    Shape { name: "128 chains of 1, direct", chains: 128, descriptors: 1, place: Place::Direct },
    Shape { name: "1 chain of 128, indirect", chains: 1, descriptors: 128, place: Place::Indirect },
    Shape { name: "128 chains of 1, indirect", chains: 128, descriptors: 1, place: Place::Indirect },
];

impl Shape {
    /// Descriptors of buffers per batch.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.chains as u32 * self.descriptors as u32
    }

    /// What the sum over address and length of every buffer comes to in one batch.
    #[must_use]
    pub fn checksum(&self) -> u64 {
        (0..u64::from(self.total())).map(|index| buffer_at(index) + u64::from(BUFFER_LEN)).sum()
    }
}

const fn buffer_at(index: u64) -> u64 {
    BUFFERS_AT + index * BUFFER_LEN as u64
}

fn descriptor(addr: u64, len: u32, third: u16, fourth: u16) -> [u8; DESCRIPTOR_SIZE] {
    let second = u64::from(len) | u64::from(third) << 32 | u64::from(fourth) << 48;
    (u128::from(addr) | u128::from(second) << 64).to_le_bytes()
}

/// The places of the three areas of a ring in [`Ram`].
#[must_use]
pub fn layout(format: RingFormat) -> RingLayout {
    let sizes = AreaSizes::of(format, QUEUE_SIZE);
    RingLayout {
        size: QUEUE_SIZE,
        descriptor_area: IoAddr(RING_AT),
        driver_area: IoAddr(RING_AT + sizes.driver_offset() as u64),
        device_area: IoAddr(RING_AT + sizes.device_offset() as u64),
    }
}

/// A driver that makes the same batch available again and again, as cheaply as can be.
pub enum Refill {
    /// One store: everything but the index is in place for ever.
    Split {
        /// The available index.
        index: NonNull<u8>,
        /// Chains per batch.
        chains: u16,
    },
    /// The device overwrites descriptors, so a batch is copied into place.
    Packed {
        /// The ring.
        ring: NonNull<u8>,
        /// A batch for the wrap counter at 1, and at 0.
        batches: [Vec<[u8; DESCRIPTOR_SIZE]>; 2],
        /// Descriptors made available so far.
        next: usize,
    },
}

impl Refill {
    /// Fills the memory, and makes nothing available yet.
    #[must_use]
    pub fn new(ram: &Ram, format: RingFormat, shape: Shape) -> Self {
        match format {
            RingFormat::Split => Self::split(ram, shape),
            RingFormat::Packed => Self::packed(ram, shape),
        }
    }

    fn split(ram: &Ram, shape: Shape) -> Self {
        let layout = layout(RingFormat::Split);
        let per_chain = shape.descriptors;
        for chain in 0..shape.chains {
            for position in 0..per_chain {
                let index = chain * per_chain + position;
                let last = position + 1 == per_chain;
                let flags = if last { 0 } else { DESC_F_NEXT };
                let (at, next) = match shape.place {
                    Place::Direct => (layout.descriptor_area.0 + 16 * u64::from(index), index + 1),
                    Place::Indirect => (TABLES_AT + 16 * u64::from(index), position + 1),
                };
                let next = if last { 0 } else { next };
                ram.put(at, &descriptor(buffer_at(u64::from(index)), BUFFER_LEN, flags, next));
            }
            if shape.place == Place::Indirect {
                let at = layout.descriptor_area.0 + 16 * u64::from(chain);
                let table = TABLES_AT + 16 * u64::from(chain * per_chain);
                ram.put(at, &descriptor(table, 16 * u32::from(per_chain), DESC_F_INDIRECT, 0));
            }
        }
        let stride = if shape.place == Place::Direct { per_chain } else { 1 };
        for entry in 0..QUEUE_SIZE {
            let head = entry % shape.chains * stride;
            ram.put(layout.driver_area.0 + 4 + 2 * u64::from(entry), &head.to_le_bytes());
        }
        Self::Split { index: ram.host(IoAddr(layout.driver_area.0 + 2)), chains: shape.chains }
    }

    fn packed(ram: &Ram, shape: Shape) -> Self {
        let layout = layout(RingFormat::Packed);
        let mut batches = [Vec::new(), Vec::new()];
        for (batch, wrap) in batches.iter_mut().zip([DESC_F_AVAIL, DESC_F_USED]) {
            for chain in 0..shape.chains {
                for position in 0..shape.descriptors {
                    let index = u64::from(chain * shape.descriptors + position);
                    let next = if position + 1 == shape.descriptors { 0 } else { DESC_F_NEXT };
                    match shape.place {
                        Place::Direct => {
                            batch.push(descriptor(buffer_at(index), BUFFER_LEN, chain, next | wrap));
                        }
                        Place::Indirect => {
                            ram.put(TABLES_AT + 16 * index, &descriptor(buffer_at(index), BUFFER_LEN, 0, 0));
                        }
                    }
                }
                if shape.place == Place::Indirect {
                    let table = TABLES_AT + 16 * u64::from(chain * shape.descriptors);
                    let len = 16 * u32::from(shape.descriptors);
                    batch.push(descriptor(table, len, chain, DESC_F_INDIRECT | wrap));
                }
            }
        }
        Self::Packed { ring: ram.host(layout.descriptor_area), batches, next: 0 }
    }

    /// Makes the next batch available; the one before it has been used.
    #[inline]
    pub fn batch(&mut self) {
        match self {
            Self::Split { index, chains } => {
                // SAFETY: a mapped, aligned field of the ring, which all sides access as an atomic.
                let index = unsafe { AtomicU16::from_ptr(index.as_ptr().cast()) };
                index.store(index.load(Ordering::Relaxed).wrapping_add(*chains), Ordering::Release);
            }
            Self::Packed { ring, batches, next } => {
                let size = usize::from(QUEUE_SIZE);
                let [set, clear] = batches;
                let batch = if *next / size % 2 == 0 { set } else { clear };
                // SAFETY: a batch is a divisor of the queue size, so it fits from here to the end of the ring; the device end is
                // in this thread, and not running.
                unsafe {
                    let to = ring.as_ptr().cast::<[u8; DESCRIPTOR_SIZE]>().add(*next % size);
                    to.copy_from_nonoverlapping(batch.as_ptr(), batch.len());
                }
                *next += batch.len();
            }
        }
    }
}
