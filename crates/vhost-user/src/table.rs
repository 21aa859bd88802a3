//! [`MemoryTable`]: the regions that a front-end shares, and its own addresses for them.
//!
//! A table is a value: each change makes a new one, so that a change that is refused changes nothing. No file stays open: a
//! table of hundreds of regions holds none of this process's descriptors.
//!
//! # Files that shrink
//! An access to a mapping beyond the end of its file is a SIGBUS, which would end the server and every other client. The
//! length of the file is checked when it is mapped; [`SharedFiles`] says what is asked of it beyond that.

use crate::dirty_log::Log;
use crate::error::Refusal;
use crate::memory::{GuestMemory, Piece};
use std::os::fd::OwnedFd;
use vioduct_virtqueue::IoAddr;

/// Regions that one client may share: as many as a PC's memory slots, which is what front-ends ask for.
pub(crate) const MAX_REGIONS: usize = 509;
/// What guest addresses and file offsets are multiples of.
const PAGE_LEN: u64 = 4096;

/// Whether a client's memory may be in files that it can shrink.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SharedFiles {
    /// Only files that are sealed against it (`F_SEAL_SHRINK`), as a memfd can be: a client cannot harm others.
    Sealed,
    /// Any file: for clients that are trusted not to shrink it while it is mapped. Front-ends that keep guest memory in an
    /// ordinary file of a memory file system need this.
    Any,
}

/// A region as the front-end describes it; all in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FrontRegion {
    /// Guest-physical address.
    pub(crate) guest: u64,
    pub(crate) len: u64,
    /// The front-end's own address, by which it names rings.
    pub(crate) user: u64,
    /// Where the region starts in its file.
    pub(crate) offset: u64,
}

impl FrontRegion {
    fn check(&self) -> Result<(), Refusal> {
        let Self { guest, len, user, offset } = *self;
        if len == 0 || [guest, user, offset].iter().any(|start| start.checked_add(len).is_none()) {
            return Err(Refusal::Rule("a memory region is empty, or wraps"));
        }
        if !guest.is_multiple_of(PAGE_LEN) || !offset.is_multiple_of(PAGE_LEN) {
            return Err(Refusal::Rule("a memory region does not start at a page"));
        }
        Ok(())
    }

    fn overlaps(&self, other: &Self) -> bool {
        let meet = |mine: u64, theirs: u64| mine < theirs + other.len && theirs < mine + self.len;
        meet(self.guest, other.guest) || meet(self.user, other.user)
    }

    /// The same region, wherever it is in its file.
    fn is_at(&self, other: &Self) -> bool {
        (self.guest, self.len, self.user) == (other.guest, other.len, other.user)
    }
}

/// What a client's memory may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MemoryLimits {
    pub(crate) files: SharedFiles,
    /// Bytes of all regions together, which take address space of this process.
    pub(crate) total_bytes: u64,
}

#[derive(Clone)]
struct Entry {
    region: FrontRegion,
    piece: Piece,
}

/// The regions of one client.
#[derive(Clone)]
pub(crate) struct MemoryTable {
    entries: Vec<Entry>,
    limits: MemoryLimits,
}

impl MemoryTable {
    pub(crate) fn new(limits: MemoryLimits) -> Self {
        Self { entries: Vec::new(), limits }
    }

    /// A table of these regions and no others.
    pub(crate) fn replaced(&self, regions: Vec<(FrontRegion, OwnedFd)>) -> Result<Self, Refusal> {
        let mut table = Self::new(self.limits);
        regions.into_iter().try_for_each(|(region, file)| table.add(region, file))?;
        Ok(table)
    }

    /// This table and one region more.
    pub(crate) fn with(&self, region: FrontRegion, file: OwnedFd) -> Result<Self, Refusal> {
        let mut table = self.clone();
        table.add(region, file)?;
        Ok(table)
    }

    /// This table without the region at these addresses; where it is in its file does not matter.
    pub(crate) fn without(&self, region: &FrontRegion) -> Result<Self, Refusal> {
        let mut table = self.clone();
        table.entries.retain(|entry| !entry.region.is_at(region));
        if table.entries.len() == self.entries.len() {
            return Err(Refusal::Rule("there is no such memory region to remove"));
        }
        Ok(table)
    }

    fn add(&mut self, region: FrontRegion, file: OwnedFd) -> Result<(), Refusal> {
        region.check()?;
        if self.entries.len() == MAX_REGIONS {
            return Err(Refusal::Rule("too many memory regions"));
        }
        if self.entries.iter().any(|entry| entry.region.overlaps(&region)) {
            return Err(Refusal::Rule("memory regions overlap"));
        }
        let before: u64 = self.entries.iter().map(|entry| entry.region.len).sum();
        if before.checked_add(region.len).is_none_or(|total| total > self.limits.total_bytes) {
            return Err(Refusal::Rule("more memory than a client may share"));
        }
        let at = IoAddr(region.guest);
        let piece = Piece::of_file(file, region.offset, at, region.len, self.limits.files)?;
        self.entries.push(Entry { region, piece });
        Ok(())
    }

    /// The guest address of what the front-end has at `user`.
    pub(crate) fn guest_address(&self, user: u64) -> Result<IoAddr, Refusal> {
        let inside =
            |region: &FrontRegion| user.checked_sub(region.user).filter(|offset| *offset < region.len);
        self.entries
            .iter()
            .find_map(|entry| Some(IoAddr(entry.region.guest + inside(&entry.region)?)))
            .ok_or(Refusal::Address(user))
    }

    /// All regions, as a device reaches them, which logs what it writes.
    pub(crate) fn memory(&self, log: Option<Log>) -> GuestMemory {
        GuestMemory::new(self.entries.iter().map(|entry| entry.piece.clone()).collect(), log)
    }

    pub(crate) fn limits(&self) -> MemoryLimits {
        self.limits
    }
}
