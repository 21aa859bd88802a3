//! [`Command`]: a message whose payload and descriptors have been taken apart.

use super::rules::Payload;
use super::{Fields, Message, Request, WireError};
use crate::table::FrontRegion;
use std::os::fd::OwnedFd;

/// A number for one ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RingState {
    /// In its full width: 0x1_0000 is not ring 0.
    pub(crate) ring: u32,
    pub(crate) value: u32,
}

/// Where the areas of a ring are, by the front-end's own addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RingAddress {
    pub(crate) ring: u32,
    pub(crate) flags: u32,
    pub(crate) descriptor: u64,
    pub(crate) driver: u64,
    pub(crate) device: u64,
    /// Guest-physical, for the log of writes to the device area.
    pub(crate) log: u64,
}

/// A descriptor for one ring; none asks for polling.
#[derive(Debug)]
pub(crate) struct RingFd {
    pub(crate) ring: u32,
    pub(crate) fd: Option<OwnedFd>,
}

impl RingFd {
    /// The bit that says that no descriptor comes.
    pub(super) const NO_FD: u64 = 1 << 8;
}

/// A piece of configuration space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ConfigSpan {
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) flags: u32,
}

/// Bytes for the configuration space.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ConfigWrite {
    pub(crate) span: ConfigSpan,
    pub(crate) data: Vec<u8>,
}

/// Shared memory that records what is in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct InflightArea {
    pub(crate) len: u64,
    pub(crate) offset: u64,
    pub(crate) rings: u16,
    pub(crate) ring_size: u16,
    /// How long the front-end's structure is: its reply has the same.
    pub(crate) structure_len: usize,
}

impl InflightArea {
    pub(super) fn decode(fields: &mut Fields<'_>, structure_len: usize) -> Self {
        let (len, offset) = (fields.u64(), fields.u64());
        Self { len, offset, rings: fields.u16(), ring_size: fields.u16(), structure_len }
    }
}

/// Which way a device's state goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    /// From the device to the front-end.
    Save,
    /// From the front-end to the device.
    Load,
}

/// What a front-end asks for.
#[derive(Debug)]
pub(crate) enum Command {
    GetFeatures,
    SetFeatures(u64),
    SetOwner,
    ResetOwner,
    SetMemTable(Vec<(FrontRegion, OwnedFd)>),
    SetLogBase { len: u64, offset: u64, file: OwnedFd },
    SetLogFd(OwnedFd),
    SetVringNum(RingState),
    SetVringAddr(RingAddress),
    SetVringBase(RingState),
    GetVringBase(u32),
    SetVringKick(RingFd),
    SetVringCall(RingFd),
    SetVringErr(RingFd),
    GetProtocolFeatures,
    SetProtocolFeatures(u64),
    GetQueueNum,
    SetVringEnable(RingState),
    SetBackendReqFd(OwnedFd),
    GetConfig(ConfigSpan),
    SetConfig(ConfigWrite),
    GetInflightFd(InflightArea),
    SetInflightFd(InflightArea, OwnedFd),
    ResetDevice,
    VringKick(u32),
    GetMaxMemSlots,
    AddMemReg(FrontRegion, OwnedFd),
    RemMemReg(FrontRegion),
    SetStatus(u64),
    GetStatus,
    SetDeviceStateFd { direction: Direction, phase: u32, file: OwnedFd },
    CheckDeviceState,
}

impl Command {
    /// Takes a message apart. Descriptors that the command has no place for are closed here.
    pub(crate) fn decode(message: Message) -> Result<Self, WireError> {
        use Request as R;
        let request = message.header.request;
        let (payload_len, fields) = (message.payload.len(), Fields::new(&message.payload));
        let mut parts = Parts { request, payload_len, fields, fds: message.fds };
        if !request.rule().fds.contains(&parts.fds.len()) {
            return Err(WireError::Descriptors { request, found: parts.fds.len() });
        }
        Ok(match request {
            R::GetFeatures => Self::GetFeatures,
            R::SetFeatures => Self::SetFeatures(parts.fields.u64()),
            R::SetOwner => Self::SetOwner,
            R::ResetOwner => Self::ResetOwner,
            R::SetMemTable => Self::SetMemTable(parts.regions()?),
            R::SetLogBase => {
                let (len, offset) = (parts.fields.u64(), parts.fields.u64());
                Self::SetLogBase { len, offset, file: parts.fd()? }
            }
            R::SetLogFd => Self::SetLogFd(parts.fd()?),
            R::SetVringNum => Self::SetVringNum(parts.ring_state()),
            R::SetVringAddr => Self::SetVringAddr(parts.ring_address()),
            R::SetVringBase => Self::SetVringBase(parts.ring_state()),
            R::GetVringBase => Self::GetVringBase(parts.ring_state().ring),
            R::SetVringKick => Self::SetVringKick(parts.ring_fd()?),
            R::SetVringCall => Self::SetVringCall(parts.ring_fd()?),
            R::SetVringErr => Self::SetVringErr(parts.ring_fd()?),
            R::GetProtocolFeatures => Self::GetProtocolFeatures,
            R::SetProtocolFeatures => Self::SetProtocolFeatures(parts.fields.u64()),
            R::GetQueueNum => Self::GetQueueNum,
            R::SetVringEnable => Self::SetVringEnable(parts.ring_state()),
            R::SetBackendReqFd => Self::SetBackendReqFd(parts.fd()?),
            R::GetConfig => Self::GetConfig(parts.config()?.span),
            R::SetConfig => Self::SetConfig(parts.config_write()?),
            R::GetInflightFd => Self::GetInflightFd(InflightArea::decode(&mut parts.fields, payload_len)),
            R::SetInflightFd => {
                Self::SetInflightFd(InflightArea::decode(&mut parts.fields, payload_len), parts.fd()?)
            }
            R::ResetDevice => Self::ResetDevice,
            R::VringKick => Self::VringKick(parts.ring_state().ring),
            R::GetMaxMemSlots => Self::GetMaxMemSlots,
            R::AddMemReg => Self::AddMemReg(parts.padded_region(), parts.fd()?),
            R::RemMemReg => Self::RemMemReg(parts.padded_region()),
            R::SetStatus => Self::SetStatus(parts.fields.u64()),
            R::GetStatus => Self::GetStatus,
            R::SetDeviceStateFd => Self::SetDeviceStateFd {
                direction: parts.direction()?,
                phase: parts.fields.u32(),
                file: parts.fd()?,
            },
            R::CheckDeviceState => Self::CheckDeviceState,
        })
    }
}

