//! [`Remote`]: a server that has been agreed with, by what it can be asked for.

use super::link::Link;
use super::log::WriteLog;
use super::options::SharedRegion;
use super::{Ring, Trouble};
use crate::features::{LEGACY, LOG_ALL, NOT_CARRIED, OF_THE_TRANSPORT, PROTOCOL, PROTOCOL_FEATURES};
use crate::table::FrontRegion;
use crate::wire::{
    Answer, Answered, Command, ConfigSpan, ConfigWrite, InflightArea, MAX_FDS, ProtocolFeatures, Request,
    RingAddress, RingFd, RingState, WireError,
};
use rustix::fs::fstat;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use vioduct_spec::{Features, Status};
use vioduct_virtio_device::{DeviceInfo, Signal};

/// What is used of the protocol where the server has it.
const WANTED: ProtocolFeatures = ProtocolFeatures::MQ
    .with(ProtocolFeatures::REPLY_ACK)
    .with(ProtocolFeatures::BACKEND_REQ)
    .with(ProtocolFeatures::CONFIG)
    .with(ProtocolFeatures::INFLIGHT_SHMFD)
    .with(ProtocolFeatures::RESET_DEVICE)
    .with(ProtocolFeatures::CONFIGURE_MEM_SLOTS)
    .with(ProtocolFeatures::STATUS)
    .with(ProtocolFeatures::LOG_SHMFD)
    .with(ProtocolFeatures::DEVICE_STATE);
/// In a ring's address: writes to its device area are logged.
const LOG_RING: u32 = 1;

/// Shared memory that records what is in flight: the server's to fill, this side's to keep.
#[derive(Debug)]
pub(super) struct RecordFile {
    area: InflightArea,
    file: OwnedFd,
}

/// A server.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) link: Link,
    offered: Features,
    protocol: ProtocolFeatures,
    status: Status,
    /// What it was told of features, but for logging.
    features: Features,
    /// `LOG_ALL` while it logs.
    logging: Features,
    /// Memory regions that it has room for.
    slots: usize,
    shared: Vec<FrontRegion>,
}

impl Remote {
    /// Agrees with the server at `socket` on the protocol. The second is where the server speaks by itself.
    pub(super) fn open(
        socket: OwnedFd,
        info: &DeviceInfo,
        limit: Duration,
    ) -> Result<(Self, Option<OwnedFd>), Trouble> {
        let mut remote = Self {
            link: Link::new(socket, limit),
            offered: Features::NONE,
            protocol: ProtocolFeatures::NONE,
            status: Status::RESET,
            features: Features::NONE,
            logging: Features::NONE,
            slots: MAX_FDS,
            shared: Vec::new(),
        };
        remote.tell(&Command::SetOwner)?;
        remote.offered = Features(remote.number(&Command::GetFeatures)?);
        if !remote.offered.contains(Features::VERSION_1) {
            return Err(unsuitable("serves legacy drivers only: it does not offer VERSION_1"));
        }
        if remote.offered.contains(PROTOCOL_FEATURES) {
            let protocol = remote.number(&Command::GetProtocolFeatures)? & WANTED.0;
            remote.tell(&Command::SetProtocolFeatures(protocol))?;
            remote.protocol = ProtocolFeatures(protocol);
        }
        remote.check_shape(info)?;
        let channel =
            if remote.has(ProtocolFeatures::BACKEND_REQ) { Some(remote.open_channel()?) } else { None };
        Ok((remote, channel))
    }

    fn check_shape(&mut self, info: &DeviceInfo) -> Result<(), Trouble> {
        if self.has(ProtocolFeatures::MQ) {
            let (count, wanted) = (self.number(&Command::GetQueueNum)?, info.queue_sizes.len() as u64);
            if count < wanted {
                return Err(unsuitable(format!(
                    "has {count} queues, not {wanted}: declare no more than it has"
                )));
            }
        }
        if info.config_len > 0 && !self.has(ProtocolFeatures::CONFIG) {
            return Err(unsuitable(
                "has no configuration space: declare a length of 0, or use another server",
            ));
        }
        if self.has(ProtocolFeatures::CONFIGURE_MEM_SLOTS) {
            let slots = self.number(&Command::GetMaxMemSlots)?;
            self.slots = usize::try_from(slots).unwrap_or(usize::MAX);
        }
        Ok(())
    }

    fn open_channel(&mut self) -> Result<OwnedFd, Trouble> {
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair.map_err(Trouble::system("create a socket"))?;
        self.tell(&Command::SetBackendReqFd(theirs))?;
        Ok(ours)
    }

    /// What a driver can be offered.
    pub(super) fn offered(&self) -> Features {
        self.carried() | OF_THE_TRANSPORT
    }

    /// What both ends of the connection have to do with.
    fn carried(&self) -> Features {
        self.offered.without(PROTOCOL).without(NOT_CARRIED).without(LEGACY)
    }

