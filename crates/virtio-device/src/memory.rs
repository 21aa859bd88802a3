//! [`MemoryMap`]: guest memory as mapped regions, behind [`Memory`].
//!
//! This module holds `unsafe` to map and unmap memory, and to copy to and from it: a peer may change it at any moment, so it is
//! reached through raw pointers only, and no reference into it exists.
#![allow(unsafe_code)]

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, fstatfs, ftruncate, memfd_create};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use vioduct_virtqueue::{Access, IoAddr, Memory, MemoryFault, Region};

/// Bytes that one bit of the dirty log stands for.
pub const LOG_PAGE_LEN: u64 = 4096;

/// Where the bytes of a region come from.
#[derive(Clone, Debug)]
pub enum Backing {
    /// Memory of this process alone, in large pages where the system has some free.
    Anonymous,
    /// New memory that another process can map, once it is given the descriptor; it cannot be shrunk.
    Shared,
    /// Part of a file, from `offset` bytes on. Whoever else holds the file must not shrink it.
    File {
        /// The file, open for reading and writing as far as the access of the region goes.
        file: Arc<OwnedFd>,
        /// In bytes, a multiple of 16.
        offset: u64,
    },
}

/// A region to be mapped.
#[derive(Clone, Debug)]
pub struct RegionSetup {
    /// First address, a multiple of 16.
    pub at: IoAddr,
    /// Length in bytes.
    pub len: u64,
    /// What the device may do there.
    pub access: Access,
    /// Where the bytes come from.
    pub backing: Backing,
}

/// Why memory cannot be mapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// No byte, or more than the address space has.
    #[error("the region at {at} of {len:#x} bytes is empty or exceeds the address space: correct its length")]
    Length {
        /// First address.
        at: IoAddr,
        /// Length in bytes.
        len: u64,
    },
    /// The address, or the offset in the file, is not aligned as rings must be.
    #[error("the region at {0} is not aligned: choose an address and an offset that are multiples of 16")]
    Alignment(IoAddr),
    /// Two regions share an address.
    #[error("the regions at {0} and {1} overlap: move one")]
    Overlap(IoAddr, IoAddr),
    /// An access beyond the end of a file would kill this process.
    #[error("the region at {at} needs a file of {needed:#x} bytes, it has {len:#x}: enlarge it first")]
    FileTooShort {
        /// First address.
        at: IoAddr,
        /// End of the region in the file, in bytes.
        needed: u64,
        /// Length of the file in bytes.
        len: u64,
    },
    /// The system refused.
    #[error(
        "cannot map {len:#x} bytes at {at} (is there enough memory, and is the file writable?): {source}"
    )]
    System {
        /// First address.
        at: IoAddr,
        /// Length in bytes.
        len: u64,
        /// Its reason.
        source: io::Error,
    },
}

/// Memory of a guest: regions that do not overlap, found by address.
pub struct MemoryMap {
    /// By address.
    regions: Box<[Mapping]>,
    logging: AtomicBool,
}

struct Mapping {
    region: Region,
    file: Option<(Arc<OwnedFd>, u64)>,
    /// What is mapped: whole pages, of which the region may be a part.
    pages: (NonNull<u8>, usize),
    /// Made when the log begins: a region may be larger than a log of it that nobody wants.
    dirty: OnceLock<Box<[AtomicU64]>>,
}

// SAFETY: `pages` describes a mapping, which belongs to no thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; nothing is reached through it but in `drop`.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn make_log(&self) {
        let words = self.region.len.div_ceil(LOG_PAGE_LEN).div_ceil(64);
        self.dirty.get_or_init(|| (0..words).map(|_| AtomicU64::new(0)).collect());
    }

    /// The log, empty if it never began.
    fn log(&self) -> &[AtomicU64] {
        self.dirty.get().map_or(&[], |words| words)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let (start, len) = self.pages;
        // SAFETY: this is what `map` mapped, and nothing that uses it lives on: a `Region` is valid only as long as the map.
        // An error is not possible for a range that is mapped.
        let _ = unsafe { munmap(start.as_ptr().cast(), len) };
    }
}

impl MemoryMap {
    /// Maps `regions`, in any order.
    ///
    /// # Errors
    /// If one is not usable or two overlap; see [`MapError`].
    pub fn new(regions: Vec<RegionSetup>) -> Result<Self, MapError> {
        let mut regions = regions.into_iter().map(map).collect::<Result<Vec<_>, _>>()?;
        regions.sort_by_key(|mapping| mapping.region.at);
        for (low, high) in regions.iter().zip(regions.iter().skip(1)) {
            let (low, high) = (low.region, high.region);
            if high.at.0 - low.at.0 < low.len {
                return Err(MapError::Overlap(low.at, high.at));
            }
        }
        Ok(Self { regions: regions.into(), logging: AtomicBool::new(false) })
    }

