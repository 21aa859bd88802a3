//! [`VirtioPci`]: the function, its life, and the accesses to its BAR. As bytes, to go on elsewhere, it is in `saved`.

mod saved;

use std::sync::Arc;

use vioduct_pci::{
    BusMaster, CapabilityAction, CapabilityTouch, DmaFunction, FunctionHost, FunctionSpec, InterruptPin,
    PciFunction, StateError,
};
use vioduct_spec::pci::{LAST_DEVICE_ID, MODERN_DEVICE_ID, NO_VECTOR, VENDOR_ID, cap};
use vioduct_spec::{Features, Status, device_type, ring};
use vioduct_virtio_device::{Area, Backend, DeviceInfo, Endpoint, RateLimit, StatusWrite};
use vioduct_virtqueue::{IoAddr, Memory};

use crate::SetupError;
use crate::common_config::{Generation, Selectors};
use crate::layout::{BAR, Doorbell, Layout, MAX_QUEUES, PAGE, Structure, configuration_window};
use crate::lines::Lines;
use crate::registers::Register;

/// What this transport implements of the features that need its help.
const TRANSPORT_FEATURES: Features =
    Features::NOTIFICATION_DATA.with(Features::NOTIF_CONFIG_DATA).with(Features::RING_RESET);
/// virtio 1.3 §4.1.2.1: at least 1, which no legacy driver accepts.
const REVISION: u8 = 1;
/// virtio 1.3 §4.1.2.1: at least 0x40, which no legacy driver accepts.
const SUBSYSTEM_ID: u16 = 0x40;

/// A virtio device as a PCI function. Every access survives every argument.
pub struct VirtioPci<B> {
    pub(crate) endpoint: Endpoint<B>,
    layout: Layout,
    pub(crate) selectors: Selectors,
    pub(crate) generation: Generation,
    pub(crate) lines: Arc<Lines>,
    bus_master: BusMaster,
    activity: Activity,
    log: RateLimit,
}

/// What the host wants, as bus mastering is what the driver wants; queues run if both do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activity {
    Running,
    Paused,
}

impl<B: Backend> VirtioPci<B> {
    /// A function over `backend`, whose rings and buffers lie in `memory`.
    ///
    /// # Errors
    /// If the device cannot be shown over PCI.
    pub fn new(backend: B, memory: Arc<dyn Memory>) -> Result<Self, SetupError> {
        check(backend.info())?;
        let config_len = backend.info().config_len;
        let queues = u16::try_from(backend.info().queue_sizes.len()).unwrap_or(u16::MAX);
        let layout = Layout::new(queues, config_len);
        let lines = Arc::new(Lines::new(layout.msix().vectors, queues));
        let endpoint = Endpoint::new(backend, memory, lines.clone(), TRANSPORT_FEATURES);
        let mut function = Self {
            endpoint,
            layout,
            selectors: Selectors::default(),
            generation: Generation::default(),
            lines,
            bus_master: BusMaster::Disabled,
            activity: Activity::Running,
            log: RateLimit::default(),
        };
        function.apply_activity();
        Ok(function)
    }

    /// The device behind the function.
    pub fn endpoint(&self) -> &Endpoint<B> {
        &self.endpoint
    }

    /// The device behind the function: its kicks and calls, to save and restore it. To pause and to resume it is
    /// [`pause`](Self::pause) and [`resume`](Self::resume), which know whether the driver allows it to run.
    pub fn endpoint_mut(&mut self) -> &mut Endpoint<B> {
        &mut self.endpoint
    }

    /// Stops the queues, keeping their positions, until [`resume`](Self::resume).
    pub fn pause(&mut self) {
        self.activity = Activity::Paused;
        self.apply_activity();
    }

    /// Undoes [`pause`](Self::pause): the queues run if the driver allows bus mastering.
    pub fn resume(&mut self) {
        self.activity = Activity::Running;
        self.apply_activity();
    }

    /// Where notifications of queue `q` arrive; `None` if there is no such queue. NOTIFICATION_DATA changes it: ask when
    /// features are negotiated. Writes that miss an outdated one reach [`bar_write`](PciFunction::bar_write), which works too.
    pub fn doorbell(&self, q: u16) -> Option<Doorbell> {
        let (len, datamatch) = match self.notification_len() {
            2 => (2, Some(u64::from(q))),
            len => (len as u8, None),
        };
        let here = q < self.endpoint.queue_count();
        here.then(|| Doorbell { bar: BAR, offset: Layout::doorbell_at(q), len, datamatch })
    }

