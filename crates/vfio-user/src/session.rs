//! One client's time with a device: what each of its commands does. What those of migration do is in `arcs`.

mod arcs;

use crate::device::{Device, REGIONS};
use crate::dma::{ClientMemory, Mappings, PAGE_LEN, Remote, piece_len};
use crate::feature::{DeviceFeature, Migration};
use crate::irqs;
use crate::link::Link;
use crate::migration::{MigrationState, Phase};
use crate::wire::{
    Access as RegionAccess, Answer, Capabilities, DmaMap, DmaUnmap, Feature, IoFd, Kind, MAX_FDS, Message,
    Payload, Refusal, Request, Shape, SmallWrite, TwinSocket, VersionRequest, version_reply,
};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use vioduct_virtio_device::{EventFd, RateLimit};
use vioduct_virtqueue::{Access, IoAddr, Memory};

/// A connected client and its device.
pub(crate) struct Session<'a> {
    device: &'a mut Device,
    link: Arc<Link>,
    /// Where it is asked for memory: its connection, or a socket of its own for that.
    calls: Arc<Link>,
    /// What it can do, once it has said so.
    client: Option<Capabilities>,
    mappings: Mappings,
    /// Addresses of pages that the device has written and the client has not asked about.
    dirty: BTreeSet<u64>,
    activity: Activity,
    phase: Phase,
    refusals: RateLimit,
}

/// Whether the device may work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Activity {
    /// A client that comes back to a device that a driver left running maps its memory first, piece by piece; the device waits until
    /// the client touches it.
    Settling,
    /// The client has unmapped what the device cannot do without, rings of a running queue for instance. When the guest changes
    /// what there is at some address, QEMU unmaps all memory around it and maps it again in other pieces. The device waits until
    /// the client touches it, or says no more: doorbells ring without a message.
    Remapping,
    Running,
}

/// How long a client says nothing that has mapped all that it wanted to map again.
const REMAPPED: Duration = Duration::from_millis(10);

/// A reply that is no error.
#[derive(Default)]
struct Reply {
    payload: Vec<u8>,
    fds: Vec<Arc<dyn AsFd>>,
}

impl From<Payload> for Reply {
    fn from(payload: Payload) -> Self {
        Self { payload: payload.into_bytes(), fds: Vec::new() }
    }
}

impl<'a> Session<'a> {
    pub(crate) fn new(device: &'a mut Device, link: Arc<Link>) -> Self {
        Self {
            device,
            calls: link.clone(),
            link,
            client: None,
            mappings: Mappings::default(),
            dirty: BTreeSet::new(),
            activity: Activity::Settling,
            phase: Phase::Running,
            refusals: RateLimit::default(),
        }
    }

