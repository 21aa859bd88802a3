//! The client's memory: what it has mapped for the device, and [`ClientMemory`], the device's way to it.
//!
//! This module holds `unsafe` to implement [`Memory`], whose promise it passes on from the maps that it holds.
#![allow(unsafe_code)]

use crate::link::Link;
use crate::wire::{Command, DmaMap, DmaUnmap, Fields, MAX_DATA_LEN, Payload, Refusal};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use vioduct_virtio_device::{Backing, MemoryMap, RegionSetup};
use vioduct_virtqueue::{Access, IoAddr, Memory, MemoryFault, Region};

/// Mappings that a client may have. Linux gives a process 65530 in all, and one that has none left cannot even allocate.
pub(crate) const MAX_MAPPINGS: usize = 8192;
/// Bytes of which writes are logged at most: the log has a bit for each page, and the client chooses how many there are.
const MAX_LOGGED_LEN: u64 = 4 << 40;
/// What mappings are made of.
pub(crate) const PAGE_LEN: u64 = 4096;

/// A range of addresses that the device may reach.
#[derive(Clone)]
struct Mapping {
    at: u64,
    /// `at + len` does not wrap.
    len: u64,
    access: Access,
    reach: Reach,
}

/// How it does.
#[derive(Clone)]
enum Reach {
    /// The client sent a descriptor, which is mapped here.
    Mapped(Arc<MemoryMap>),
    /// It did not: by DMA_READ and DMA_WRITE.
    Messages(Remote),
}

/// The client as the owner of memory.
#[derive(Clone)]
pub(crate) struct Remote {
    pub(crate) link: Arc<Link>,
    /// Bytes that it takes or gives in one message.
    pub(crate) max_data_len: usize,
}

impl Mapping {
    fn end(&self) -> u64 {
        self.at + self.len
    }
}

/// What a client has mapped, by address.
#[derive(Default)]
pub(crate) struct Mappings {
    mappings: Vec<Mapping>,
    logging: bool,
}

impl Mappings {
    /// Adds a mapping: of the file, if there is one.
    pub(crate) fn add(&mut self, map: DmaMap, file: Option<OwnedFd>, remote: Remote) -> Result<(), Refusal> {
        let DmaMap { access, offset, address, len } = map;
        let whole = [offset, address, len].iter().all(|value| value.is_multiple_of(PAGE_LEN));
        let end = address.checked_add(len).filter(|_| whole && len > 0).ok_or(Refusal::Invalid)?;
        let place = self.mappings.partition_point(|mapping| mapping.at < address);
        let before = place.checked_sub(1).and_then(|place| self.mappings.get(place));
        let after = self.mappings.get(place);
        if before.is_some_and(|before| before.end() > address) || after.is_some_and(|after| after.at < end) {
            return Err(Refusal::Exists);
        }
        if self.mappings.len() == MAX_MAPPINGS {
            return Err(Refusal::Full);
        }
        let reach = match file {
            None => Reach::Messages(remote),
            Some(file) => {
                let backing = Backing::File { file: Arc::new(file), offset };
                let setup = RegionSetup { at: IoAddr(address), len, access, backing };
                // The file is too short, not open for this, or no file that can be mapped.
                let map = MemoryMap::new(vec![setup]).map_err(|_| Refusal::Unmappable)?;
                // A client may have more mappings than this process may have descriptors.
                Reach::Mapped(Arc::new(map.without_files()))
            }
        };
        if let (Reach::Mapped(map), true) = (&reach, self.logging) {
            self.check_log(len)?;
            map.start_log();
        }
        self.mappings.insert(place, Mapping { at: address, len, access, reach });
        Ok(())
    }

