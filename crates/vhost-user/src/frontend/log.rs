//! [`WriteLog`]: what a server logs of its writes, passed on to the memory's own log.

use super::options::SharedRegion;
use crate::dirty_log::{DirtyLog, LOG_PAGE_LEN};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use vioduct_virtqueue::Memory;

/// The server sets bits here, and keeps those that it has set when it goes away.
pub(super) struct WriteLog {
    pages: DirtyLog,
    pub(super) len: u64,
    file: OwnedFd,
}

impl WriteLog {
    /// The length, in bytes, that has a bit for every page of the regions.
    pub(super) fn len_for(regions: &[SharedRegion]) -> u64 {
        let end = regions.iter().map(|region| region.at.0.saturating_add(region.len)).max();
        end.unwrap_or_default().div_ceil(LOG_PAGE_LEN * 8).max(1).next_multiple_of(LOG_PAGE_LEN)
    }

    pub(super) fn new(len: u64) -> io::Result<Self> {
        let (pages, file) = DirtyLog::shared(len)?;
        Ok(Self { pages, len, file })
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Moves what is logged by now.
    pub(super) fn pass_on(&self, memory: &dyn Memory) {
        self.pages.take().into_iter().for_each(|page| memory.written(page, LOG_PAGE_LEN));
    }
}
