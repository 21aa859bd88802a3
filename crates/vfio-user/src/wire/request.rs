//! What a client asks for, decoded from the payloads of its commands.

use super::{Command, Fields, MAX_DATA_LEN, Payload, Refusal, Shape, VersionRequest};
use vioduct_virtqueue::Access as DmaAccess;

/// A command of a client's.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Request {
    Version(VersionRequest),
    DmaMap(DmaMap),
    DmaUnmap(DmaUnmap),
    GetInfo,
    GetRegionInfo {
        region: u32,
    },
    GetRegionIoFds {
        argsz: u32,
        region: u32,
    },
    GetIrqInfo {
        index: u32,
    },
    SetIrqs(SetIrqs),
    RegionRead(Access),
    RegionWrite(Access, Vec<u8>),
    Reset,
    WriteMulti(Vec<SmallWrite>),
    Feature(Feature),
    MigrationRead(MigrationRead),
    /// The next piece of a state.
    MigrationWrite(Vec<u8>),
}

/// Memory that the device may reach from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DmaMap {
    pub(crate) access: DmaAccess,
    /// In the file that came along, if one did.
    pub(crate) offset: u64,
    pub(crate) address: u64,
    pub(crate) len: u64,
}

/// Memory that the device may not reach any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DmaUnmap {
    /// One mapping, exactly.
    One { address: u64, len: u64 },
    /// Whatever is mapped.
    All,
}

impl DmaUnmap {
    /// The flag that asks for it.
    const ALL: u32 = 1 << 1;

    /// The payload that asks for it, and that of the reply.
    pub(crate) fn encode(self) -> Vec<u8> {
        let (flags, address, len) = match self {
            Self::One { address, len } => (0, address, len),
            Self::All => (Self::ALL, 0, 0),
        };
        Payload::default().u32(24).u32(flags).u64(address).u64(len).into_bytes()
    }
}

/// An access to a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Access {
    pub(crate) offset: u64,
    pub(crate) region: u32,
    /// In bytes, up to [`MAX_DATA_LEN`].
    pub(crate) count: u32,
}

impl Access {
    /// What a request begins with, and its reply.
    pub(crate) fn encode(self) -> Payload {
        Payload::default().u64(self.offset).u32(self.region).u32(self.count)
    }
}

/// One of many writes in a message, of up to 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SmallWrite {
    pub(crate) access: Access,
    data: [u8; 8],
}

impl SmallWrite {
    pub(crate) fn data(&self) -> &[u8] {
        self.data.get(..self.access.count as usize).unwrap_or_default()
    }
}

/// A change to interrupts `start .. start + count` of a type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SetIrqs {
    pub(crate) index: u32,
    pub(crate) start: u32,
    pub(crate) count: u32,
    pub(crate) action: IrqAction,
    pub(crate) data: IrqData,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IrqAction {
    Mask,
    Unmask,
    Trigger,
}

/// What a change to interrupts comes with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum IrqData {
    /// Nothing: the action is for all of them, now.
    None,
    /// A byte for each: the action is for those where it is not 0, now.
    Bool(Vec<u8>),
    /// Descriptors: the action is what they are signalled for, or signal.
    EventFds,
}

/// A piece of a state to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MigrationRead {
    /// Bytes that the reply may have.
    pub(crate) argsz: u32,
    /// Bytes of the piece, up to [`MAX_DATA_LEN`].
    pub(crate) size: u32,
}

/// A device feature to probe, get or set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Feature {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) number: u16,
    pub(crate) action: FeatureAction,
    /// The bytes after the flags.
    pub(crate) data: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FeatureAction {
    Probe(Methods),
    Get,
    Set,
}

/// Which methods a probe asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Methods {
    pub(crate) get: bool,
    pub(crate) set: bool,
}