    /// The MSI-X vector that used-buffer notifications of queue `q` are mapped to, for a host that lets a back-end raise it
    /// directly; `None` if they are unmapped. It means nothing while MSI-X is off.
    pub fn queue_vector(&self, q: u16) -> Option<u16> {
        Some(self.lines.queue_vector(q)).filter(|vector| *vector != NO_VECTOR)
    }

    /// PCI 3.0 §6.2.2: without bus mastering no access to memory, so no queue.
    fn apply_activity(&mut self) {
        match (self.activity, self.bus_master) {
            (Activity::Running, BusMaster::Enabled) => self.endpoint.resume(),
            (Activity::Paused, _) | (_, BusMaster::Disabled) => self.endpoint.pause(),
        }
    }

    pub(crate) fn write_status(&mut self, value: u8) {
        match self.endpoint.write_status(value) {
            StatusWrite::Reset => self.reset_transport(),
            StatusWrite::Accepted => self.expect_bus_master(),
            StatusWrite::Unchanged | StatusWrite::Refused => {}
        }
    }

    fn expect_bus_master(&self) {
        let live = self.endpoint.status().contains(Status::DRIVER_OK);
        if live && self.bus_master == BusMaster::Disabled {
            self.warn("DRIVER_OK with bus mastering off: queues wait for bit 2 of the command register");
        }
    }

    /// What remains to be reset once the endpoint is; nothing signals any more.
    fn reset_transport(&mut self) {
        let Self {
            endpoint: _,
            layout: _,
            selectors,
            generation: _,
            lines,
            bus_master: _,
            activity: _,
            log: _,
        } = self;
        *selectors = Selectors::default();
        lines.reset();
    }

    fn read_structure(&mut self, structure: Structure, offset: u64, out: &mut [u8]) {
        match structure {
            Structure::CommonConfig => self.read_common_config(offset, out),
            Structure::Isr => out.fill(self.lines.take_isr()),
            Structure::DeviceConfig => self.endpoint.read_config(offset, out),
            // Doorbells are to be written; they read as zeros.
            Structure::Notify => {}
        }
    }

    fn write_structure(&mut self, structure: Structure, offset: u64, data: &[u8]) {
        match structure {
            Structure::CommonConfig => self.write_common_config(offset, data),
            Structure::Isr => self.warn("ignored: write to the ISR"),
            Structure::DeviceConfig => self.endpoint.write_config(offset, data),
            Structure::Notify => self.ring(offset, data),
        }
    }

    fn read_common_config(&mut self, offset: u64, out: &mut [u8]) {
        match Register::readable(offset, out.len()) {
            Some(register) => {
                let value = self.read_register(register).to_le_bytes();
                out.iter_mut().zip(value).for_each(|(out, byte)| *out = byte);
            }
            None => self.warn("ignored: common configuration read with a wrong offset or width"),
        }
    }

    fn write_common_config(&mut self, offset: u64, data: &[u8]) {
        match Register::writable(offset, data.len()) {
            Some(register) => self.write_register(register, little_endian(data)),
            None => self.warn("ignored: common configuration written with a wrong offset or width"),
        }
    }

    /// A notification: the queue's number in the width negotiated, at the address of that queue (virtio 1.3 §4.1.5.2).
    fn ring(&mut self, offset: u64, data: &[u8]) {
        let word = little_endian(data) as u32;
        let right = data.len() == self.notification_len() && Layout::queue_of(offset) == Some(word as u16);
        if right {
            self.endpoint.notify(word);
        } else {
            self.warn("ignored: notification of a wrong width, or of another queue than its address says");
        }
    }

    /// virtio 1.3 §4.1.5.2: 16 bits, or 32 with NOTIFICATION_DATA.
    fn notification_len(&self) -> usize {
        if self.endpoint.negotiated().contains(Features::NOTIFICATION_DATA) { 4 } else { 2 }
    }

    /// Says in the log, sparingly, what the driver did.
    pub(crate) fn warn(&self, what: &str) {
        if let Some(suppressed) = self.log.admit() {
            tracing::warn!(device = self.endpoint.info().name, suppressed, "{what}");
        }
    }
}

impl<B: Backend> PciFunction for VirtioPci<B> {
    fn spec(&self) -> FunctionSpec {
        let device_type = self.endpoint.info().device_type;
        // `new` has checked that the type has an id.
        let device_id = MODERN_DEVICE_ID.saturating_add(u16::try_from(device_type).unwrap_or(u16::MAX));
        let spec = FunctionSpec::new(VENDOR_ID, device_id, class(device_type))
            .with_revision(REVISION)
            .with_subsystem(VENDOR_ID, SUBSYSTEM_ID)
            .with_interrupt_pin(InterruptPin::A)
            .with_bar(self.layout.bar())
            .with_msix(self.layout.msix());
        self.layout.capabilities().into_iter().fold(spec, FunctionSpec::with_capability)
    }

