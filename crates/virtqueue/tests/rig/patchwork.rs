//! Memory in patches: mapped or remote, readable, writable or both, with gaps, and with a switch that takes all of it away.
//!
//! `unsafe` because it implements `Memory`, as every owner of guest memory does.
#![allow(unsafe_code)]

use super::raw::Bytes;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::{self, NonNull};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use vioduct_virtqueue::{
    Access, IndirectMemory, IoAddr, Memory, MemoryFault, Region, RingFormat, RingMemory,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Found by `region`.
    Mapped,
    /// Reached by `read` and `write` only.
    Remote,
}

struct Patch {
    at: u64,
    len: usize,
    access: Access,
    place: Place,
    host: NonNull<u8>,
}

impl Patch {
    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, 16).unwrap()
    }

    fn holds(&self, at: u64) -> bool {
        at >= self.at && at - self.at < self.len as u64
    }
}

/// Patches of memory, and a count of how often a device asked for any of it.
#[derive(Default)]
pub struct Patchwork {
    patches: Vec<Patch>,
    gone: AtomicBool,
    asked: AtomicUsize,
    logged: Mutex<Vec<(u64, u64)>>,
}

// SAFETY: the memory is accessed by raw pointers only, as shared memory is.
unsafe impl Send for Patchwork {}
// SAFETY: as above.
unsafe impl Sync for Patchwork {}

impl Patchwork {
    pub fn with(mut self, at: u64, len: usize, access: Access, place: Place) -> Self {
        // SAFETY: the layout is not empty: no test asks for an empty patch.
        let host = NonNull::new(unsafe { alloc_zeroed(Patch::layout(len)) }).unwrap();
        self.patches.push(Patch { at, len, access, place, host });
        self
    }

    fn find(&self, at: u64) -> Option<&Patch> {
        self.patches.iter().find(|patch| patch.holds(at))
    }

    /// Ring memory for a driver end, whatever the device may do there; this object outlives the driver.
    pub fn ring_memory(&self, at: u64, format: RingFormat, size: u16) -> RingMemory {
        let len = RingMemory::len_for(format, size);
        // SAFETY: zeroed memory of one patch, alive as long as this object.
        unsafe { RingMemory::new(self.owned(at, len), IoAddr(at), format, size) }.unwrap()
    }

    /// Memory for as many indirect tables of four entries.
    pub fn table_memory(&self, at: u64, tables: u16) -> IndirectMemory {
        let len = IndirectMemory::len_for(tables, 4);
        // SAFETY: memory of one patch, alive as long as this object.
        unsafe { IndirectMemory::new(self.owned(at, len), IoAddr(at), tables, 4) }
    }

    fn owned(&self, at: u64, len: usize) -> NonNull<u8> {
        let patch = self.find(at).unwrap();
        let offset = (at - patch.at) as usize;
        assert!(offset + len <= patch.len);
        // SAFETY: `offset` is within the patch.
        unsafe { patch.host.add(offset) }
    }

    fn allowed(&self, at: u64, access: Access) -> Option<NonNull<u8>> {
        let patch = self.find(at).filter(|patch| patch.access.allows(access))?;
        // SAFETY: `at` is within the patch.
        Some(unsafe { patch.host.add((at - patch.at) as usize) })
    }

    /// From now on remote accesses fail, as when the other process has died.
    pub fn take_away(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    pub fn give_back(&self) {
        self.gone.store(false, Ordering::Relaxed);
    }

    /// How many reads, writes and look-ups there were.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// What was logged as written: address and length.
    pub fn logged(&self) -> Vec<(u64, u64)> {
        self.logged.lock().unwrap().clone()
    }

    fn start(&self, at: IoAddr, len: usize) -> Result<(), MemoryFault> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.gone.load(Ordering::Relaxed) { Err(MemoryFault { at, len: len as u64 }) } else { Ok(()) }
    }
}

impl Drop for Patchwork {
    fn drop(&mut self) {
        for patch in &self.patches {
            // SAFETY: allocated with the same layout in `with`.
            unsafe { dealloc(patch.host.as_ptr(), Patch::layout(patch.len)) };
        }
    }
}

impl Bytes for Patchwork {
    fn peek(&self, at: u64, len: usize) -> Vec<u8> {
        let byte = |at: u64| {
            let patch = self.find(at).unwrap();
            // SAFETY: `at` is within the patch.
            unsafe { ptr::read_volatile(patch.host.as_ptr().add((at - patch.at) as usize)) }
        };
        (at..at + len as u64).map(byte).collect()
    }

    fn poke(&self, at: u64, data: &[u8]) {
        for (at, byte) in (at..).zip(data) {
            let patch = self.find(at).unwrap();
            // SAFETY: `at` is within the patch.
            unsafe { ptr::write_volatile(patch.host.as_ptr().add((at - patch.at) as usize), *byte) };
        }
    }
}

// SAFETY: the patches live as long as the object, and no reference is made into them.
unsafe impl Memory for Patchwork {
    fn read(&self, at: IoAddr, out: &mut [u8]) -> Result<(), MemoryFault> {
        let fault = MemoryFault { at, len: out.len() as u64 };
        self.start(at, out.len())?;
        for (offset, byte) in (0u64..).zip(out) {
            let at = at.0.checked_add(offset).ok_or(fault)?;
            // SAFETY: a byte within a patch.
            *byte = unsafe { ptr::read_volatile(self.allowed(at, Access::Read).ok_or(fault)?.as_ptr()) };
        }
        Ok(())
    }

    fn write(&self, at: IoAddr, data: &[u8]) -> Result<(), MemoryFault> {
        let fault = MemoryFault { at, len: data.len() as u64 };
        self.start(at, data.len())?;
        for (offset, byte) in (0u64..).zip(data) {
            let at = at.0.checked_add(offset).ok_or(fault)?;
            // SAFETY: a byte within a patch.
            unsafe { ptr::write_volatile(self.allowed(at, Access::Write).ok_or(fault)?.as_ptr(), *byte) };
        }
        Ok(())
    }

    fn region(&self, at: IoAddr) -> Option<Region> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let patch = self.find(at.0).filter(|patch| patch.place == Place::Mapped)?;
        Some(Region { at: IoAddr(patch.at), len: patch.len as u64, host: patch.host, access: patch.access })
    }

    fn reaches(&self, at: IoAddr, len: u64, access: Access) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut at = at.0;
        let Some(end) = at.checked_add(len) else { return false };
        while at < end {
            let Some(patch) = self.find(at).filter(|patch| patch.access.allows(access)) else { return false };
            at = patch.at + patch.len as u64;
        }
        true
    }

    fn logs_writes(&self) -> bool {
        true
    }

    fn written(&self, at: IoAddr, len: u64) {
        self.logged.lock().unwrap().push((at.0, len));
    }
}
