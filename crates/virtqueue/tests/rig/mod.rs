//! Memory that both ends share in the tests, and a pair of ends over it.
//!
//! `unsafe` because it implements `Memory` and hands out ring memory, as every owner of guest memory does.
#![allow(unsafe_code, dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod patchwork;
pub mod raw;

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use vioduct_spec::Features;
use vioduct_virtqueue::{
    Access, Buffer, DriverQueue, IndirectMemory, IoAddr, Memory, MemoryFault, Queue, QueuePosition, Region,
    RingFormat, RingMemory, SetupError, is_valid_size,
};

/// Where guest memory starts, so that address 0 and the host's addresses are both wrong.
pub const GUEST_START: u64 = 0x4000_0000;
/// Length of each of the two guest memory regions, which are adjacent for the guest and apart in this process.
pub const REGION_LEN: usize = 1 << 22;

/// Two regions of guest memory.
pub struct GuestMemory {
    regions: [NonNull<u8>; 2],
}

// SAFETY: the memory is accessed by raw pointers only, as shared memory is.
unsafe impl Send for GuestMemory {}
// SAFETY: as above.
unsafe impl Sync for GuestMemory {}

/// Aligned no further than needed: the system hands out such memory zeroed, page by page as it is touched.
fn layout() -> Layout {
    Layout::from_size_align(REGION_LEN, 16).unwrap()
}

impl GuestMemory {
    pub fn new() -> Arc<Self> {
        // SAFETY: the layout is not empty.
        let region = || NonNull::new(unsafe { alloc_zeroed(layout()) }).unwrap();
        Arc::new(Self { regions: [region(), region()] })
    }

    fn host(&self, at: IoAddr, len: usize) -> Result<NonNull<u8>, MemoryFault> {
        self.region(at)
            .and_then(|region| region.translate(at, len as u64))
            .ok_or(MemoryFault { at, len: len as u64 })
    }

    pub fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        self.read(IoAddr(at), &mut out).unwrap();
        out
    }

    pub fn put(&self, at: u64, data: &[u8]) {
        self.write(IoAddr(at), data).unwrap();
    }

    /// Stores at once what another processor's store would be.
    pub fn store_u16(&self, at: u64, value: u16) {
        let host = self.host(IoAddr(at), 2).unwrap();
        // SAFETY: two aligned bytes within a region, accessed as an atomic by all.
        unsafe { AtomicU16::from_ptr(host.as_ptr().cast()) }.store(value, Ordering::Release);
    }

    /// The same of eight bytes.
    pub fn store_u64(&self, at: u64, value: u64) {
        let host = self.host(IoAddr(at), 8).unwrap();
        // SAFETY: eight aligned bytes within a region, accessed as an atomic by all.
        unsafe { AtomicU64::from_ptr(host.as_ptr().cast()) }.store(value, Ordering::Release);
    }

    pub fn u16(&self, at: IoAddr, offset: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at.0 + offset as u64, 2).try_into().unwrap())
    }

    pub fn put_u16(&self, at: IoAddr, offset: usize, value: u16) {
        self.put(at.0 + offset as u64, &value.to_le_bytes());
    }
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        // SAFETY: allocated with the same layout in `new`.
        self.regions.iter().for_each(|region| unsafe { dealloc(region.as_ptr(), layout()) });
    }
}

// SAFETY: the regions live as long as the object, are 16-byte aligned at 16-byte aligned addresses, and no reference is made into them.
unsafe impl Memory for GuestMemory {
    fn read(&self, at: IoAddr, out: &mut [u8]) -> Result<(), MemoryFault> {
        for (offset, byte) in out.iter_mut().enumerate() {
            let host = self.host(IoAddr(at.0.wrapping_add(offset as u64)), 1)?;
            // SAFETY: one byte within a region.
            *byte = unsafe { ptr::read_volatile(host.as_ptr()) };
        }
        Ok(())
    }

    fn write(&self, at: IoAddr, data: &[u8]) -> Result<(), MemoryFault> {
        for (offset, byte) in data.iter().enumerate() {
            let host = self.host(IoAddr(at.0.wrapping_add(offset as u64)), 1)?;
            // SAFETY: one byte within a region.
            unsafe { ptr::write_volatile(host.as_ptr(), *byte) };
        }
        Ok(())
    }

    fn region(&self, at: IoAddr) -> Option<Region> {
        self.regions.iter().enumerate().find_map(|(number, host)| {
            let start = IoAddr(GUEST_START + (number * REGION_LEN) as u64);
            let region = Region { at: start, len: REGION_LEN as u64, host: *host, access: Access::ReadWrite };
            region.translate(at, 1).map(|_| region)
        })
    }
}

/// Both ends of one queue, and a bump allocator for buffers.
pub struct Pair {
    pub memory: Arc<GuestMemory>,
    pub driver: DriverQueue<u64>,
    pub device: Queue,
    pub features: Features,
    next: u64,
}

impl Pair {
    pub fn new(size: u16, features: Features) -> Self {
        Self::with_tables(size, features, 8)
    }

    pub fn with_tables(size: u16, features: Features, entries: u16) -> Self {
        let features = features | Features::VERSION_1;
        let memory = GuestMemory::new();
        let format = RingFormat::of(features);
        let mut next = GUEST_START;
        let mut take = |len: usize| {
            let at = IoAddr(next);
            next = (next + len as u64).next_multiple_of(4096);
            (memory.host(at, len).unwrap(), at)
        };
        let (host, at) = take(RingMemory::len_for(format, size));
        // SAFETY: zeroed, 16-byte aligned, and kept alive by the `memory` beside the queue.
        let ring = unsafe { RingMemory::new(host, at, format, size) }.unwrap();
        let (host, at) = take(IndirectMemory::len_for(size, entries));
        // SAFETY: as above.
        let tables = unsafe { IndirectMemory::new(host, at, size, entries) };
        let driver = DriverQueue::new(ring, Some(tables), features).unwrap();
        let shared: Arc<dyn Memory> = memory.clone();
        let device = Queue::new(shared, driver.layout(), features, QueuePosition::START).unwrap();
        Self { memory, driver, device, features, next }
    }

    /// A fresh device end at `position`, as after a stop and a start.
    pub fn device_at(&self, position: QueuePosition) -> Queue {
        Queue::new(self.memory.clone(), self.driver.layout(), self.features, position).unwrap()
    }

    pub fn alloc(&mut self, len: u32) -> Buffer {
        let addr = IoAddr(self.next);
        self.next += u64::from(len);
        assert!(self.next <= GUEST_START + 2 * REGION_LEN as u64, "the rig's guest memory is used up");
        Buffer { addr, len }
    }

    /// Ring memory in fresh guest memory, `misaligned` bytes off a page's start.
    pub fn ring_memory(
        &mut self,
        misaligned: u64,
        format: RingFormat,
        size: u16,
    ) -> Result<RingMemory, SetupError> {
        self.next = self.next.next_multiple_of(4096) + misaligned;
        let len = if is_valid_size(format, size) { RingMemory::len_for(format, size) } else { 1 };
        let at = self.alloc(len as u32).addr;
        let host = self.memory.host(at, len).unwrap();
        // SAFETY: zeroed as it was never used, and kept alive by the `memory` beside the queue.
        unsafe { RingMemory::new(host, at, format, size) }
    }
}