/// A message on its way apart. The length of the payload has been checked.
struct Parts<'m> {
    request: Request,
    payload_len: usize,
    fields: Fields<'m>,
    fds: Vec<OwnedFd>,
}

impl Parts<'_> {
    fn fd(&mut self) -> Result<OwnedFd, WireError> {
        self.fds.pop().ok_or(WireError::Descriptors { request: self.request, found: 0 })
    }

    fn wrong(&self, value: u64) -> WireError {
        WireError::Field { request: self.request, value }
    }

    fn ring_state(&mut self) -> RingState {
        RingState { ring: self.fields.u32(), value: self.fields.u32() }
    }

    fn ring_address(&mut self) -> RingAddress {
        let fields = &mut self.fields;
        let (ring, flags) = (fields.u32(), fields.u32());
        let (descriptor, device, driver, log) = (fields.u64(), fields.u64(), fields.u64(), fields.u64());
        RingAddress { ring, flags, descriptor, driver, device, log }
    }

    /// Bits 0 to 7 are the ring, bit 8 says that there is no descriptor.
    fn ring_fd(&mut self) -> Result<RingFd, WireError> {
        let value = self.fields.u64();
        if value & !(RingFd::NO_FD | 0xff) != 0 {
            return Err(self.wrong(value));
        }
        if (value & RingFd::NO_FD == 0) == self.fds.is_empty() {
            return Err(WireError::Descriptors { request: self.request, found: self.fds.len() });
        }
        Ok(RingFd { ring: (value & 0xff) as u32, fd: self.fds.pop() })
    }

    fn region(&mut self) -> FrontRegion {
        let fields = &mut self.fields;
        FrontRegion { guest: fields.u64(), len: fields.u64(), user: fields.u64(), offset: fields.u64() }
    }

    fn padded_region(&mut self) -> FrontRegion {
        let _padding = self.fields.u64();
        self.region()
    }

    /// As many regions as are announced, as the payload has, and as there are descriptors.
    fn regions(&mut self) -> Result<Vec<(FrontRegion, OwnedFd)>, WireError> {
        let (count, _padding) = (self.fields.u32(), self.fields.u32());
        let fds = std::mem::take(&mut self.fds);
        if count as usize != fds.len() {
            return Err(WireError::Descriptors { request: self.request, found: fds.len() });
        }
        if self.payload_len != Payload::table_len(fds.len()) {
            return Err(self.wrong(count.into()));
        }
        Ok(fds.into_iter().map(|fd| (self.region(), fd)).collect())
    }

    fn config(&mut self) -> Result<ConfigWrite, WireError> {
        let span = ConfigSpan { offset: self.fields.u32(), len: self.fields.u32(), flags: self.fields.u32() };
        let data = std::mem::replace(&mut self.fields, Fields::new(&[])).rest();
        // A request to read may leave out the bytes that it has no use for.
        if !data.is_empty() && data.len() != span.len as usize {
            return Err(self.wrong(span.len.into()));
        }
        Ok(ConfigWrite { span, data: data.to_vec() })
    }

    fn config_write(&mut self) -> Result<ConfigWrite, WireError> {
        let write = self.config()?;
        if write.data.len() == write.span.len as usize {
            Ok(write)
        } else {
            Err(self.wrong(write.span.len.into()))
        }
    }

    fn direction(&mut self) -> Result<Direction, WireError> {
        match self.fields.u32() {
            0 => Ok(Direction::Save),
            1 => Ok(Direction::Load),
            other => Err(self.wrong(other.into())),
        }
    }
}