impl Request {
    /// Decodes `payload` as a command of this shape, which it has been checked to have, and which came with `fds` descriptors.
    pub(crate) fn decode(shape: &Shape, payload: &[u8], fds: usize) -> Result<Self, Refusal> {
        if !(shape.min_len..=shape.max_len).contains(&payload.len()) || fds > shape.max_fds {
            return Err(Refusal::Invalid);
        }
        let fields = Fields::new(payload);
        let decoded = match shape.command {
            Command::Version => VersionRequest::decode(fields).map(Self::Version),
            Command::DmaMap => dma_map(fields).map(Self::DmaMap),
            Command::DmaUnmap => dma_unmap(fields).map(Self::DmaUnmap),
            Command::GetInfo => with_room(fields, 16).map(|_| Self::GetInfo),
            Command::GetRegionInfo => query(fields, 32).map(|(_, region)| Self::GetRegionInfo { region }),
            Command::GetRegionIoFds => {
                query(fields, 16).map(|(argsz, region)| Self::GetRegionIoFds { argsz, region })
            }
            Command::GetIrqInfo => query(fields, 16).map(|(_, index)| Self::GetIrqInfo { index }),
            Command::SetIrqs => set_irqs(fields, payload.len()).map(Self::SetIrqs),
            Command::RegionRead => access(fields).map(|(access, _)| Self::RegionRead(access)),
            Command::RegionWrite => region_write(fields),
            Command::Reset => Some(Self::Reset),
            Command::WriteMulti => write_multi(fields).map(Self::WriteMulti),
            Command::Feature => feature(fields).map(Self::Feature),
            Command::MigrationRead => migration_read(fields).map(Self::MigrationRead),
            Command::MigrationWrite => migration_write(fields).map(Self::MigrationWrite),
            Command::DmaRead | Command::DmaWrite => return Err(Refusal::Unsupported),
        };
        decoded.ok_or(Refusal::Invalid)
    }
}

/// The `argsz` that a structure begins with: how long a reply may be, which is to be at least `reply_len` bytes.
fn with_room(mut fields: Fields<'_>, reply_len: u32) -> Option<(u32, Fields<'_>)> {
    let argsz = fields.u32()?;
    (argsz >= reply_len).then_some((argsz, fields))
}

/// `argsz`, flags, and what is asked about.
fn query(fields: Fields<'_>, reply_len: u32) -> Option<(u32, u32)> {
    let (argsz, mut fields) = with_room(fields, reply_len)?;
    let _flags = fields.u32()?;
    Some((argsz, fields.u32()?))
}

const READABLE: u32 = 1 << 0;
const WRITEABLE: u32 = 1 << 1;

impl DmaMap {
    /// The payload that asks for it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let flags = match self.access {
            DmaAccess::Read => READABLE,
            DmaAccess::Write => WRITEABLE,
            DmaAccess::ReadWrite => READABLE | WRITEABLE,
        };
        let head = Payload::default().u32(32).u32(flags);
        head.u64(self.offset).u64(self.address).u64(self.len).into_bytes()
    }
}

fn dma_map(fields: Fields<'_>) -> Option<DmaMap> {
    let (_, mut fields) = with_room(fields, 32)?;
    let access = match fields.u32()? {
        READABLE => DmaAccess::Read,
        WRITEABLE => DmaAccess::Write,
        flags if flags == READABLE | WRITEABLE => DmaAccess::ReadWrite,
        _ => return None,
    };
    Some(DmaMap { access, offset: fields.u64()?, address: fields.u64()?, len: fields.u64()? })
}

/// The specification has no flags. Linux's for everything is taken, as other servers take it; its dirty bitmap is not, for
/// that is what DMA logging is for.
fn dma_unmap(fields: Fields<'_>) -> Option<DmaUnmap> {
    const ALL: u32 = DmaUnmap::ALL;
    let (_, mut fields) = with_room(fields, 24)?;
    match (fields.u32()?, fields.u64()?, fields.u64()?) {
        (0, address, len) => Some(DmaUnmap::One { address, len }),
        (ALL, 0, 0) => Some(DmaUnmap::All),
        _ => None,
    }
}

const DATA_NONE: u32 = 1 << 0;
const DATA_BOOL: u32 = 1 << 1;
const DATA_EVENTFD: u32 = 1 << 2;
const MASK: u32 = 1 << 3;
const UNMASK: u32 = 1 << 4;
const TRIGGER: u32 = 1 << 5;