    /// Removes what is named, exactly. It stays mapped here for as long as a [`ClientMemory`] has it.
    pub(crate) fn remove(&mut self, unmap: DmaUnmap) -> Result<(), Refusal> {
        match unmap {
            DmaUnmap::All => self.mappings.clear(),
            DmaUnmap::One { address, len } => {
                let place = self.mappings.binary_search_by_key(&address, |mapping| mapping.at);
                let place = place.map_err(|_| Refusal::Missing)?;
                if self.mappings.get(place).is_none_or(|mapping| mapping.len != len) {
                    return Err(Refusal::Invalid);
                }
                self.mappings.remove(place);
            }
        }
        Ok(())
    }

    /// The memory as it is mapped now.
    pub(crate) fn memory(&self) -> Arc<ClientMemory> {
        Arc::new(ClientMemory { mappings: self.mappings.clone() })
    }

    pub(crate) fn is_logging(&self) -> bool {
        self.logging
    }

    /// Begins to log the device's writes; nothing may use the memory at this moment.
    pub(crate) fn start_log(&mut self) -> Result<(), Refusal> {
        if self.logging {
            return Err(Refusal::Invalid);
        }
        self.check_log(0)?;
        self.maps().for_each(MemoryMap::start_log);
        self.logging = true;
        Ok(())
    }

    /// Ends [`start_log`](Self::start_log), and forgets what was logged.
    pub(crate) fn stop_log(&mut self) -> Result<(), Refusal> {
        if !self.logging {
            return Err(Refusal::Invalid);
        }
        self.maps().for_each(MemoryMap::stop_log);
        self.take_dirty();
        self.logging = false;
        Ok(())
    }

    /// Whether there is room for a log of all that is mapped and `more` bytes.
    fn check_log(&self, more: u64) -> Result<(), Refusal> {
        let mapped = self.mappings.iter().filter(|mapping| matches!(mapping.reach, Reach::Mapped(_)));
        let total = mapped.map(|mapping| mapping.len).try_fold(more, u64::checked_add);
        total.filter(|total| *total <= MAX_LOGGED_LEN).map(drop).ok_or(Refusal::TooMuch)
    }

    /// The pages that the device has written since it was last asked. Those that it wrote by messages the client wrote itself.
    pub(crate) fn take_dirty(&self) -> Vec<u64> {
        self.maps().flat_map(MemoryMap::take_dirty).map(|page| page.0).collect()
    }

    fn maps(&self) -> impl Iterator<Item = &MemoryMap> {
        self.mappings.iter().filter_map(|mapping| match &mapping.reach {
            Reach::Mapped(map) => Some(&**map),
            Reach::Messages(_) => None,
        })
    }
}

/// What a client had mapped at one moment. What it unmaps later stays mapped here, so whoever unmaps first takes this from
/// whoever uses it.
pub(crate) struct ClientMemory {
    /// By address.
    mappings: Vec<Mapping>,
}

impl ClientMemory {
    /// No memory at all.
    pub(crate) fn none() -> Arc<dyn Memory> {
        Arc::new(Self { mappings: Vec::new() })
    }

    fn find(&self, at: u64) -> Option<&Mapping> {
        let after = self.mappings.partition_point(|mapping| mapping.at <= at);
        self.mappings.get(after.checked_sub(1)?).filter(|mapping| at < mapping.end())
    }

    /// Passes on each part of an access that one mapping holds: its address, where it begins in the access, and its length.
    fn each_part(
        &self,
        at: IoAddr,
        len: u64,
        wanted: Access,
        mut part: impl FnMut(&Mapping, u64, u64, u64) -> Option<()>,
    ) -> Option<()> {
        let end = at.0.checked_add(len)?;
        let mut here = at.0;
        while here < end {
            let mapping = self.find(here).filter(|mapping| mapping.access.allows(wanted))?;
            let count = end.min(mapping.end()) - here;
            part(mapping, here, here - at.0, count)?;
            here += count;
        }
        Some(())
    }
}