    pub(super) fn has(&self, feature: ProtocolFeatures) -> bool {
        self.protocol.contains(feature)
    }

    /// Shares these regions and no others.
    pub(super) fn share(&mut self, regions: &[SharedRegion]) -> Result<(), Trouble> {
        if regions.len() > self.slots {
            return Err(unsuitable(format!(
                "has room for {} memory regions, not {}",
                self.slots,
                regions.len()
            )));
        }
        if !self.has(ProtocolFeatures::CONFIGURE_MEM_SLOTS) {
            let regions = regions.iter().map(front_region).collect::<Result<_, _>>()?;
            return self.tell(&Command::SetMemTable(regions));
        }
        while let Some(region) = self.shared.pop() {
            self.tell(&Command::RemMemReg(region))?;
        }
        for region in regions {
            let (region, file) = front_region(region)?;
            self.tell(&Command::AddMemReg(region, file))?;
            self.shared.push(region);
        }
        Ok(())
    }

    /// Ends negotiation. virtio 1.3 §3.1.1: whether the device accepts is seen by FEATURES_OK.
    pub(super) fn set_features(&mut self, negotiated: Features) -> Result<(), Trouble> {
        let missing = negotiated.without(self.offered());
        if !missing.is_empty() {
            return Err(unsuitable(format!("does not offer {missing} any more: start it as it was before")));
        }
        self.set_status(Status::ACKNOWLEDGE | Status::DRIVER)?;
        self.features = negotiated & self.carried() | self.offered & PROTOCOL_FEATURES;
        self.tell(&Command::SetFeatures((self.features | self.logging).0))?;
        self.set_status(self.status | Status::FEATURES_OK)?;
        if self.has(ProtocolFeatures::STATUS) {
            let status = Status(self.number(&Command::GetStatus)? as u8);
            if !status.contains(Status::FEATURES_OK) {
                return Err(Trouble::Refused(Request::SetFeatures));
            }
        }
        Ok(())
    }

    /// Whether it can log what it writes.
    pub(super) fn can_log(&self) -> bool {
        self.has(ProtocolFeatures::LOG_SHMFD) && self.offered.contains(LOG_ALL)
    }

    /// Has it log what the rings that start from now on write; or no more.
    pub(super) fn log(&mut self, log: Option<&WriteLog>) -> Result<(), Trouble> {
        if let Some(log) = log {
            let command = Command::SetLogBase { len: log.len, offset: 0, file: duplicate(log.file())? };
            if self.number(&command)? != 0 {
                return Err(Trouble::Refused(Request::SetLogBase));
            }
        }
        self.logging = log.map_or(Features::NONE, |_| LOG_ALL);
        self.tell(&Command::SetFeatures((self.features | self.logging).0))
    }

    fn set_status(&mut self, status: Status) -> Result<(), Trouble> {
        self.status = status;
        match self.has(ProtocolFeatures::STATUS) {
            true => self.tell(&Command::SetStatus(status.0.into())),
            false => Ok(()),
        }
    }

