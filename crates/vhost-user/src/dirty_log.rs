//! [`DirtyLog`]: the front-end's bitmap of pages that devices have written, in memory that it shares.
//!
//! This module is `unsafe` only to set bits in mapped memory and to take them out, as atomics: the other end is at it meanwhile.
#![allow(unsafe_code)]

use crate::error::Refusal;
use crate::memory::Piece;
use crate::table::MemoryLimits;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use vioduct_virtio_device::MemoryMap;
use vioduct_virtqueue::IoAddr;

/// Bytes that one bit of the log stands for.
pub(crate) const LOG_PAGE_LEN: u64 = 4096;

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

    /// `len` bytes of bits in a new file, which is the second.
    pub(crate) fn shared(len: u64) -> io::Result<(Self, OwnedFd)> {
        let map = MemoryMap::shared(len).map_err(io::Error::other)?;
        let file = map.regions().find_map(|(_, file)| file).map(|(file, _)| file.try_clone_to_owned());
        let piece = Piece::new(map.without_files());
        let (Some(file), Some(piece)) = (file, piece) else { return Err(io::ErrorKind::InvalidInput.into()) };
        Ok((Self { piece }, file?))
    }

    /// The first addresses of the pages that are marked, which are marked no more.
    pub(crate) fn take(&self) -> Vec<IoAddr> {
        let mut pages = Vec::new();
        for place in 0..self.piece.region().len {
            let Some(byte) = self.byte(place) else { continue };
            let bits = byte.swap(0, Ordering::AcqRel);
            let marked = (0..8).filter(|bit| bits >> bit & 1 == 1);
            pages.extend(marked.map(|bit| IoAddr((place * 8 + bit) * LOG_PAGE_LEN)));
        }
        pages
    }

    fn byte(&self, place: u64) -> Option<&AtomicU8> {
        let byte = self.piece.region().translate(IoAddr(place), 1)?;
        // SAFETY: a byte of the log, which the piece keeps mapped for reading and writing; all sides access it as an atomic.
        Some(unsafe { AtomicU8::from_ptr(byte.as_ptr()) })
    }

    /// Marks the pages of `len` bytes at `at`. Pages beyond the log are the front-end's own loss.
    fn mark(&self, at: u64, len: u64) {
        let Some(last) = len.checked_sub(1).map(|rest| at.saturating_add(rest)) else { return };
        for page in at / LOG_PAGE_LEN..=last / LOG_PAGE_LEN {
            let Some(byte) = self.byte(page / 8) else { return };
            byte.fetch_or(1 << (page % 8), Ordering::Relaxed);
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