impl SetIrqs {
    /// The payload that asks for it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let action = match self.action {
            IrqAction::Mask => MASK,
            IrqAction::Unmask => UNMASK,
            IrqAction::Trigger => TRIGGER,
        };
        let (data, bytes) = match &self.data {
            IrqData::None => (DATA_NONE, &[][..]),
            IrqData::Bool(bytes) => (DATA_BOOL, &bytes[..]),
            IrqData::EventFds => (DATA_EVENTFD, &[][..]),
        };
        let head = Payload::default().u32(20 + bytes.len() as u32).u32(action | data);
        head.u32(self.index).u32(self.start).u32(self.count).bytes(bytes).into_bytes()
    }
}

fn set_irqs(fields: Fields<'_>, payload_len: usize) -> Option<SetIrqs> {
    let (argsz, mut fields) = with_room(fields, 20)?;
    let (flags, index, start, count) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
    let action = match flags & !(DATA_NONE | DATA_BOOL | DATA_EVENTFD) {
        MASK => IrqAction::Mask,
        UNMASK => IrqAction::Unmask,
        TRIGGER => IrqAction::Trigger,
        _ => return None,
    };
    let bytes = fields.rest();
    let data = match flags & (DATA_NONE | DATA_BOOL | DATA_EVENTFD) {
        DATA_NONE if bytes.is_empty() => IrqData::None,
        // Clients that think in ioctls may count the room for descriptors that went another way.
        DATA_EVENTFD if bytes.is_empty() => IrqData::EventFds,
        DATA_BOOL if bytes.len() == usize::try_from(count).ok()? && argsz as usize >= payload_len => {
            IrqData::Bool(bytes.to_vec())
        }
        _ => return None,
    };
    Some(SetIrqs { index, start, count, action, data })
}

fn access(mut fields: Fields<'_>) -> Option<(Access, Fields<'_>)> {
    let access = Access { offset: fields.u64()?, region: fields.u32()?, count: fields.u32()? };
    (access.count as usize <= MAX_DATA_LEN).then_some((access, fields))
}

fn region_write(fields: Fields<'_>) -> Option<Request> {
    let (access, fields) = access(fields)?;
    let data = fields.rest();
    (data.len() == access.count as usize).then(|| Request::RegionWrite(access, data.to_vec()))
}

fn write_multi(mut fields: Fields<'_>) -> Option<Vec<SmallWrite>> {
    const LEN: usize = 24;
    let count = usize::try_from(fields.u64()?).ok()?;
    let (writes, rest) = fields.rest().as_chunks::<LEN>();
    if writes.len() != count || !rest.is_empty() {
        return None;
    }
    writes.iter().map(|bytes| small_write(Fields::new(bytes))).collect()
}

fn small_write(fields: Fields<'_>) -> Option<SmallWrite> {
    let (access, fields) = access(fields)?;
    let data = *fields.rest().first_chunk()?;
    (access.count <= 8).then_some(SmallWrite { access, data })
}

fn feature(fields: Fields<'_>) -> Option<Feature> {
    const GET: u32 = 1 << 16;
    const SET: u32 = 1 << 17;
    const PROBE: u32 = 1 << 18;
    let (argsz, mut fields) = with_room(fields, 8)?;
    let flags = fields.u32()?;
    let action = match flags & !0xffff {
        GET => FeatureAction::Get,
        SET => FeatureAction::Set,
        flags if flags & PROBE != 0 && flags & !(GET | SET | PROBE) == 0 => {
            FeatureAction::Probe(Methods { get: flags & GET != 0, set: flags & SET != 0 })
        }
        _ => return None,
    };
    Some(Feature { argsz, flags, number: flags as u16, action, data: fields.rest().to_vec() })
}

fn migration_read(mut fields: Fields<'_>) -> Option<MigrationRead> {
    let request = MigrationRead { argsz: fields.u32()?, size: fields.u32()? };
    (request.size as usize <= MAX_DATA_LEN).then_some(request)
}

/// There is no reply to have room for, so what `argsz` says of it does not matter.
fn migration_write(mut fields: Fields<'_>) -> Option<Vec<u8>> {
    let (_argsz, size) = (fields.u32()?, fields.u32()?);
    let piece = fields.rest();
    (piece.len() == size as usize).then(|| piece.to_vec())
}