    /// Starts ring `q` at `base`. Buffers may be available already, and the server is told to look.
    pub(super) fn start(&mut self, q: u16, ring: &Ring, base: u32) -> Result<(), Trouble> {
        if !self.status.contains(Status::DRIVER_OK) {
            self.set_status(self.status | Status::DRIVER_OK)?;
        }
        let index = u32::from(q);
        let state = |value| RingState { ring: index, value };
        let fd = |fd: BorrowedFd<'_>| -> Result<RingFd, Trouble> {
            Ok(RingFd { ring: index, fd: Some(duplicate(fd)?) })
        };
        self.tell(&Command::SetVringNum(state(ring.layout.size.into())))?;
        self.tell(&Command::SetVringBase(state(base)))?;
        let device = ring.layout.device_area.0;
        let (flags, log) = if self.logging.is_empty() { (0, 0) } else { (LOG_RING, device) };
        self.tell(&Command::SetVringAddr(RingAddress {
            ring: index,
            flags,
            descriptor: ring.layout.descriptor_area.0,
            driver: ring.layout.driver_area.0,
            device,
            log,
        }))?;
        self.tell(&Command::SetVringErr(fd(ring.error.as_fd())?))?;
        self.tell(&Command::SetVringCall(fd(ring.call_fd())?))?;
        self.tell(&Command::SetVringKick(fd(ring.kick.as_fd())?))?;
        self.enable(q, 1)?;
        self.settle()?;
        ring.kick.signal();
        Ok(())
    }

    fn enable(&mut self, q: u16, value: u32) -> Result<(), Trouble> {
        // Where PROTOCOL_FEATURES is not set there is no such request, and rings are always enabled.
        match self.offered.contains(PROTOCOL_FEATURES) {
            true => self.tell(&Command::SetVringEnable(RingState { ring: q.into(), value })),
            false => Ok(()),
        }
    }

    /// Without answers, a request that has one shows that what was said before has been done: the server would have gone.
    fn settle(&mut self) -> Result<(), Trouble> {
        match self.has(ProtocolFeatures::REPLY_ACK) {
            true => Ok(()),
            false => self.number(&Command::GetFeatures).map(drop),
        }
    }

    /// Stops ring `q` once what was taken is used; where it stood, as the protocol says it.
    pub(super) fn stop(&mut self, q: u16) -> Result<u32, Trouble> {
        let answer = self.link.ask(&Command::GetVringBase(q.into()), Answer::Unwanted)?;
        let Answered::Base(RingState { ring, value }) = answer else {
            return Err(mistyped(Request::GetVringBase));
        };
        if ring != u32::from(q) {
            return Err(WireError::Field { request: Request::GetVringBase, value: ring.into() }.into());
        }
        self.enable(q, 0)?;
        Ok(value)
    }

    /// The device as it was at first, as far as the protocol has words for it. No ring runs.
    pub(super) fn reset(&mut self) -> Result<(), Trouble> {
        self.status = Status::RESET;
        if self.has(ProtocolFeatures::RESET_DEVICE) {
            self.tell(&Command::ResetDevice)
        } else {
            self.set_status(Status::RESET)
        }
    }

    /// `len` bytes of configuration space from `offset` on: as many as were asked for, or none.
    pub(super) fn read_config(&mut self, offset: usize, len: usize) -> Result<Vec<u8>, Trouble> {
        let span = ConfigSpan { offset: offset as u32, len: len as u32, flags: 0 };
        match self.link.ask(&Command::GetConfig(span), Answer::Unwanted)? {
            Answered::Config(ConfigWrite { span: found, data })
                if (found.offset, found.len) == (span.offset, span.len) =>
            {
                Ok(data)
            }
            Answered::Config(other) => {
                Err(WireError::Field { request: Request::GetConfig, value: other.span.len.into() }.into())
            }
            _ => Err(Trouble::Refused(Request::GetConfig)),
        }
    }

    pub(super) fn write_config(&mut self, offset: usize, data: &[u8]) -> Result<(), Trouble> {
        let span = ConfigSpan { offset: offset as u32, len: data.len() as u32, flags: 0 };
        self.tell(&Command::SetConfig(ConfigWrite { span, data: data.to_vec() }))
    }

    /// New records for rings of up to `ring_size` descriptors. This side never looks into them.
    pub(super) fn make_records(&mut self, rings: u16, ring_size: u16) -> Result<RecordFile, Trouble> {
        const PADDED: usize = 24;
        let area = InflightArea { len: 0, offset: 0, rings, ring_size, structure_len: PADDED };
        let answer = self.link.ask(&Command::GetInflightFd(area), Answer::Unwanted)?;
        let Answered::Inflight(found, file) = answer else { return Err(mistyped(Request::GetInflightFd)) };
        let file_len = fstat(&file).map_or(0, |status| status.st_size as u64);
        let within = found.offset.checked_add(found.len).is_some_and(|end| end <= file_len);
        if found.len == 0 || !within || (found.rings, found.ring_size) != (rings, ring_size) {
            return Err(WireError::Field { request: Request::GetInflightFd, value: found.len }.into());
        }
        Ok(RecordFile { area: found, file })
    }

    pub(super) fn set_records(&mut self, records: &RecordFile) -> Result<(), Trouble> {
        let file = duplicate(records.file.as_fd())?;
        self.tell(&Command::SetInflightFd(records.area, file))
    }

    /// A request whose answer is a number.
    pub(super) fn number(&mut self, command: &Command) -> Result<u64, Trouble> {
        match self.link.ask(command, Answer::Unwanted)? {
            Answered::Number(number) => Ok(number),
            _ => Err(mistyped(command.encode().0)),
        }
    }

    /// A request that is done or not: said by its answer if there are any.
    fn tell(&mut self, command: &Command) -> Result<(), Trouble> {
        if !self.has(ProtocolFeatures::REPLY_ACK) {
            return self.link.tell(command);
        }
        match self.link.ask(command, Answer::Wanted)? {
            Answered::Number(0) => Ok(()),
            _ => Err(Trouble::Refused(command.encode().0)),
        }
    }
}

/// The region as the server is told of it: where the front-end has it mapped is nobody's business, so its own addresses are the
/// guest's.
fn front_region(region: &SharedRegion) -> Result<(FrontRegion, OwnedFd), Trouble> {
    let SharedRegion { at, len, file, offset } = region;
    Ok((FrontRegion { guest: at.0, len: *len, user: at.0, offset: *offset }, duplicate(file.as_fd())?))
}

fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, Trouble> {
    fd.try_clone_to_owned().map_err(|source| Trouble::System { action: "share a file descriptor", source })
}

fn unsuitable(reason: impl Into<String>) -> Trouble {
    Trouble::Unsuitable(reason.into())
}

fn mistyped(request: Request) -> Trouble {
    WireError::PayloadLen { request, len: 0 }.into()
}
