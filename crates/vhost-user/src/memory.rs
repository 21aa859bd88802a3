//! [`GuestMemory`]: the front-end's regions behind [`Memory`].
//!
//! Each region is mapped by itself and shared by every version of the whole, so that one can be added or removed without
//! touching the others, and what is in flight keeps the version that it began with.
//!
//! This module is `unsafe` only in that it implements [`Memory`], on top of maps that do.
#![allow(unsafe_code)]

use crate::dirty_log::Log;
use crate::error::Refusal;
use crate::table::SharedFiles;
use rustix::fs::{SealFlags, fcntl_get_seals};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use vioduct_virtio_device::{Backing, MemoryMap, RegionSetup};
use vioduct_virtqueue::{Access, IoAddr, Memory, MemoryFault, Region};

/// One region, mapped.
#[derive(Clone)]
pub(crate) struct Piece {
    region: Region,
    map: Arc<MemoryMap>,
}

impl Piece {
    /// `None` if the map is empty.
    pub(crate) fn new(map: MemoryMap) -> Option<Self> {
        let region = map.regions().next().map(|(region, _)| region)?;
        Some(Self { region, map: Arc::new(map) })
    }

    /// Maps `len` bytes of a front-end's file, from `offset` on, for devices to reach at `at`.
    pub(crate) fn of_file(
        file: OwnedFd,
        offset: u64,
        at: IoAddr,
        len: u64,
        files: SharedFiles,
    ) -> Result<Self, Refusal> {
        let sealed = || fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
        if files == SharedFiles::Sealed && !sealed() {
            return Err(Refusal::Rule(
                "memory is in a file that can be shrunk: seal it with F_SEAL_SHRINK, or let the server trust its clients",
            ));
        }
        let backing = Backing::File { file: Arc::new(file), offset };
        let setup = RegionSetup { at, len, access: Access::ReadWrite, backing };
        let map = MemoryMap::new(vec![setup])?.without_files();
        Self::new(map).ok_or(Refusal::Rule("a memory region is empty"))
    }

    pub(crate) fn region(&self) -> Region {
        self.region
    }

    pub(crate) fn map(&self) -> &Arc<MemoryMap> {
        &self.map
    }
}

/// All regions, by guest address. They do not overlap.
pub(crate) struct GuestMemory {
    pieces: Vec<Piece>,
    log: Option<Log>,
}

impl GuestMemory {
    pub(crate) fn new(mut pieces: Vec<Piece>, log: Option<Log>) -> Self {
        pieces.sort_by_key(|piece| piece.region.at);
        Self { pieces, log }
    }

    fn find(&self, at: IoAddr) -> Option<&Piece> {
        let after = self.pieces.partition_point(|piece| piece.region.at <= at);
        let piece = self.pieces.get(after.checked_sub(1)?)?;
        (at.0 - piece.region.at.0 < piece.region.len).then_some(piece)
    }

    /// The piece at `at`, and how many of `len` bytes from there are in it.
    fn part(&self, at: IoAddr, len: usize) -> Option<(&Piece, usize)> {
        let piece = self.find(at)?;
        let left = piece.region.len - (at.0 - piece.region.at.0);
        Some((piece, left.min(len as u64) as usize))
    }
}

// SAFETY: every region is one of a `MemoryMap`, which the piece keeps alive as long as this object; the pieces do not overlap
// and no reference is made into them.
unsafe impl Memory for GuestMemory {
    fn read(&self, at: IoAddr, out: &mut [u8]) -> Result<(), MemoryFault> {
        let fault = MemoryFault { at, len: out.len() as u64 };
        let (mut here, mut rest) = (at, out);
        while !rest.is_empty() {
            let (piece, len) = self.part(here, rest.len()).ok_or(fault)?;
            let (now, later) = rest.split_at_mut(len);
            piece.map.read(here, now).map_err(|_| fault)?;
            (here, rest) = (IoAddr(here.0.wrapping_add(len as u64)), later);
        }
        Ok(())
    }

    fn write(&self, at: IoAddr, data: &[u8]) -> Result<(), MemoryFault> {
        let fault = MemoryFault { at, len: data.len() as u64 };
        let (mut here, mut rest) = (at, data);
        while !rest.is_empty() {
            let (piece, len) = self.part(here, rest.len()).ok_or(fault)?;
            let (now, later) = rest.split_at(len);
            piece.map.write(here, now).map_err(|_| fault)?;
            (here, rest) = (IoAddr(here.0.wrapping_add(len as u64)), later);
        }
        self.written(at, data.len() as u64);
        Ok(())
    }

    fn region(&self, at: IoAddr) -> Option<Region> {
        self.find(at).map(|piece| piece.region)
    }

    fn logs_writes(&self) -> bool {
        self.log.is_some()
    }

    fn written(&self, at: IoAddr, len: u64) {
        if let Some(log) = &self.log {
            log.written(at, len);
        }
    }
}