    /// `len` bytes from address 0 on, of this process alone.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn anonymous(len: u64) -> Result<Self, MapError> {
        Self::one(len, Backing::Anonymous)
    }

    /// `len` bytes from address 0 on, that other processes can map.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn shared(len: u64) -> Result<Self, MapError> {
        Self::one(len, Backing::Shared)
    }

    /// The same memory without the files that it was mapped from, which are closed: [`regions`](Self::regions) has none to show.
    #[must_use]
    pub fn without_files(mut self) -> Self {
        self.regions.iter_mut().for_each(|mapping| mapping.file = None);
        self
    }

    fn one(len: u64, backing: Backing) -> Result<Self, MapError> {
        Self::new(vec![RegionSetup { at: IoAddr(0), len, access: Access::ReadWrite, backing }])
    }

    /// The regions by address, each with the file and the offset in it that another process can map; `None` for anonymous
    /// memory.
    pub fn regions(&self) -> impl Iterator<Item = (Region, Option<(BorrowedFd<'_>, u64)>)> {
        self.regions.iter().map(|mapping| {
            (mapping.region, mapping.file.as_ref().map(|(file, offset)| (file.as_fd(), *offset)))
        })
    }

    /// Begins to log writes of devices. A queue looks once, when it starts: call this while the endpoints that use the memory
    /// are paused.
    pub fn start_log(&self) {
        self.regions.iter().for_each(Mapping::make_log);
        self.logging.store(true, Ordering::Release);
    }

    /// Ends [`start_log`](Self::start_log); what is logged stays.
    pub fn stop_log(&self) {
        self.logging.store(false, Ordering::Release);
    }

    /// The addresses of the pages of [`LOG_PAGE_LEN`] bytes, counted from the start of their region, that devices have written
    /// since they were last taken.
    pub fn take_dirty(&self) -> Vec<IoAddr> {
        let mut pages = Vec::new();
        for mapping in &self.regions {
            for (place, word) in (0u64..).zip(mapping.log()) {
                let bits = word.swap(0, Ordering::AcqRel);
                let set = (0..64).filter(|bit| bits >> bit & 1 == 1);
                pages.extend(set.map(|bit| IoAddr(mapping.region.at.0 + (place * 64 + bit) * LOG_PAGE_LEN)));
            }
        }
        pages
    }

    fn find(&self, at: IoAddr) -> Option<&Mapping> {
        let after = self.regions.partition_point(|mapping| mapping.region.at <= at);
        let mapping = self.regions.get(after.checked_sub(1)?)?;
        (at.0 - mapping.region.at.0 < mapping.region.len).then_some(mapping)
    }

    /// Passes on `len` bytes at `at`, region by region, as host pointer, offset from `at`, and length.
    fn each_piece(
        &self,
        at: IoAddr,
        len: usize,
        wanted: Access,
        mut piece: impl FnMut(NonNull<u8>, usize, usize),
    ) -> Result<(), MemoryFault> {
        let fault = MemoryFault { at, len: len as u64 };
        let mut done = 0;
        while done < len {
            let here = at.checked_add(done as u64).ok_or(fault)?;
            let region = self.find(here).map(|mapping| mapping.region).ok_or(fault)?;
            let left_in_region = region.len - (here.0 - region.at.0);
            let count = left_in_region.min((len - done) as u64);
            let host = region.translate(here, count).filter(|_| region.access.allows(wanted)).ok_or(fault)?;
            piece(host, done, count as usize);
            done += count as usize;
        }
        Ok(())
    }
}

/// New memory of this process alone.
fn private(len: usize, protection: ProtFlags) -> rustix::io::Result<*mut c_void> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let start = unsafe { mmap_anonymous(ptr::null_mut(), len, protection, flags) }?;
    // SAFETY: the mapping is the one just made, and reads as before. A system without large pages does without.
    let _ = unsafe { madvise(start, len, Advice::LinuxHugepage) };
    Ok(start)
}

