//! A request, read once and checked before anything is done (virtio 1.3 §5.2.6).

use vioduct_spec::blk;
use vioduct_virtio_device::{BufferError, Chain, Features, Reader};

/// Ranges that one discard or write of zeroes may have.
pub const MAX_RANGES: u32 = 16;
/// Sectors that one of those ranges may have: 1 GiB, so that no request takes for ever.
pub const MAX_RANGE_SECTORS: u32 = 1 << 21;

/// What requests are checked against: all of it is settled when negotiation is complete.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) sectors: u64,
    /// What the device offers, though the driver may not have taken it.
    pub(crate) offered: Features,
    pub(crate) negotiated: Features,
}

/// Part of the disk, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) at: u64,
    pub(crate) len: u64,
}

/// What is to become of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// Its content is needed no more.
    Discarded,
    /// It reads as zeroes, and stays allocated.
    Zeroed,
    /// It reads as zeroes, and may be deallocated.
    Unmapped,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Request {
    Read(Span),
    Write(Span),
    Flush,
    Identify,
    /// A discard or a write of zeroes, whose ranges are in a list.
    Ranges,
}

/// Why a request is not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// It is wrong in itself, or exceeds the disk: `IOERR`.
    Wrong,
    /// There is no such request in this device: `UNSUPP`.
    Unknown,
    /// Its memory is not there: no status could tell.
    Memory(BufferError),
}

impl From<BufferError> for Refused {
    fn from(error: BufferError) -> Self {
        match error {
            // Row 8 of the hostile peers: the chain is too short for what it is said to be.
            BufferError::Short { .. } => Self::Wrong,
            BufferError::Memory(_) => Self::Memory(error),
        }
    }
}

impl Request {
    /// Reads the request in `chain`; `ranges` is emptied, and takes its ranges.
    pub(crate) fn parse(
        chain: &Chain,
        rules: &Rules,
        ranges: &mut Vec<(Span, Fate)>,
    ) -> Result<Self, Refused> {
        ranges.clear();
        let mut reader = chain.reader();
        let kind = reader.read_u32()?;
        let _reserved = reader.read_u32()?;
        let sector = reader.read_u64()?;
        // Without room for a status there is nobody to answer to.
        let answer_len = chain.writable_len().checked_sub(blk::STATUS_LEN as u64).ok_or(Refused::Wrong)?;
        match kind {
            blk::T_IN => rules.span(sector, answer_len).map(Self::Read),
            blk::T_OUT => rules.writable_span(sector, reader.remaining()).map(Self::Write),
            blk::T_FLUSH => rules.needs(blk::FLUSH).map(|()| Self::Flush),
            blk::T_GET_ID if answer_len == blk::ID_LEN as u64 => Ok(Self::Identify),
            blk::T_GET_ID => Err(Refused::Wrong),
            blk::T_DISCARD => {
                rules.needs(blk::DISCARD)?;
                rules.read_ranges(&mut reader, ranges, |flags| (flags == 0).then_some(Fate::Discarded))
            }
            blk::T_WRITE_ZEROES => {
                rules.needs(blk::WRITE_ZEROES)?;
                rules.read_ranges(&mut reader, ranges, fate_of_zeroes)
            }
            // SCSI pass-through (2) among them: it has gone from the specification (row 27).
            _ => Err(Refused::Unknown),
        }
    }
}

fn fate_of_zeroes(flags: u32) -> Option<Fate> {
    match flags {
        0 => Some(Fate::Zeroed),
        blk::RANGE_UNMAP => Some(Fate::Unmapped),
        _ => None,
    }
}

impl Rules {
    /// Row 31: a request of a feature that was not negotiated is unknown.
    fn needs(&self, feature: Features) -> Result<(), Refused> {
        if self.negotiated.contains(feature) { Ok(()) } else { Err(Refused::Unknown) }
    }

