//! [`Faulty`]: memory that fails where or when a test says, around any other.
//!
//! This module holds `unsafe` because it implements [`Memory`]: what it hands out are parts of the regions of the memory inside.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vioduct_virtqueue::{Access, IoAddr, Memory, MemoryFault, Region};

/// Memory with faults. Give it to a device with [`Endpoint::replace_memory`](vioduct_virtio_device::Endpoint::replace_memory).
pub struct Faulty {
    inner: Arc<dyn Memory>,
    hole: Range<u64>,
    mapping: Mapping,
    fails_from: u64,
    accesses: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mapping {
    Regions,
    None,
}

impl Faulty {
    /// All of `inner`, without faults so far.
    #[must_use]
    pub fn new(inner: Arc<dyn Memory>) -> Self {
        Self {
            inner,
            hole: 0..0,
            mapping: Mapping::Regions,
            fails_from: u64::MAX,
            accesses: AtomicU64::new(0),
        }
    }

    /// Takes the addresses of `hole` away.
    #[must_use]
    pub fn with_hole(mut self, hole: Range<u64>) -> Self {
        self.hole = hole;
        self
    }

    /// Maps nothing, so that every access is a copy through [`Memory::read`] or [`Memory::write`], and is counted.
    #[must_use]
    pub fn unmapped(mut self) -> Self {
        self.mapping = Mapping::None;
        self
    }

    /// Lets access number `first`, counted from 0, and every later one fail. Accesses are reads, writes and look-ups of regions:
    /// what a queue does to memory that it has mapped is not seen.
    #[must_use]
    pub fn failing_from(mut self, first: u64) -> Self {
        self.fails_from = first;
        self
    }

    /// Accesses so far.
    #[must_use]
    pub fn accesses(&self) -> u64 {
        self.accesses.load(Ordering::Acquire)
    }

    fn admits(&self, at: IoAddr, len: u64) -> bool {
        let number = self.accesses.fetch_add(1, Ordering::AcqRel);
        number < self.fails_from && !self.touches_hole(at, len)
    }

    fn touches_hole(&self, at: IoAddr, len: u64) -> bool {
        at.0 < self.hole.end && self.hole.start < at.0.saturating_add(len.max(1))
    }

    /// The part of `region` around `at` that has no hole.
    fn without_hole(&self, region: Region, at: IoAddr) -> Region {
        let end = region.at.0 + region.len;
        if self.hole.is_empty() || self.hole.end <= region.at.0 || end <= self.hole.start {
            return region;
        }
        let (start, end) =
            if at.0 < self.hole.start { (region.at.0, self.hole.start) } else { (self.hole.end, end) };
        let skipped = start - region.at.0;
        // SAFETY: `skipped` is less than the region's length, since `at`, which is not in the hole, lies at or beyond it.
        let host = unsafe { region.host.add(skipped as usize) };
        Region { at: IoAddr(start), len: end - start, host, access: region.access }
    }
}

// SAFETY: regions are those of `inner`, or parts of them with the host address moved as the device address is; `inner` is kept
// for as long as this object lives, and no reference is made into them.
unsafe impl Memory for Faulty {
    fn read(&self, at: IoAddr, out: &mut [u8]) -> Result<(), MemoryFault> {
        let len = out.len() as u64;
        if self.admits(at, len) { self.inner.read(at, out) } else { Err(MemoryFault { at, len }) }
    }

    fn write(&self, at: IoAddr, data: &[u8]) -> Result<(), MemoryFault> {
        let len = data.len() as u64;
        if self.admits(at, len) { self.inner.write(at, data) } else { Err(MemoryFault { at, len }) }
    }

    fn region(&self, at: IoAddr) -> Option<Region> {
        if self.mapping == Mapping::None || !self.admits(at, 1) {
            return None;
        }
        self.inner.region(at).map(|region| self.without_hole(region, at))
    }

    fn reaches(&self, at: IoAddr, len: u64, access: Access) -> bool {
        let mapped = |region: Region| region.access.allows(access) && region.translate(at, len).is_some();
        let there = self.inner.region(at).is_some_and(mapped) || self.inner.reaches(at, len, access);
        self.mapping == Mapping::None && there && !self.touches_hole(at, len)
    }

    fn logs_writes(&self) -> bool {
        self.inner.logs_writes()
    }

    fn written(&self, at: IoAddr, len: u64) {
        self.inner.written(at, len);
    }
}
