//! The guest's memory: two regions, one below and one above 4 GiB, and [`GuestDma`], which gives out pages of them.
//!
//! This module holds `unsafe` because it implements [`Dma`]: it vouches that pages are given to one owner at a time, and copies
//! to and from driver memory that a caller of [`Dma::map`] vouches for.
#![allow(unsafe_code)]

use std::fmt;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vioduct_virtio_device::{Backing, MemoryMap, RegionSetup};
use vioduct_virtio_driver::{Direction, Dma, DmaError, DmaRegion, dma};
use vioduct_virtqueue::{Access, IoAddr, Memory};

use crate::MachineError;

const PAGE_LEN: u64 = dma::PAGE_LEN as u64;
/// Where the lower half of the memory starts.
pub(crate) const LOW_START: u64 = 1 << 20;
/// The lower half ends here at the latest: above are device registers.
pub(crate) const LOW_END: u64 = 0xc000_0000;
/// Where the upper half starts: addresses do not fit into 32 bits.
pub(crate) const HIGH_START: u64 = 1 << 32;

/// A handle to the guest's memory, of which it gives pages to drivers: zeroed, and from both regions in turn, so that no
/// translation goes untested. Clones share one memory.
///
/// [`Dma::map`] copies to and from a bounce buffer: the driver's own memory is not the guest's.
#[derive(Clone)]
pub struct GuestDma {
    memory: Arc<MemoryMap>,
    pages: Arc<Mutex<Pages>>,
}

/// The pages that nobody has.
struct Pages {
    regions: [FreeList; 2],
    /// Which region is asked first.
    turn: usize,
}

/// Free ranges of one region, sorted, none next to another.
struct FreeList(Vec<Range<u64>>);

impl FreeList {
    fn take(&mut self, len: u64) -> Option<u64> {
        let place = self.0.iter().position(|range| range.end - range.start >= len)?;
        let range = &mut self.0[place];
        let start = range.start;
        range.start += len;
        if range.is_empty() {
            self.0.remove(place);
        }
        Some(start)
    }

    fn give(&mut self, range: Range<u64>) {
        let place = self.0.partition_point(|free| free.start < range.start);
        self.0.insert(place, range);
        let mut merged: Vec<Range<u64>> = Vec::with_capacity(self.0.len());
        for range in self.0.drain(..) {
            match merged.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => merged.push(range),
            }
        }
        self.0 = merged;
    }
}

impl GuestDma {
    /// `len` bytes of guest memory, half of them in each region, rounded up to pages.
    pub(crate) fn new(len: usize) -> Result<Self, MachineError> {
        let half = (len as u64).div_ceil(2).next_multiple_of(PAGE_LEN);
        if half == 0 || half > LOW_END - LOW_START {
            return Err(MachineError::MemoryLength(len));
        }
        let region = |at| RegionSetup {
            at: IoAddr(at),
            len: half,
            access: Access::ReadWrite,
            backing: Backing::Shared,
        };
        let memory =
            MemoryMap::new(vec![region(LOW_START), region(HIGH_START)]).map_err(MachineError::Memory)?;
        let free = |start: u64| FreeList(std::iter::once(start..start + half).collect());
        let pages = Pages { regions: [free(LOW_START), free(HIGH_START)], turn: 0 };
        Ok(Self { memory: Arc::new(memory), pages: Arc::new(Mutex::new(pages)) })
    }

    /// The memory as devices see it.
    #[must_use]
    pub fn memory(&self) -> Arc<MemoryMap> {
        self.memory.clone()
    }

    /// Bytes that nobody has.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        let pages = self.pages();
        pages.regions.iter().flat_map(|list| &list.0).map(|range| range.end - range.start).sum()
    }

    /// Addresses that someone has, by region.
    #[must_use]
    pub fn in_use(&self) -> Vec<Range<u64>> {
        let pages = self.pages();
        let mut used = Vec::new();
        for ((region, _), free) in self.memory.regions().zip(&pages.regions) {
            let mut from = region.at.0;
            for free in &free.0 {
                used.push(from..free.start);
                from = free.end;
            }
            used.push(from..region.at.0 + region.len);
        }
        used.retain(|range| !range.is_empty());
        used
    }

    fn take(&self, len: u64) -> Option<u64> {
        let mut pages = self.pages();
        let Pages { regions, turn } = &mut *pages;
        let (first, second) = (*turn % 2, (*turn + 1) % 2);
        *turn = second;
        regions[first].take(len).or_else(|| regions[second].take(len))
    }

    fn give(&self, start: u64, len: usize) {
        let list = usize::from(start >= HIGH_START);
        self.pages().regions[list].give(start..start + rounded(len));
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rounded(len: usize) -> u64 {
    (len as u64).next_multiple_of(PAGE_LEN)
}

// SAFETY: pages are taken from the free list before they are given out and go back to it only when freed, so nobody else has
// them; every handle keeps the mapping alive, regions are page-aligned on both sides, and no reference is made into them.
unsafe impl Dma for GuestDma {
    fn alloc(&self, len: usize) -> Result<DmaRegion, DmaError> {
        let exhausted = DmaError::Exhausted(len);
        if len == 0 || len as u64 > LOW_END {
            return Err(exhausted);
        }
        let addr = IoAddr(self.take(rounded(len)).ok_or(exhausted)?);
        let region = self.memory.region(addr).and_then(|region| region.translate(addr, rounded(len)));
        let host = region.ok_or(exhausted)?;
        // SAFETY: `translate` found as many bytes in one mapped region, and nobody else has them.
        unsafe { ptr::write_bytes(host.as_ptr(), 0, len) };
        Ok(DmaRegion { host, addr, len })
    }

    unsafe fn free(&self, region: DmaRegion) {
        self.give(region.addr.0, region.len);
    }

    unsafe fn map(&self, bytes: NonNull<[u8]>, direction: Direction) -> Result<IoAddr, DmaError> {
        let region = self.alloc(bytes.len())?;
        if direction != Direction::FromDevice {
            // SAFETY: the caller lent `bytes` for as long as the mapping lasts; the bounce buffer is as long, and apart from it.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr().cast(), region.host.as_ptr(), bytes.len()) };
        }
        Ok(region.addr)
    }

    unsafe fn unmap(&self, addr: IoAddr, bytes: NonNull<[u8]>, direction: Direction) {
        if direction != Direction::ToDevice {
            // SAFETY: the caller lent `bytes`, writable in this direction, and uses them not before this returns.
            let out = unsafe { slice::from_raw_parts_mut(bytes.as_ptr().cast(), bytes.len()) };
            // `map` gave this address out for as many bytes, all of them mapped.
            let _ = self.memory.read(addr, out);
        }
        self.give(addr.0, bytes.len());
    }
}

impl fmt::Debug for GuestDma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestDma").field("free_bytes", &self.free_bytes()).finish_non_exhaustive()
    }
}
