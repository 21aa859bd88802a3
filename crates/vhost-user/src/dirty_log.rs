//! [`DirtyLog`]: the front-end's bitmap of pages that devices have written, in memory that it shares.
//!
//! This module is `unsafe` only to set bits in mapped memory, as atomics: the front-end takes them out meanwhile.
#![allow(unsafe_code)]

use crate::error::Refusal;
use crate::memory::Piece;
use crate::table::MemoryLimits;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use vioduct_virtqueue::IoAddr;

/// Bytes that one bit of the log stands for.
const LOG_PAGE_LEN: u64 = 4096;

/// One bit per page, from address 0 on.
pub(crate) struct DirtyLog {
    piece: Piece,
}

impl DirtyLog {
    /// `len` bytes of bits, from `offset` on in `file`.
    pub(crate) fn new(len: u64, offset: u64, file: OwnedFd, limits: MemoryLimits) -> Result<Self, Refusal> {
        if len > limits.total_bytes {
            return Err(Refusal::Rule("a log longer than all the memory that a client may share"));
        }
        Ok(Self { piece: Piece::of_file(file, offset, IoAddr(0), len, limits.files)? })
    }

    /// Marks the pages of `len` bytes at `at`. Pages beyond the log are the front-end's own loss.
    fn mark(&self, at: u64, len: u64) {
        let Some(last) = len.checked_sub(1).map(|rest| at.saturating_add(rest)) else { return };
        for page in at / LOG_PAGE_LEN..=last / LOG_PAGE_LEN {
            let Some(byte) = self.piece.region().translate(IoAddr(page / 8), 1) else { return };
            // SAFETY: a byte of the log, which the piece keeps mapped for reading and writing; all sides access it as an atomic.
            let bits = unsafe { AtomicU8::from_ptr(byte.as_ptr()) };
            bits.fetch_or(1 << (page % 8), Ordering::Relaxed);
        }
    }
}

/// What is to be logged, and how, at one time.
pub(crate) struct Log {
    pub(crate) pages: Arc<DirtyLog>,
    /// Whether writes to buffers are.
    pub(crate) data: bool,
    pub(crate) rings: Vec<RingLog>,
}

/// An area of a ring that the device writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RingLog {
    pub(crate) at: IoAddr,
    pub(crate) len: u64,
    /// Where its writes are logged; `None`: they are not.
    pub(crate) log: Option<u64>,
}

impl Log {
    /// The device wrote `len` bytes at `at`: an area of a ring, whole, or a buffer. The bits are seen with what the device publishes
    /// next, as they are set before.
    pub(crate) fn written(&self, at: IoAddr, len: u64) {
        match self.rings.iter().find(|ring| (ring.at, ring.len) == (at, len)) {
            Some(RingLog { log: Some(log), .. }) => self.pages.mark(*log, len),
            Some(RingLog { log: None, .. }) => {}
            None if self.data => self.pages.mark(at.0, len),
            None => {}
        }
    }
}