impl Mapping {
    fn read(&self, at: u64, out: &mut [u8]) -> Option<()> {
        match &self.reach {
            Reach::Mapped(map) => map.read(IoAddr(at), out).ok(),
            Reach::Messages(remote) => remote.read(at, out),
        }
    }

    fn write(&self, at: u64, data: &[u8]) -> Option<()> {
        match &self.reach {
            Reach::Mapped(map) => map.write(IoAddr(at), data).ok(),
            Reach::Messages(remote) => remote.write(at, data),
        }
    }
}

impl Remote {
    fn read(&self, at: u64, out: &mut [u8]) -> Option<()> {
        for (piece, at) in out.chunks_mut(self.max_data_len).zip((at..).step_by(self.max_data_len)) {
            let request = Payload::default().u64(at).u64(piece.len() as u64).into_bytes();
            let reply = self.link.call(Command::DmaRead, &[&request])?;
            let mut fields = Fields::new(&reply.payload);
            let echoed = (fields.u64()?, fields.u64()?) == (at, piece.len() as u64);
            if !echoed || fields.rest().len() != piece.len() {
                return None;
            }
            piece.copy_from_slice(fields.rest());
        }
        Some(())
    }

    /// The count in the reply has 4 bytes in the specification and 8 in some clients, so its low ones are compared.
    fn write(&self, at: u64, data: &[u8]) -> Option<()> {
        for (piece, at) in data.chunks(self.max_data_len).zip((at..).step_by(self.max_data_len)) {
            let request = Payload::default().u64(at).u64(piece.len() as u64).into_bytes();
            let reply = self.link.call(Command::DmaWrite, &[&request, piece])?;
            let mut fields = Fields::new(&reply.payload);
            if (fields.u64()?, fields.u32()?) != (at, piece.len() as u32) {
                return None;
            }
        }
        Some(())
    }
}

// SAFETY: a region comes from a `MemoryMap`, which keeps the promise for as long as it lives; this object holds it. Addresses
// are multiples of the page, as those of the maps are. No reference into the memory is made here.
unsafe impl Memory for ClientMemory {
    fn read(&self, at: IoAddr, out: &mut [u8]) -> Result<(), MemoryFault> {
        let len = out.len() as u64;
        let parts = self.each_part(at, len, Access::Read, |mapping, here, start, count| {
            mapping.read(here, out.get_mut(start as usize..(start + count) as usize)?)
        });
        parts.ok_or(MemoryFault { at, len })
    }

    fn write(&self, at: IoAddr, data: &[u8]) -> Result<(), MemoryFault> {
        let len = data.len() as u64;
        let parts = self.each_part(at, len, Access::Write, |mapping, here, start, count| {
            mapping.write(here, data.get(start as usize..(start + count) as usize)?)
        });
        parts.ok_or(MemoryFault { at, len })
    }

    fn region(&self, at: IoAddr) -> Option<Region> {
        match &self.find(at.0)?.reach {
            Reach::Mapped(map) => map.region(at),
            Reach::Messages(_) => None,
        }
    }

    fn reaches(&self, at: IoAddr, len: u64, access: Access) -> bool {
        self.each_part(at, len, access, |_, _, _, _| Some(())).is_some()
    }

    fn logs_writes(&self) -> bool {
        self.mappings.iter().any(|mapping| match &mapping.reach {
            Reach::Mapped(map) => map.logs_writes(),
            Reach::Messages(_) => false,
        })
    }

    fn written(&self, at: IoAddr, len: u64) {
        // Nothing is lost if an access is not all here: it was not made.
        let _ = self.each_part(at, len, Access::Write, |mapping, here, _, count| {
            if let Reach::Mapped(map) = &mapping.reach {
                map.written(IoAddr(here), count);
            }
            Some(())
        });
    }
}

/// The longest piece of a message that both ends take.
pub(crate) fn piece_len(client_max: u64) -> usize {
    usize::try_from(client_max).unwrap_or(usize::MAX).clamp(1, MAX_DATA_LEN)
}