    fn attach(&mut self, host: FunctionHost) {
        self.lines.attach(host.interrupts().clone());
    }

    fn bar_read(&mut self, bar: u8, offset: u64, out: &mut [u8]) {
        out.fill(0);
        match self.layout.find(offset, out.len()) {
            Some((structure, offset)) if bar == BAR => self.read_structure(structure, offset, out),
            _ => self.warn("ignored: read of no structure"),
        }
    }

    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) {
        match self.layout.find(offset, data.len()) {
            Some((structure, offset)) if bar == BAR => self.write_structure(structure, offset, data),
            _ => self.warn("ignored: write to no structure"),
        }
    }

    fn reset(&mut self) {
        self.endpoint.reset();
        self.reset_transport();
        self.bus_master_changed(BusMaster::Disabled);
    }

    fn bus_master_changed(&mut self, to: BusMaster) {
        self.bus_master = to;
        self.apply_activity();
    }

    fn capability_read(&mut self, touch: CapabilityTouch<'_>) -> CapabilityAction {
        configuration_action(touch)
    }

    fn capability_write(&mut self, touch: CapabilityTouch<'_>) -> CapabilityAction {
        configuration_action(touch)
    }

    fn is_saveable(&self) -> bool {
        true
    }

    fn save(&mut self) -> Result<Vec<u8>, StateError> {
        self.save_all()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        self.restore_all(state)
    }
}

impl<B: Backend> DmaFunction for VirtioPci<B> {
    fn pause(&mut self) {
        self.pause();
    }

    fn replace_memory(&mut self, memory: Arc<dyn Memory>) {
        self.endpoint.replace_memory(memory);
    }

    fn resume(&mut self) {
        self.resume();
    }

    /// The rings of the queues that are enabled.
    fn standing_addresses(&self) -> Vec<IoAddr> {
        let enabled = (0..self.endpoint.queue_count()).filter(|q| self.endpoint.queue_enabled(*q));
        let areas = |q| {
            [Area::Descriptor, Area::Driver, Area::Device]
                .map(|area| IoAddr(self.endpoint.queue_address(q, area)))
        };
        enabled.flat_map(areas).collect()
    }
}

/// What a function does about an access to one of its virtio capabilities. virtio 1.3 §4.1.4.9.1: an access to `pci_cfg_data` is one to what the capability's other fields say.
#[must_use]
pub fn configuration_action(touch: CapabilityTouch<'_>) -> CapabilityAction {
    let window = configuration_window(touch.bytes);
    let data = cap::PCI_CFG_DATA..usize::from(cap::PCI_CFG_SIZE);
    window.filter(|_| touch.touches(data)).map_or(CapabilityAction::None, CapabilityAction::Bar)
}

fn check(info: &DeviceInfo) -> Result<(), SetupError> {
    let last = u32::from(LAST_DEVICE_ID - MODERN_DEVICE_ID);
    if !(1..=last).contains(&info.device_type) {
        return Err(SetupError::DeviceType { device_type: info.device_type });
    }
    if info.config_len as u64 > PAGE {
        return Err(SetupError::ConfigLen { len: info.config_len, max: PAGE });
    }
    let queues = info.queue_sizes.len();
    if queues > usize::from(MAX_QUEUES) {
        return Err(SetupError::QueueCount { queues, max: MAX_QUEUES });
    }
    let presentable = |size: u16| size == 0 || size.is_power_of_two() && size <= ring::MAX_QUEUE_SIZE;
    let odd = info.queue_sizes.iter().copied().enumerate().find(|(_, size)| !presentable(*size));
    odd.map_or(Ok(()), |(queue, size)| Err(SetupError::QueueSize { queue, size }))
}

/// The PCI class by which operating systems list a device; drivers go by the id (virtio 1.3 §4.1.2).
fn class(device_type: u32) -> u32 {
    match device_type {
        device_type::NET => 0x02_0000,
        device_type::BLOCK | device_type::FS => 0x01_8000,
        device_type::SCSI => 0x01_0000,
        device_type::CONSOLE | device_type::VSOCK => 0x07_8000,
        _ => 0xff_0000,
    }
}

/// At most 8 bytes as a number; what is beyond them belongs to no field.
fn little_endian(data: &[u8]) -> u64 {
    data.iter().take(8).rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}
