//! Memory that driver and device share in tests; the device sees it elsewhere than the driver does.
//!
//! `unsafe` because it implements `Dma` and `Memory`, whose contracts are about raw pointers.
#![allow(unsafe_code)]

use crate::dma::{Direction, Dma, DmaError, DmaRegion, PAGE_LEN};
use core::ptr::{self, NonNull};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::sync::{Arc, Mutex};
use std::vec::Vec;
use vioduct_virtqueue::{Access, IoAddr, Memory, MemoryFault, Region};

/// How far the device's addresses are from the driver's.
const SHIFT: u64 = 0x10_0000_0000_0000;

#[derive(Debug, Default)]
pub(crate) struct TestMemory {
    /// Address in this process and length of what is allocated.
    live: Mutex<Vec<(usize, usize)>>,
}

fn layout(len: usize) -> Layout {
    Layout::from_size_align(len, PAGE_LEN).unwrap()
}

impl TestMemory {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Regions that were allocated and not freed.
    pub(crate) fn live(&self) -> usize {
        self.live.lock().unwrap().len()
    }

    fn host(&self, at: IoAddr, len: usize) -> Result<NonNull<u8>, MemoryFault> {
        let fault = MemoryFault { at, len: len as u64 };
        self.region(at).and_then(|region| region.translate(at, len as u64)).ok_or(fault)
    }
}

// SAFETY: each region is an allocation of its own, freed by `free` only.
unsafe impl Dma for TestMemory {
    fn alloc(&self, len: usize) -> Result<DmaRegion, DmaError> {
        // SAFETY: the layout is not empty, for no test allocates nothing.
        let host = NonNull::new(unsafe { alloc_zeroed(layout(len)) }).ok_or(DmaError::Exhausted(len))?;
        let address = host.as_ptr() as usize;
        self.live.lock().unwrap().push((address, len));
        Ok(DmaRegion { host, addr: IoAddr(address as u64 + SHIFT), len })
    }

    unsafe fn free(&self, region: DmaRegion) {
        let address = region.host.as_ptr() as usize;
        self.live.lock().unwrap().retain(|(at, _)| *at != address);
        // SAFETY: allocated with the same layout in `alloc`.
        unsafe { dealloc(region.host.as_ptr(), layout(region.len)) };
    }

    unsafe fn map(&self, bytes: NonNull<[u8]>, _direction: Direction) -> Result<IoAddr, DmaError> {
        Ok(IoAddr(bytes.cast::<u8>().as_ptr() as u64 + SHIFT))
    }

    unsafe fn unmap(&self, _addr: IoAddr, _bytes: NonNull<[u8]>, _direction: Direction) {}
}

// SAFETY: the regions are page-aligned on both sides, and live until freed, which queues do after their device has stopped.
unsafe impl Memory for TestMemory {
    fn read(&self, at: IoAddr, out: &mut [u8]) -> Result<(), MemoryFault> {
        let host = self.host(at, out.len())?;
        // SAFETY: as many bytes are within one region.
        unsafe { ptr::copy_nonoverlapping(host.as_ptr(), out.as_mut_ptr(), out.len()) };
        Ok(())
    }

    fn write(&self, at: IoAddr, data: &[u8]) -> Result<(), MemoryFault> {
        let host = self.host(at, data.len())?;
        // SAFETY: as many bytes are within one region.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), host.as_ptr(), data.len()) };
        Ok(())
    }

    fn region(&self, at: IoAddr) -> Option<Region> {
        let live = self.live.lock().unwrap();
        live.iter().find_map(|(address, len)| {
            let host = NonNull::new(*address as *mut u8)?;
            let start = IoAddr(*address as u64 + SHIFT);
            let region = Region { at: start, len: *len as u64, host, access: Access::ReadWrite };
            region.translate(at, 1).map(|_| region)
        })
    }
}
