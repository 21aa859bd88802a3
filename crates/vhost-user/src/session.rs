//! [`Session`]: one front-end and its device: what it has said, and what follows from each of its requests.
//!
//! | module | part |
//! |---|---|
//! | `features` | negotiation, of the device's features and of the protocol's |
//! | `rings` | set-up, start and stop of rings |
//! | `sharing` | the memory that the front-end shares, and the log of what is written to it |
//! | `inflight` | records of what is in flight |
//! | `device` | configuration space, status, reset |
//! | `state` | the device's own state on its way to or from another host |
//! | `client` | the thread of a connection |
//!
//! A session knows nothing of sockets: it is given commands and returns what to answer, so that it can be driven step by step.

mod client;
mod device;
mod features;
mod inflight;
mod rings;
mod sharing;
mod state;

pub(crate) use client::{Client, End};

use crate::channel::Channel;
use crate::dirty_log::DirtyLog;
use crate::error::Refusal;
use crate::events::Events;
use crate::memory::GuestMemory;
use crate::table::{MAX_REGIONS, MemoryLimits, MemoryTable};
use crate::vring::Vring;
use crate::wire::{Command, ProtocolFeatures, Record};
use inflight::Records;
use state::Transfer;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use vioduct_virtio_device::{Backend, Features, Host};

/// Rings that the protocol can name in a kick or a call.
const MAX_RINGS: usize = 256;

/// What a request comes to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is done.
    Done,
    /// It is not done, and the connection can go on as if it had not come, for the guest may have caused it.
    Ignored(&'static str),
    /// It is done, and this is the reply.
    Reply(Vec<u8>),
    /// The same, with a descriptor.
    ReplyWith(Vec<u8>, OwnedFd),
}

impl Outcome {
    fn number(value: u64) -> Self {
        Self::Reply(Record::new().u64(value).done())
    }
}

/// A device and all that its front-end has said.
pub(crate) struct Session<B> {
    device: B,
    protocol: ProtocolFeatures,
    /// As the front-end has set them, those of the protocol among them.
    features: Option<Features>,
    table: MemoryTable,
    log: Option<Arc<DirtyLog>>,
    memory: Arc<GuestMemory>,
    rings: Vec<Vring>,
    records: Option<Records>,
    channel: Arc<Channel>,
    events: Arc<Events>,
    status: u8,
    transfer: Transfer,
}

impl<B: Backend> Session<B> {
    pub(crate) fn new(mut device: B, limits: MemoryLimits) -> io::Result<Self> {
        let channel = Arc::new(Channel::new()?);
        let info = device.info();
        let count = info.queue_sizes.len().min(MAX_RINGS);
        let events = Arc::new(Events::new(info.name, count, channel.clone()));
        let table = MemoryTable::new(limits);
        let memory = Arc::new(table.memory(None));
        device.connect(Host { memory: memory.clone(), events: events.clone() });
        let rings = (0..count).map(|ring| Vring::new(ring as u16, &channel)).collect();
        Ok(Self {
            device,
            protocol: ProtocolFeatures::NONE,
            features: None,
            table,
            log: None,
            memory,
            rings,
            records: None,
            channel,
            events,
            status: 0,
            transfer: Transfer::default(),
        })
    }

    /// Does what the front-end asks for.
    pub(crate) fn obey(&mut self, command: Command) -> Result<Outcome, Refusal> {
        use Command as C;
        match command {
            C::GetFeatures => Ok(Outcome::number(self.offered().0)),
            C::SetFeatures(bits) => self.set_features(Features(bits)),
            C::GetProtocolFeatures => Ok(Outcome::number(ProtocolFeatures::OFFERED.0)),
            C::SetProtocolFeatures(bits) => self.set_protocol_features(ProtocolFeatures(bits)),
            C::SetOwner => Ok(Outcome::Done),
            C::ResetOwner => self.disable_rings(),
            C::SetMemTable(regions) => self.share(|table| table.replaced(regions)),
            C::AddMemReg(region, file) => self.share(|table| table.with(region, file)),
            C::RemMemReg(region) => self.share(|table| table.without(&region)),
            C::GetMaxMemSlots => Ok(Outcome::number(MAX_REGIONS as u64)),
            C::GetQueueNum => Ok(Outcome::number(self.rings.len() as u64)),
            C::SetVringNum(size) => self.set_ring_size(size),
            C::SetVringAddr(address) => self.set_ring_address(address),
            C::SetVringBase(base) => self.set_ring_base(base),
            C::GetVringBase(ring) => self.stop_ring(ring),
            C::SetVringKick(kick) => self.set_kick(kick),
            C::SetVringCall(call) => self.set_call(call),
            C::SetVringErr(error) => self.set_error(error),
            C::SetVringEnable(state) => self.enable_ring(state),
            C::VringKick(ring) => self.kick(ring),
            C::SetBackendReqFd(socket) => self.open_channel(socket),
            C::GetConfig(span) => Ok(self.read_config(span)),
            C::SetConfig(write) => Ok(self.write_config(&write)),
            C::ResetDevice => self.reset_device(),
            C::SetStatus(status) => self.set_status(status),
            C::GetStatus => Ok(Outcome::number(self.status())),
            C::SetDeviceStateFd { direction, phase, file } => self.begin_transfer(direction, phase, file),
            C::CheckDeviceState => Ok(self.check_transfer()),
            // Told where the log is, a device says nothing more of it: the front-end reads it when it likes.
            C::SetLogFd(_) => Ok(Outcome::Done),
            C::SetLogBase { len, offset, file } => self.set_log(len, offset, file),
            C::GetInflightFd(area) => self.make_records(area),
            C::SetInflightFd(area, file) => self.set_records(area, file),
        }
    }
}