    /// Serves until the client goes, or the server stops; why it ended.
    pub(crate) fn run(mut self) -> &'static str {
        let why = loop {
            let next = match self.activity {
                Activity::Remapping => self.link.next_command_within(REMAPPED),
                Activity::Settling | Activity::Running => self.link.next_command().map(Some),
            };
            match next {
                Ok(Some(message)) => self.answer(message),
                Ok(None) => self.settle(),
                Err(why) => break why,
            }
        };
        self.finish(why);
        why
    }

    /// The specification, "Client Disconnection": memory and interrupt descriptors go, and the device's state stays.
    fn finish(&mut self, why: &'static str) {
        self.link.close(why);
        self.calls.close(why);
        self.device.function().pause();
        self.device.function().replace_memory(ClientMemory::none());
        self.device.irqs().disconnect();
        self.device.irqs().release();
    }

    fn answer(&mut self, message: Message) {
        let header = message.header;
        let outcome = self.obey(message);
        match (header.answer(), outcome) {
            (Answer::Unwanted, Ok(_)) => {}
            // A client that asks for no answer does not learn of it.
            (Answer::Unwanted, Err(refusal)) => {
                if let Some(suppressed) = self.refusals.admit() {
                    tracing::warn!(
                        command = header.command,
                        suppressed,
                        "vfio-user client refused: {refusal:?}"
                    );
                }
            }
            (Answer::Wanted, Ok(Reply { payload, fds })) => {
                let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
                self.link.send(header.reply(payload.len()), &[&payload], &fds);
            }
            // Clients ask for what they can do without, as QEMU for kinds of interrupts that there are not.
            (Answer::Wanted, Err(refusal)) => {
                tracing::debug!(command = header.command, "vfio-user client refused: {refusal:?}");
                self.link.send(header.refusal(refusal), &[], &[]);
            }
        }
    }

    fn obey(&mut self, message: Message) -> Result<Reply, Refusal> {
        let Message { header, payload, fds } = message;
        if header.kind() != Kind::Command {
            return Err(Refusal::Invalid);
        }
        let shape = Shape::of(header.command).ok_or(Refusal::Unsupported)?;
        let request = Request::decode(shape, &payload, fds.len())?;
        match (request, self.client) {
            (Request::Version(request), None) => Ok(self.version(&request)),
            (Request::Version(_), Some(_)) | (_, None) => Err(Refusal::Invalid),
            (request, Some(client)) => self.obey_request(request, client, fds),
        }
    }

    fn obey_request(
        &mut self,
        request: Request,
        client: Capabilities,
        fds: Vec<OwnedFd>,
    ) -> Result<Reply, Refusal> {
        match request {
            Request::Version(_) => Err(Refusal::Invalid),
            Request::DmaMap(map) => self.dma_map(map, client, fds),
            Request::DmaUnmap(unmap) => self.dma_unmap(unmap),
            Request::GetInfo => Ok(device_info()),
            Request::GetRegionInfo { region } => self.region_info(region),
            Request::GetRegionIoFds { argsz, region } => self.region_io_fds(argsz, region, client),
            Request::GetIrqInfo { index } => self.irq_info(index),
            Request::SetIrqs(request) => self.device.irqs().set(&request, fds).map(|()| Reply::default()),
            Request::RegionRead(access) => self.region_read(access),
            Request::RegionWrite(access, data) => self.region_write(access, &data),
            Request::Reset => self.reset(),
            Request::WriteMulti(writes) => self.write_multi(&writes),
            Request::Feature(feature) => self.feature(feature),
            Request::MigrationRead(request) => self.migration_read(request, client),
            Request::MigrationWrite(piece) => self.migration_write(&piece),
        }
    }

    fn version(&mut self, request: &VersionRequest) -> Reply {
        self.client = Some(request.capabilities);
        let mut agreed = request.capabilities;
        agreed.migration = agreed.migration.filter(|_| self.device.migration() == Migration::Offered);
        let twin = agreed.wants_twin_socket().then(|| Link::twin(&self.link)).flatten();
        let Some((calls, client_end)) = twin else {
            return Reply { payload: version_reply(&agreed, TwinSocket::Absent), fds: Vec::new() };
        };
        self.calls = Arc::new(calls);
        Reply { payload: version_reply(&agreed, TwinSocket::Offered), fds: vec![Arc::new(client_end)] }
    }

    fn dma_map(
        &mut self,
        map: DmaMap,
        client: Capabilities,
        mut fds: Vec<OwnedFd>,
    ) -> Result<Reply, Refusal> {
        let max_data_len = piece_len(client.max_data_xfer_size);
        let remote = Remote { link: self.calls.clone(), max_data_len };
        self.change_memory(|mappings| mappings.add(map, fds.pop(), remote))?;
        Ok(Reply::default())
    }

    /// The reply is the request (the specification, "VFIO_USER_DMA_UNMAP").
    fn dma_unmap(&mut self, unmap: DmaUnmap) -> Result<Reply, Refusal> {
        self.change_memory(|mappings| mappings.remove(unmap))?;
        Ok(Reply { payload: unmap.encode(), fds: Vec::new() })
    }

    /// Changes what is mapped while the device does not use it. Afterwards nothing of what was unmapped is used.
    fn change_memory<T>(
        &mut self,
        change: impl FnOnce(&mut Mappings) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        if self.activity != Activity::Running {
            return change(&mut self.mappings);
        }
        self.device.function().pause();
        let outcome = change(&mut self.mappings);
        let memory = self.mappings.memory();
        let lacks = |at: IoAddr| memory.region(at).is_none() && !memory.reaches(at, 1, Access::Read);
        if self.device.function().standing_addresses().into_iter().any(lacks) {
            self.activity = Activity::Remapping;
        }
        self.device.function().replace_memory(memory);
        self.resume();
        outcome
    }

    /// The device works on, if it may: once the client has touched it, and while it is not stopped for migration.
    fn resume(&mut self) {
        if let (Activity::Running, Phase::Running) = (self.activity, &self.phase) {
            self.device.function().resume();
        }
    }

    /// The client touches the device: what it wanted to map before is mapped.
    fn settle(&mut self) {
        if self.activity != Activity::Running {
            self.activity = Activity::Running;
            self.device.function().replace_memory(self.mappings.memory());
            self.resume();
        }
    }

    fn region_info(&self, region: u32) -> Result<Reply, Refusal> {
        const READ_WRITE: u32 = 3;
        let len = self.device.region_len(region)?;
        let flags = if len > 0 { READ_WRITE } else { 0 };
        Ok(Payload::default().u32(32).u32(flags).u32(region).u32(0).u64(len).u64(0).into())
    }

    /// An eventfd for each doorbell, as many as the client takes in one message. Where its room is too small, the reply says how
    /// much it takes.
    fn region_io_fds(&mut self, argsz: u32, region: u32, client: Capabilities) -> Result<Reply, Refusal> {
        self.device.region_len(region)?;
        let max_fds = usize::try_from(client.max_msg_fds).unwrap_or(usize::MAX).min(MAX_FDS);
        let doorbells = self.device.function().doorbells().into_iter().enumerate();
        let offered: Vec<_> = doorbells.filter(|(_, at)| u32::from(at.bar) == region).take(max_fds).collect();
        let count = u32::try_from(offered.len()).unwrap_or(u32::MAX);
        let needed = IoFd::room(count);
        let head = Payload::default().u32(needed).u32(0).u32(region).u32(count);
        if argsz < needed {
            return Ok(head.into());
        }
        let fds = offered.iter().map(|_| EventFd::new().map(Arc::new)).collect::<Result<Vec<_>, _>>();
        let fds = fds.map_err(|_| Refusal::Full)?;
        self.settle();
        self.device.function().pause();
        for ((index, _), kick) in offered.iter().zip(&fds) {
            self.device.function().set_doorbell(*index, kick.clone());
        }
        self.resume();
        let payload = (0u32..).zip(offered).fold(head, |payload, (fd_index, (_, at))| {
            IoFd { offset: at.offset, len: at.len.into(), fd_index, datamatch: at.datamatch }.encode(payload)
        });
        let fds = fds.into_iter().map(|fd| fd as Arc<dyn AsFd>).collect();
        Ok(Reply { payload: payload.into_bytes(), fds })
    }

    fn irq_info(&self, index: u32) -> Result<Reply, Refusal> {
        let (flags, count) = self.device.irqs().info(index)?;
        Ok(Payload::default().u32(16).u32(flags).u32(index).u32(count).into())
    }

    fn region_read(&mut self, access: RegionAccess) -> Result<Reply, Refusal> {
        self.settle();
        let mut data = vec![0; access.count as usize];
        self.device.read(access.region, access.offset, &mut data)?;
        Ok(access.encode().bytes(&data).into())
    }

    fn region_write(&mut self, access: RegionAccess, data: &[u8]) -> Result<Reply, Refusal> {
        self.settle();
        self.device.write(access.region, access.offset, data)?;
        Ok(access.encode().into())
    }

    /// In order, up to the first that cannot be.
    fn write_multi(&mut self, writes: &[SmallWrite]) -> Result<Reply, Refusal> {
        self.settle();
        for write in writes {
            self.device.write(write.access.region, write.access.offset, write.data())?;
        }
        Ok(Payload::default().u64(writes.len() as u64).into())
    }

    /// Leads from every state of migration back to RUNNING (VFIO, `VFIO_DEVICE_RESET`).
    fn reset(&mut self) -> Result<Reply, Refusal> {
        self.device.reset();
        self.phase = Phase::Running;
        self.device.irqs().release();
        self.resume();
        Ok(Reply::default())
    }

    fn feature(&mut self, feature: Feature) -> Result<Reply, Refusal> {
        let head = Payload::default();
        let payload = match DeviceFeature::decode(&feature, self.device.migration())? {
            DeviceFeature::Migration => head.u32(16).u32(feature.flags).u64(STOP_COPY),
            DeviceFeature::State => {
                head.u32(16).u32(feature.flags).u32(self.phase.state() as u32).u32(NO_DATA_FD)
            }
            DeviceFeature::GoTo(number) => {
                self.go_to(MigrationState::wanted(number)?)?;
                head.u32(feature.argsz).u32(feature.flags).bytes(&feature.data)
            }
            DeviceFeature::Probe => head.u32(feature.argsz).u32(feature.flags).bytes(&feature.data),
            DeviceFeature::StartLog => {
                self.change_memory(Mappings::start_log)?;
                self.dirty.clear();
                let ranges = feature.data.get(8..).unwrap_or_default();
                head.u32(feature.argsz).u32(feature.flags).u64(PAGE_LEN).bytes(ranges)
            }
            DeviceFeature::StopLog => {
                self.change_memory(Mappings::stop_log)?;
                head.u32(feature.argsz).u32(feature.flags)
            }
            DeviceFeature::ReportLog(report) => {
                if !self.mappings.is_logging() {
                    return Err(Refusal::Invalid);
                }
                let needed = 8 + 24 + report.bitmap_len() as u32;
                let head = head.u32(needed).u32(feature.flags).bytes(&feature.data);
                if feature.argsz < needed {
                    return Ok(head.into());
                }
                self.dirty.extend(self.mappings.take_dirty());
                head.bytes(&report.take(&mut self.dirty))
            }
        };
        Ok(payload.into())
    }
}

/// What of migration there is: `VFIO_MIGRATION_STOP_COPY`.
const STOP_COPY: u64 = 1;
/// States travel in messages of their own; VFIO's data_fd is -1 then.
const NO_DATA_FD: u32 = u32::MAX;

fn device_info() -> Reply {
    const RESET_AND_PCI: u32 = 3;
    Payload::default().u32(16).u32(RESET_AND_PCI).u32(REGIONS).u32(irqs::TYPES).into()
}
