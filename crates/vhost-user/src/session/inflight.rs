//! Records of what is in flight, in memory that outlives this process: made here, kept by the front-end, given back to whoever serves
//! the device next.

use super::{Outcome, Session};
use crate::error::Refusal;
use crate::memory::Piece;
use crate::vring;
use crate::wire::InflightArea;
use std::os::fd::OwnedFd;
use vioduct_virtio_device::{Backend, MemoryMap};
use vioduct_virtqueue::{InFlightArea, IoAddr, RingFormat};

/// Records of the rings from 0 on, each of the same length.
pub(super) struct Records {
    piece: Piece,
    rings: u16,
    ring_size: u16,
}

impl Records {
    /// Where ring `ring` of `size` descriptors has its record; `None` if it has none.
    pub(super) fn area(&self, ring: u16, size: u16) -> Result<Option<InFlightArea>, Refusal> {
        if ring >= self.rings {
            return Ok(None);
        }
        if size > self.ring_size {
            return Err(Refusal::Ring { ring, reason: "it is larger than the record of what is in flight" });
        }
        let at = IoAddr(u64::from(ring) * record_len(self.ring_size));
        Ok(Some(InFlightArea { memory: self.piece.map().clone(), at }))
    }
}

/// Bytes of the record of one ring: long enough for either format, which may be chosen later.
fn record_len(ring_size: u16) -> u64 {
    let len = |format| InFlightArea::len_for(format, ring_size);
    (len(RingFormat::Packed).max(len(RingFormat::Split)) as u64).next_multiple_of(64)
}

impl<B: Backend> Session<B> {
    /// The length of the records that a front-end asks for: everything else follows from it.
    fn check_records(&self, area: &InflightArea) -> Result<u64, Refusal> {
        if area.rings == 0 || usize::from(area.rings) > self.rings.len() {
            return Err(Refusal::Rule("records of more rings than there are, or of none"));
        }
        let ring_size = vring::ring_size(area.ring_size.into())?;
        let len = u64::from(area.rings) * record_len(ring_size);
        if len > self.table.limits().total_bytes {
            return Err(Refusal::Rule("records longer than all the memory that a client may share"));
        }
        Ok(len)
    }

    /// New records. They are the front-end's: this process keeps none of it.
    pub(super) fn make_records(&self, area: InflightArea) -> Result<Outcome, Refusal> {
        let len = self.check_records(&area)?;
        let map = MemoryMap::shared(len)?;
        let file = map.regions().find_map(|(_, file)| file).map(|(file, _)| file.try_clone_to_owned());
        let file = file
            .ok_or(Refusal::Rule("there is no file to share"))?
            .map_err(|source| Refusal::System { action: "share a file", source })?;
        Ok(Outcome::ReplyWith(InflightArea { len, offset: 0, ..area }.encode(), file))
    }

    /// Records to resume from, and to go on with. The length that is announced counts for nothing but that it is enough.
    pub(super) fn set_records(&mut self, area: InflightArea, file: OwnedFd) -> Result<Outcome, Refusal> {
        let len = self.check_records(&area)?;
        if area.len < len {
            return Err(Refusal::Rule("records shorter than those of so many rings are"));
        }
        if self.rings.iter().any(|ring| ring.running) {
            return Err(Refusal::Rule("records cannot change while a ring runs"));
        }
        let piece = Piece::of_file(file, area.offset, IoAddr(0), len, self.table.limits().files)?;
        self.records = Some(Records { piece, rings: area.rings, ring_size: area.ring_size });
        Ok(Outcome::Done)
    }
}