/// Maps one region. The mapping is private to this map, so that its end is known.
fn map(setup: RegionSetup) -> Result<Mapping, MapError> {
    let RegionSetup { at, len, access, backing } = setup;
    if len == 0 || i64::try_from(len).is_err() || at.checked_add(len).is_none() {
        return Err(MapError::Length { at, len });
    }
    if !at.0.is_multiple_of(16) {
        return Err(MapError::Alignment(at));
    }
    let system = |source: rustix::io::Errno| MapError::System { at, len, source: source.into() };
    let file = match backing {
        Backing::Anonymous => None,
        Backing::Shared => Some((Arc::new(shared_file(len).map_err(system)?), 0)),
        Backing::File { file, offset } => {
            let file_len = fstat(&file).map_err(system)?.st_size as u64;
            match offset.checked_add(len) {
                Some(needed) if needed <= file_len => Some((file, offset)),
                needed => {
                    return Err(MapError::FileTooShort {
                        at,
                        needed: needed.unwrap_or(u64::MAX),
                        len: file_len,
                    });
                }
            }
        }
    };
    if file.as_ref().is_some_and(|(_, offset)| !offset.is_multiple_of(16)) {
        return Err(MapError::Alignment(at));
    }
    let protection = match access {
        Access::Read => ProtFlags::READ,
        Access::Write | Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
    };
    let page = file.as_ref().map_or(Ok(PAGE_LEN), |(file, _)| page_len(file)).map_err(system)?;
    // A mapping begins at a page of the file and has whole pages; the region may begin further on.
    let before = file.as_ref().map_or(0, |(_, offset)| offset % page);
    let pages_len = before
        .checked_add(len)
        .and_then(|len| len.checked_next_multiple_of(page))
        .and_then(|len| usize::try_from(len).ok())
        .ok_or(MapError::Length { at, len })?;
    let mapped = match &file {
        None => private(pages_len, protection),
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        Some((file, offset)) => unsafe {
            let flags = MapFlags::SHARED | MapFlags::NORESERVE;
            mmap(ptr::null_mut(), pages_len, protection, flags, file, offset - before)
        },
    };
    let start: NonNull<u8> = NonNull::new(mapped.map_err(system)?.cast())
        .expect("invariant: the kernel maps nothing at address 0 unasked");
    // SAFETY: `before` is less than what is mapped.
    let host = unsafe { start.add(before as usize) };
    let region = Region { at, len, host, access };
    Ok(Mapping { region, file, pages: (start, pages_len), dirty: OnceLock::new() })
}

const PAGE_LEN: u64 = 4096;

/// What mappings of a file begin and end at: its file system's pages, where those are huge.
fn page_len(file: &OwnedFd) -> rustix::io::Result<u64> {
    const HUGETLBFS: u64 = 0x9584_58f6;
    let system = fstatfs(file)?;
    let huge = (system.f_type as u64) & 0xffff_ffff == HUGETLBFS;
    Ok(if huge { (system.f_bsize as u64).max(PAGE_LEN) } else { PAGE_LEN })
}

/// Memory as a file, sealed so that no one who holds it can shrink it under the mapping.
fn shared_file(len: u64) -> rustix::io::Result<OwnedFd> {
    let file = memfd_create("guest-memory", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, len)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file)
}

// SAFETY: the regions are mapped by `map`, a multiple of 16 bytes from a page boundary, as their addresses are, for their whole
// length and with their access; only the drop of this object unmaps them. It makes no reference into them.
unsafe impl Memory for MemoryMap {
    fn read(&self, at: IoAddr, out: &mut [u8]) -> Result<(), MemoryFault> {
        let to = out.as_mut_ptr();
        self.each_piece(at, out.len(), Access::Read, |from, done, len| {
            // SAFETY: `from .. from + len` is within a mapped region; `done + len` is at most `out.len()`; guest memory and
            // `out` do not overlap, as no reference into guest memory exists.
            unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to.add(done), len) };
        })
    }

    fn write(&self, at: IoAddr, data: &[u8]) -> Result<(), MemoryFault> {
        self.each_piece(at, data.len(), Access::Write, |to, done, len| {
            // SAFETY: as in `read`; the region is writable.
            unsafe { ptr::copy_nonoverlapping(data.as_ptr().add(done), to.as_ptr(), len) };
        })?;
        if self.logs_writes() {
            self.written(at, data.len() as u64);
        }
        Ok(())
    }

    fn region(&self, at: IoAddr) -> Option<Region> {
        self.find(at).map(|mapping| mapping.region)
    }

    fn logs_writes(&self) -> bool {
        self.logging.load(Ordering::Acquire)
    }

    fn written(&self, at: IoAddr, len: u64) {
        let end = at.0.saturating_add(len);
        for mapping in &self.regions {
            let (region, dirty) = (mapping.region, mapping.log());
            let first = at.0.max(region.at.0);
            let last = end.min(region.at.0 + region.len);
            if first >= last {
                continue;
            }
            for page in (first - region.at.0) / LOG_PAGE_LEN..=(last - 1 - region.at.0) / LOG_PAGE_LEN {
                if let Some(word) = dirty.get((page / 64) as usize) {
                    word.fetch_or(1 << (page % 64), Ordering::AcqRel);
                }
            }
        }
    }
}

const _: () = assert!(mem::size_of::<usize>() == 8, "addresses are 64 bits wide");

#[cfg(test)]
mod tests;