    /// `len` bytes from `sector` on, if they are whole sectors and all of them exist (row 26: of the whole request, not of its
    /// pieces, and without a sum that could wrap).
    fn span(&self, sector: u64, len: u64) -> Result<Span, Refused> {
        const SECTOR_LEN: u64 = blk::SECTOR_LEN as u64;
        let count = len / SECTOR_LEN;
        let left = self.sectors.checked_sub(sector).ok_or(Refused::Wrong)?;
        if !len.is_multiple_of(SECTOR_LEN) || count > left {
            return Err(Refused::Wrong);
        }
        // `sector` is at most the capacity, which is a file's length divided by that of a sector.
        Ok(Span { at: sector * SECTOR_LEN, len })
    }

    /// virtio 1.3 §5.2.6.2: a write fails if `RO` is offered, whether or not the driver took it, and nothing is written.
    fn writable_span(&self, sector: u64, len: u64) -> Result<Span, Refused> {
        if self.offered.contains(blk::RO) {
            return Err(Refused::Wrong);
        }
        self.span(sector, len)
    }

    /// virtio 1.3 §5.2.6.2: `UNSUPP` for a flag that is not known, and for `unmap` in a discard.
    fn read_ranges(
        &self,
        reader: &mut Reader<'_>,
        ranges: &mut Vec<(Span, Fate)>,
        fate: impl Fn(u32) -> Option<Fate>,
    ) -> Result<Request, Refused> {
        let len = reader.remaining();
        let count = len / blk::RANGE_LEN as u64;
        if count == 0 || count > MAX_RANGES.into() || !len.is_multiple_of(blk::RANGE_LEN as u64) {
            return Err(Refused::Wrong);
        }
        let mut refused = None;
        for _ in 0..count {
            let (sector, sectors, flags) = (reader.read_u64()?, reader.read_u32()?, reader.read_u32()?);
            match self.range(sector, sectors, fate(flags)) {
                // No file system takes a range of nothing.
                Ok((span, _)) if span.len == 0 => {}
                Ok(range) => ranges.push(range),
                // An unknown flag anywhere is told, before any other fault of a range.
                Err(fault) if refused != Some(Refused::Unknown) => refused = Some(fault),
                Err(_) => {}
            }
        }
        // All ranges, or none.
        refused.map_or(Ok(Request::Ranges), Err)
    }

    fn range(&self, sector: u64, sectors: u32, fate: Option<Fate>) -> Result<(Span, Fate), Refused> {
        let fate = fate.ok_or(Refused::Unknown)?;
        if sectors > MAX_RANGE_SECTORS {
            return Err(Refused::Wrong);
        }
        let span = self.writable_span(sector, u64::from(sectors) * blk::SECTOR_LEN as u64)?;
        Ok((span, fate))
    }
}

/// Writes the status into the last byte that can be written (virtio 1.3 §5.2.6), and returns how many bytes of the writable
/// part are the device's, from its start. `filled` of them are data.
pub(crate) fn conclude(chain: &Chain, status: u8, filled: u64) -> Result<u32, BufferError> {
    /// A failed request costs no more than this, however long it is.
    const ZEROED_LEN: u64 = 1 << 20;
    let Some(data_len) = chain.writable_len().checked_sub(blk::STATUS_LEN as u64) else { return Ok(0) };
    let filled = filled.min(data_len);
    // virtio 1.3 §2.7.8.2: the used length covers nothing that the device has not written. What the disk did not give is zeros.
    let zeroed = (data_len - filled).min(ZEROED_LEN);
    if zeroed > 0 {
        zero(chain, filled, zeroed)?;
    }
    let mut writer = chain.writer();
    writer.skip(data_len as usize)?;
    writer.write_all(&[status])?;
    let known = if filled + zeroed == data_len { chain.writable_len() } else { filled + zeroed };
    Ok(known as u32)
}

fn zero(chain: &Chain, from: u64, len: u64) -> Result<(), BufferError> {
    const ZEROES: &[u8] = &[0; 512];
    let mut writer = chain.writer();
    writer.skip(from as usize)?;
    for done in (0..len).step_by(ZEROES.len()) {
        let left = (len - done) as usize;
        writer.write_all(ZEROES.get(..left).unwrap_or(ZEROES))?;
    }
    Ok(())
}
