//! [`DirtyLog`]: the pages that the kernel has written, a bit each.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use vioduct_virtio_device::memory::LOG_PAGE_LEN;
use vioduct_virtio_device::{EventFd, MemoryMap};
use vioduct_virtqueue::{IoAddr, Memory};

/// Bits by guest-physical page, from page 0 on.
pub(crate) struct DirtyLog {
    words: Box<[AtomicU64]>,
    /// Signalled by the kernel when it sets a bit.
    pub(crate) event: std::sync::Arc<EventFd>,
}

impl DirtyLog {
    /// For all of `ram`.
    pub(crate) fn new(ram: &MemoryMap) -> io::Result<Self> {
        let words = (0..words_for(ram)).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { words, event: EventFd::new()?.into() })
    }

    /// Whether there is a bit for every page of `ram`.
    pub(crate) fn suits(&self, ram: &MemoryMap) -> bool {
        self.words.len() as u64 >= words_for(ram)
    }

    /// Where it is in this process.
    pub(crate) fn address(&self) -> u64 {
        self.words.as_ptr() as u64
    }

    /// Moves what the kernel has logged by now to the memory's own log. The kernel's bits are those of bytes, in ascending order.
    pub(crate) fn collect(&self, ram: &MemoryMap) {
        for (place, word) in (0_u64..).zip(&self.words) {
            let bits = word.swap(0, Ordering::AcqRel).to_le();
            for page in (0..64).filter(|bit| bits >> bit & 1 == 1).map(|bit| place * 64 + bit) {
                ram.written(IoAddr(page * LOG_PAGE_LEN), LOG_PAGE_LEN);
            }
        }
    }
}

fn words_for(ram: &MemoryMap) -> u64 {
    let end = ram.regions().map(|(region, _)| region.at.0 + region.len).max().unwrap_or_default();
    end.div_ceil(LOG_PAGE_LEN).div_ceil(64)
}
