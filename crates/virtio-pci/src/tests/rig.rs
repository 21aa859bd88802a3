//! A toy device behind a hosted function, and a driver for it that knows only what configuration space tells.
//!
//! `unsafe` because it implements `Memory`, as every owner of guest memory does.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::{Arc, Mutex};

use vioduct_pci::registers as config;
use vioduct_pci::{Hosted, InterruptSink, Level, MsiMessage};
use vioduct_spec::pci::{cap, common_config as at};
use vioduct_spec::{Features, Status};
use vioduct_virtio_device::{
    Backend, BackendError, ConfigAccess, DeviceInfo, DeviceModel, Fault, Handlers, Host, Inline, Io,
    QueueHandler, QueueSetup, Wake,
};
use vioduct_virtqueue::{Access, IoAddr, Memory, MemoryFault, QueuePosition, Region};

use crate::VirtioPci;

/// Where RAM starts, and where the toy's BAR is: not in RAM.
pub(crate) const RAM: u64 = 0x10_0000;
pub(crate) const BAR_ADDRESS: u64 = 0xe000_0000;
const RAM_LEN: usize = 0x1_0000;
const BUFFER: u64 = RAM + 0x8000;
pub(crate) const QUEUE_SIZES: [u16; 3] = [8, 4, 0];
/// What the driver makes of every queue it uses.
pub(crate) const SIZE: u16 = 4;

/// What the toy writes into every buffer.
const ANSWER: u8 = 0x5a;

pub(crate) fn toy_info() -> DeviceInfo {
    DeviceInfo {
        device_type: 4,
        name: "toy",
        features: Features::bit(3),
        queue_sizes: QUEUE_SIZES.to_vec(),
        config_len: 8,
        config_access: ConfigAccess::Writable,
    }
}

/// Answers every buffer with one byte.
pub(crate) struct Toy {
    pub(crate) info: DeviceInfo,
    pub(crate) config: Vec<u8>,
}

impl DeviceModel for Toy {
    fn info(&self) -> DeviceInfo {
        self.info.clone()
    }
    fn read_config(&self, offset: usize, out: &mut [u8]) {
        out.copy_from_slice(&self.config[offset..][..out.len()]);
    }
    fn write_config(&mut self, offset: usize, data: &[u8]) {
        self.config[offset..][..data.len()].copy_from_slice(data);
    }
    fn handlers(&mut self, _negotiated: Features) -> Handlers {
        vec![(0..self.info.queue_sizes.len() as u16, Box::new(Answer))]
    }
}

struct Answer;

impl QueueHandler for Answer {
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        match why {
            Wake::Kick(q) => io.serve(q, |chain| chain.writer().write_all(&[ANSWER]).map(|()| 1)),
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopping {
    Works,
    Fails,
}

/// The toy's back-end: offers NOTIF_CONFIG_DATA, which needs nothing of it, keeps where events go, and can fail to stop.
pub(crate) struct ToyBackend {
    pub(crate) inner: Inline<Toy>,
    pub(crate) host: Option<Host>,
    pub(crate) stopping: Stopping,
}

impl ToyBackend {
    pub(crate) fn new(info: DeviceInfo) -> Self {
        let config = (1..=info.config_len).map(|byte| byte as u8).collect();
        Self { inner: Inline::auto(Toy { info, config }), host: None, stopping: Stopping::Works }
    }
}

impl Backend for ToyBackend {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }
    fn features(&self) -> Features {
        self.inner.features() | Features::NOTIF_CONFIG_DATA
    }
    fn read_config(&self, offset: usize, out: &mut [u8]) {
        self.inner.read_config(offset, out);
    }
    fn write_config(&mut self, offset: usize, data: &[u8]) {
        self.inner.write_config(offset, data);
    }
    fn connect(&mut self, host: Host) {
        self.host = Some(host.clone());
        self.inner.connect(host);
    }
    fn set_features(&mut self, negotiated: Features) -> Result<(), BackendError> {
        self.inner.set_features(negotiated.without(Features::NOTIF_CONFIG_DATA))
    }
    fn start_queue(&mut self, q: u16, setup: QueueSetup) -> Result<(), BackendError> {
        self.inner.start_queue(q, setup)
    }
    fn stop_queue(&mut self, q: u16) -> Result<Option<QueuePosition>, BackendError> {
        match self.stopping {
            Stopping::Works => self.inner.stop_queue(q),
            Stopping::Fails => Err(BackendError::Draining { queue: q, in_flight: 1 }),
        }
    }
    fn kick(&mut self, q: u16) {
        self.inner.kick(q);
    }
    fn reset(&mut self) -> Result<(), BackendError> {
        self.inner.reset()
    }
}

/// RAM that is reached by messages, so that no pointer is needed.
pub(crate) struct Ram(Mutex<Vec<u8>>);

impl Ram {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(vec![0; RAM_LEN])))
    }

    fn range(at: IoAddr, len: u64) -> Result<Range<usize>, MemoryFault> {
        let start = at.0.checked_sub(RAM).filter(|start| start.saturating_add(len) <= RAM_LEN as u64);
        let start = start.ok_or(MemoryFault { at, len })? as usize;
        Ok(start..start + len as usize)
    }

    /// What another has in it.
    pub(crate) fn copy_from(&self, other: &Self) {
        self.0.lock().unwrap().copy_from_slice(&other.0.lock().unwrap());
    }

    fn put(&self, at: u64, data: &[u8]) {
        self.write(IoAddr(at), data).unwrap();
    }

    fn u16(&self, at: u64) -> u16 {
        let mut out = [0; 2];
        self.read(IoAddr(at), &mut out).unwrap();
        u16::from_le_bytes(out)
    }
}

