//! [`Mmio`]: the window itself.

mod saved;

use crate::interrupts::{InterruptLine, Interrupts};
use crate::registers::{Access, Register};
use std::sync::Arc;
use vioduct_spec::{Features, mmio};
use vioduct_virtio_device::{Backend, Endpoint, StatusWrite};
use vioduct_virtqueue::Memory;

/// The vendor of this project's windows: "Viod" in little-endian ASCII. Drivers look at the device type instead.
pub const VENDOR_ID: u32 = u32::from_le_bytes(*b"Viod");

/// Queue number that no device has: for selectors beyond 16 bits.
const NO_QUEUE: u16 = u16::MAX;

/// A virtio device behind a register window of [`WINDOW_LEN`](mmio::WINDOW_LEN) bytes.
pub struct Mmio<B> {
    endpoint: Endpoint<B>,
    interrupts: Arc<Interrupts>,
    selected: Selectors,
}

/// What the driver has selected.
#[derive(Clone, Copy, Default)]
struct Selectors {
    device_features: u32,
    driver_features: u32,
    queue: u16,
}

impl<B: Backend> Mmio<B> {
    /// What this transport implements, of the features that need one.
    pub const FEATURES: Features = Features::RING_RESET.with(Features::NOTIFICATION_DATA);

    /// A window onto the device that `backend` serves, whose rings and buffers lie in `memory`, and which interrupts on `line`.
    pub fn new(backend: B, memory: Arc<dyn Memory>, line: Box<dyn InterruptLine>) -> Self {
        Self::offering(Self::FEATURES, backend, memory, line)
    }

    /// The same for a machine that takes notifications by their value (ioeventfd): without NOTIFICATION_DATA, with which the value
    /// written is another every time.
    pub fn with_matched_notifications(
        backend: B,
        memory: Arc<dyn Memory>,
        line: Box<dyn InterruptLine>,
    ) -> Self {
        Self::offering(Self::FEATURES.without(Features::NOTIFICATION_DATA), backend, memory, line)
    }

    fn offering(
        features: Features,
        backend: B,
        memory: Arc<dyn Memory>,
        line: Box<dyn InterruptLine>,
    ) -> Self {
        let interrupts = Arc::new(Interrupts::new(line));
        let endpoint = Endpoint::new(backend, memory, interrupts.clone(), features);
        Self { endpoint, interrupts, selected: Selectors::default() }
    }

    /// The device.
    pub fn endpoint(&self) -> &Endpoint<B> {
        &self.endpoint
    }

    /// The device, for what a machine does with it: pause, save, kick and call eventfds.
    pub fn endpoint_mut(&mut self) -> &mut Endpoint<B> {
        &mut self.endpoint
    }

    /// The driver reads `out.len()` bytes at `offset` of the window. An access to a register that is not 4 bytes, aligned, and
    /// one to the configuration space that is not 1, 2, 4 or 8 bytes, reads as zeros (virtio 1.3 §4.2.2.2 forbids them).
    pub fn read(&mut self, offset: u64, out: &mut [u8]) {
        match Access::decode(offset, out.len()) {
            Access::Register(register) => out.copy_from_slice(&self.read_register(register).to_le_bytes()),
            Access::Config(at) => self.endpoint.read_config(at, out),
            Access::Invalid => out.fill(0),
        }
    }

    /// The driver writes `data` at `offset` of the window. Accesses that would read as zeros for their width or alignment are
    /// ignored.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        match (Access::decode(offset, data.len()), <[u8; 4]>::try_from(data)) {
            (Access::Register(register), Ok(word)) => self.write_register(register, u32::from_le_bytes(word)),
            (Access::Config(at), _) => self.endpoint.write_config(at, data),
            _ => tracing::trace!(offset, len = data.len(), "ignored a write of no register"),
        }
    }

    fn read_register(&self, register: Register) -> u32 {
        let Self { endpoint, interrupts, selected } = self;
        match register {
            Register::Magic => mmio::MAGIC,
            Register::Version => mmio::VERSION,
            Register::DeviceType => endpoint.info().device_type,
            Register::Vendor => VENDOR_ID,
            Register::DeviceFeatures => endpoint.offered().word(selected.device_features),
            Register::QueueSizeMax => endpoint.queue_size_max(selected.queue).into(),
            Register::QueueReady => endpoint.queue_enabled(selected.queue).into(),
            Register::QueueReset => endpoint.queue_resetting(selected.queue).into(),
            Register::InterruptStatus => interrupts.status().into(),
            Register::Status => endpoint.status().0.into(),
            // virtio 1.3 §4.2.2: the length of a region that does not exist is -1. No device here has one.
            Register::SharedMemory => u32::MAX,
            Register::ConfigGeneration => endpoint.generation(),
            Register::DeviceFeaturesSelect
            | Register::DriverFeatures
            | Register::DriverFeaturesSelect
            | Register::QueueSelect
            | Register::QueueSize
            | Register::QueueNotify
            | Register::QueueAddress(..)
            | Register::InterruptAck
            | Register::Nothing => 0,
        }
    }

    fn write_register(&mut self, register: Register, value: u32) {
        let Self { endpoint, interrupts, selected } = self;
        let queue = selected.queue;
        match register {
            Register::DeviceFeaturesSelect => selected.device_features = value,
            Register::DriverFeaturesSelect => selected.driver_features = value,
            Register::DriverFeatures => endpoint.set_driver_features(selected.driver_features, value),
            Register::QueueSelect => selected.queue = u16::try_from(value).unwrap_or(NO_QUEUE),
            // Above 16 bits no size is valid, and 0 is not either.
            Register::QueueSize => endpoint.set_queue_size(queue, u16::try_from(value).unwrap_or(0)),
            Register::QueueAddress(area, half) => endpoint.set_queue_address(queue, area, half, value),
            Register::QueueReady if value == 1 => endpoint.enable_queue(queue),
            Register::QueueReady if value == 0 => endpoint.disable_queue(queue),
            Register::QueueReset if value == 1 => endpoint.reset_queue(queue),
            Register::QueueNotify => endpoint.notify(value),
            Register::InterruptAck => interrupts.acknowledge(value as u8),
            Register::Status => self.write_status(value),
            Register::QueueReady
            | Register::QueueReset
            | Register::Magic
            | Register::Version
            | Register::DeviceType
            | Register::Vendor
            | Register::DeviceFeatures
            | Register::QueueSizeMax
            | Register::InterruptStatus
            | Register::SharedMemory
            | Register::ConfigGeneration
            | Register::Nothing => {}
        }
    }

    /// The status field has 8 bits; more are no status, and above all not zero.
    fn write_status(&mut self, value: u32) {
        let Ok(value) = u8::try_from(value) else { return };
        if self.endpoint.write_status(value) == StatusWrite::Reset {
            // virtio 1.3 §4.2.2.1: upon reset, the device must clear all bits in InterruptStatus.
            self.interrupts.acknowledge(u8::MAX);
            self.selected = Selectors::default();
        }
    }
}