// SAFETY: `region` returns none, so there is nothing to keep mapped.
unsafe impl Memory for Ram {
    fn read(&self, at: IoAddr, out: &mut [u8]) -> Result<(), MemoryFault> {
        let range = Self::range(at, out.len() as u64)?;
        out.copy_from_slice(&self.0.lock().unwrap()[range]);
        Ok(())
    }
    fn write(&self, at: IoAddr, data: &[u8]) -> Result<(), MemoryFault> {
        let range = Self::range(at, data.len() as u64)?;
        self.0.lock().unwrap()[range].copy_from_slice(data);
        Ok(())
    }
    fn region(&self, _at: IoAddr) -> Option<Region> {
        None
    }
    fn reaches(&self, at: IoAddr, len: u64, _access: Access) -> bool {
        Self::range(at, len).is_ok()
    }
}

/// What reached the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Msi(u16),
    Pin(Level),
}

#[derive(Default)]
pub(crate) struct Sink(Mutex<Vec<Heard>>);

impl Sink {
    pub(crate) fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl InterruptSink for Sink {
    fn msi(&self, vector: u16, _message: MsiMessage) {
        self.0.lock().unwrap().push(Heard::Msi(vector));
    }
    fn intx(&self, level: Level) {
        self.0.lock().unwrap().push(Heard::Pin(level));
    }
}

/// A driver's view of a hosted toy.
pub(crate) struct Rig {
    pub(crate) hosted: Hosted<VirtioPci<ToyBackend>>,
    pub(crate) sink: Arc<Sink>,
    pub(crate) ram: Arc<Ram>,
    /// The capability list, walked once as drivers do: reading all of it may read the window's target.
    found: Vec<Found>,
}

/// A capability as a driver finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) at: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Found {
    pub(crate) fn u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.bytes[offset..][..4].try_into().unwrap())
    }
}

/// The rig's features unless a test wants others.
pub(crate) const PLAIN: Features = Features::VERSION_1;

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(toy_info())
    }

    pub(crate) fn with(info: DeviceInfo) -> Self {
        let (sink, ram) = (Arc::new(Sink::default()), Ram::new());
        let function = VirtioPci::new(ToyBackend::new(info), ram.clone()).unwrap();
        let hosted = Hosted::new(function, sink.clone()).unwrap();
        let mut rig = Self { hosted, sink, ram, found: Vec::new() };
        rig.found = rig.capabilities();
        rig
    }

    /// Bus mastering on and DRIVER_OK, with queue 0 in place.
    pub(crate) fn live(features: Features) -> Self {
        let mut rig = Self::new();
        rig.set_command(config::COMMAND_MEMORY | config::COMMAND_BUS_MASTER);
        rig.negotiate(features);
        rig.set_up_queue(0);
        rig.set_status(Status::ACKNOWLEDGE | Status::DRIVER | Status::FEATURES_OK | Status::DRIVER_OK);
        rig
    }

    /// The same with MSI-X on, the configuration mapped to vector 0 and queue 0 to vector 1.
    pub(crate) fn live_with_msix(features: Features) -> Self {
        let mut rig = Self::live(features);
        rig.enable_msix();
        rig.put(at::CONFIG_MSIX_VECTOR, 2, 0);
        rig.put(at::QUEUE_MSIX_VECTOR, 2, 1);
        rig
    }

    pub(crate) fn backend(&mut self) -> &mut ToyBackend {
        self.hosted.function_mut().endpoint_mut().backend_mut()
    }

    /// The device changes its configuration, and says so.
    pub(crate) fn change_config(&mut self, value: u8) {
        let backend = self.backend();
        backend.inner.model_mut().config.fill(value);
        backend.host.as_ref().unwrap().events.config_changed();
    }

    pub(crate) fn config_u8(&mut self, offset: u64) -> u8 {
        let mut out = [0];
        self.hosted.config_read(offset, &mut out);
        out[0]
    }

    pub(crate) fn config_u16(&mut self, offset: u64) -> u16 {
        let mut out = [0; 2];
        self.hosted.config_read(offset, &mut out);
        u16::from_le_bytes(out)
    }

    pub(crate) fn set_command(&mut self, command: u16) {
        self.hosted.config_write(config::COMMAND, &command.to_le_bytes());
    }

    /// The capability list, in its order.
    pub(crate) fn capabilities(&mut self) -> Vec<Found> {
        let mut found = Vec::new();
        let mut at = u64::from(self.config_u8(config::CAPABILITIES));
        while at != 0 {
            let len = match self.config_u8(at) {
                config::CAP_VENDOR => self.config_u8(at + 2).into(),
                _ => config::MSIX_LEN,
            };
            let mut bytes = vec![0; len as usize];
            self.hosted.config_read(at, &mut bytes);
            let next = bytes[cap::NEXT].into();
            found.push(Found { at, bytes });
            at = next;
        }
        found
    }

    pub(crate) fn capability(&self, cfg_type: u8) -> Option<&Found> {
        let vendor = |found: &&Found| found.bytes[0] == config::CAP_VENDOR;
        self.found.iter().filter(vendor).find(|found| found.bytes[cap::CFG_TYPE] == cfg_type)
    }

    pub(crate) fn msix(&self) -> &Found {
        self.found.iter().find(|found| found.bytes[0] == config::CAP_MSIX).unwrap()
    }

    pub(crate) fn structure(&self, cfg_type: u8) -> (u8, u64) {
        let found = self.capability(cfg_type).unwrap();
        (found.bytes[cap::BAR], found.u32(cap::OFFSET).into())
    }

    pub(crate) fn read(&mut self, cfg_type: u8, offset: u64, len: usize) -> u64 {
        let (bar, start) = self.structure(cfg_type);
        let mut out = [0; 8];
        self.hosted.bar_read(bar, start + offset, &mut out[..len]);
        u64::from_le_bytes(out)
    }

    pub(crate) fn write(&mut self, cfg_type: u8, offset: u64, len: usize, value: u64) {
        let (bar, start) = self.structure(cfg_type);
        self.hosted.bar_write(bar, start + offset, &value.to_le_bytes()[..len]);
    }

    /// Reads the common configuration.
    pub(crate) fn get(&mut self, offset: u64, len: usize) -> u64 {
        self.read(cap::TYPE_COMMON, offset, len)
    }

    /// Writes the common configuration.
    pub(crate) fn put(&mut self, offset: u64, len: usize, value: u64) {
        self.write(cap::TYPE_COMMON, offset, len, value);
    }

    pub(crate) fn isr(&mut self) -> u64 {
        self.read(cap::TYPE_ISR, 0, 1)
    }

    pub(crate) fn status(&mut self) -> Status {
        Status(self.get(at::DEVICE_STATUS, 1) as u8)
    }

    pub(crate) fn set_status(&mut self, status: Status) {
        self.put(at::DEVICE_STATUS, 1, status.0.into());
    }

    /// From reset to FEATURES_OK.
    pub(crate) fn negotiate(&mut self, features: Features) {
        let found = Status::ACKNOWLEDGE | Status::DRIVER;
        self.set_status(found);
        for select in 0..2 {
            self.put(at::DRIVER_FEATURE_SELECT, 4, select);
            self.put(at::DRIVER_FEATURE, 4, features.word(select as u32).into());
        }
        self.set_status(found | Status::FEATURES_OK);
        assert_eq!(self.status(), found | Status::FEATURES_OK);
    }

    /// Selects, sizes, places and enables a queue.
    pub(crate) fn set_up_queue(&mut self, q: u16) {
        self.put(at::QUEUE_SELECT, 2, q.into());
        self.put(at::QUEUE_SIZE, 2, SIZE.into());
        for (register, area) in [(at::QUEUE_DESC, 0), (at::QUEUE_DRIVER, 1), (at::QUEUE_DEVICE, 2)] {
            self.put(register, 4, area_of(q, area));
            self.put(register + 4, 4, 0);
        }
        self.put(at::QUEUE_ENABLE, 2, 1);
    }

    /// Makes a writable buffer at `address` available in split queue `q`, and rings no bell.
    pub(crate) fn offer_at(&mut self, q: u16, address: u64) {
        let mut descriptor = address.to_le_bytes().to_vec();
        descriptor.extend(16u32.to_le_bytes());
        descriptor.extend([2, 0, 0, 0]);
        let index = self.ram.u16(area_of(q, 1) + 2);
        self.ram.put(area_of(q, 0), &descriptor);
        self.ram.put(area_of(q, 1) + 4 + 2 * u64::from(index % SIZE), &[0, 0]);
        self.ram.put(area_of(q, 1) + 2, &index.wrapping_add(1).to_le_bytes());
    }

    pub(crate) fn offer(&mut self, q: u16) {
        self.offer_at(q, BUFFER);
    }

    /// How many buffers of queue `q` the device has used.
    pub(crate) fn used(&self, q: u16) -> u16 {
        self.ram.u16(area_of(q, 2) + 2)
    }

    /// Notifies queue `q` in 16 bits, at the address that the device gives for it.
    pub(crate) fn kick(&mut self, q: u16) {
        let at = self.doorbell(q);
        self.write(cap::TYPE_NOTIFY, at, 2, q.into());
    }

    /// Offset of a queue's doorbell in the notification structure, as drivers find it.
    pub(crate) fn doorbell(&mut self, q: u16) -> u64 {
        let multiplier = self.capability(cap::TYPE_NOTIFY).unwrap().u32(cap::NOTIFY_OFF_MULTIPLIER);
        self.put(at::QUEUE_SELECT, 2, q.into());
        self.get(at::QUEUE_NOTIFY_OFF, 2) * u64::from(multiplier)
    }

    /// Programs and unmasks every vector, then turns MSI-X on.
    pub(crate) fn enable_msix(&mut self) {
        let msix = self.msix().clone();
        let table = msix.u32(config::MSIX_TABLE as usize);
        let vectors = 1 + u64::from(u16::from_le_bytes([msix.bytes[2], msix.bytes[3]]));
        for vector in 0..vectors {
            let entry = u64::from(table & !7) + 16 * vector;
            for (offset, word) in [(0, 0xfee0_0000), (4, 0), (8, 0x40 + vector as u32), (12, 0u32)] {
                self.hosted.bar_write((table & 7) as u8, entry + offset, &word.to_le_bytes());
            }
        }
        self.set_msix_control(config::MSIX_ENABLE);
    }

    pub(crate) fn set_msix_control(&mut self, control: u16) {
        let at = self.msix().at + config::MSIX_CONTROL;
        self.hosted.config_write(at, &control.to_le_bytes());
    }
}

/// Address of area 0 (descriptor), 1 (driver) or 2 (device) of queue `q`.
pub(crate) fn area_of(q: u16, area: u64) -> u64 {
    RAM + 0x1000 * u64::from(q) + 0x400 * area
}
