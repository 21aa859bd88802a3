//! What the common configuration structure does when it is read and written (virtio 1.3 §4.1.4.3).

use vioduct_spec::Features;
use vioduct_spec::pci::NO_VECTOR;
use vioduct_state::{LoadError, Reader, Writer};
use vioduct_virtio_device::{Area, Backend, Half};
use vioduct_virtqueue::{RingFormat, is_valid_size};

use crate::VirtioPci;
use crate::registers::Register;

/// What the driver has selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Selectors {
    pub(crate) device_features: u32,
    pub(crate) driver_features: u32,
    pub(crate) queue: u16,
}

/// The configuration generation in 8 bits. However often the endpoint's advances between two reads, the driver's differs
/// by one, so that it never wraps to what the driver has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Generation {
    of_endpoint: u32,
    shown: u8,
}

impl Generation {
    pub(crate) fn write(self, writer: &mut Writer) {
        let Self { of_endpoint, shown } = self;
        writer.u32(of_endpoint);
        writer.u8(shown);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, LoadError> {
        Ok(Self { of_endpoint: reader.u32()?, shown: reader.u8()? })
    }

    fn show(&mut self, of_endpoint: u32) -> u8 {
        if self.of_endpoint != of_endpoint {
            *self = Self { of_endpoint, shown: self.shown.wrapping_add(1) };
        }
        self.shown
    }
}

impl<B: Backend> VirtioPci<B> {
    /// Registers of a queue that does not exist read as 0, and as NO_VECTOR; writes to them are ignored.
    pub(crate) fn read_register(&mut self, register: Register) -> u64 {
        let Self { endpoint, selectors, generation, lines, .. } = self;
        let q = selectors.queue;
        match register {
            Register::DeviceFeatureSelect => selectors.device_features.into(),
            Register::DeviceFeature => endpoint.offered().word(selectors.device_features).into(),
            Register::DriverFeatureSelect => selectors.driver_features.into(),
            Register::DriverFeature => endpoint.driver_features().word(selectors.driver_features).into(),
            Register::ConfigVector => lines.config_vector().into(),
            Register::NumQueues => endpoint.queue_count().into(),
            Register::DeviceStatus => endpoint.status().0.into(),
            Register::ConfigGeneration => generation.show(endpoint.generation()).into(),
            Register::QueueSelect => q.into(),
            Register::QueueSize => endpoint.queue_size(q).into(),
            Register::QueueVector => lines.queue_vector(q).into(),
            Register::QueueEnable => endpoint.queue_enabled(q).into(),
            Register::QueueNotifyOff => self.existing_queue().into(),
            Register::QueueAddress(area) => endpoint.queue_address(q, area),
            Register::QueueAddressHalf(area, Half::Low) => endpoint.queue_address(q, area) & 0xffff_ffff,
            Register::QueueAddressHalf(area, Half::High) => endpoint.queue_address(q, area) >> 32,
            Register::QueueNotifConfigData => self.notif_config_data().into(),
            Register::QueueReset => endpoint.queue_resetting(q).into(),
            // There is no administration virtqueue.
            Register::AdminQueueIndex | Register::AdminQueueNum => 0,
        }
    }

    /// `value` is no wider than the register.
    pub(crate) fn write_register(&mut self, register: Register, value: u64) {
        let Self { endpoint, selectors, lines, .. } = self;
        let q = selectors.queue;
        match register {
            Register::DeviceFeatureSelect => selectors.device_features = value as u32,
            Register::DriverFeatureSelect => selectors.driver_features = value as u32,
            Register::DriverFeature => endpoint.set_driver_features(selectors.driver_features, value as u32),
            Register::ConfigVector => lines.map_config(value as u16),
            Register::DeviceStatus => self.write_status(value as u8),
            Register::QueueSelect => selectors.queue = value as u16,
            Register::QueueSize => self.write_queue_size(q, value as u16),
            Register::QueueVector => lines.map_queue(q, value as u16),
            Register::QueueEnable => self.write_queue_enable(q, value),
            Register::QueueAddress(area) => self.write_queue_address(q, area, value),
            Register::QueueAddressHalf(area, half) => {
                endpoint.set_queue_address(q, area, half, value as u32);
            }
            Register::QueueReset => self.write_queue_reset(q, value),
            Register::DeviceFeature
            | Register::NumQueues
            | Register::ConfigGeneration
            | Register::QueueNotifyOff
            | Register::QueueNotifConfigData
            | Register::AdminQueueIndex
            | Register::AdminQueueNum => {}
        }
    }

    /// The selected queue's number, by which its doorbell is found too; 0 if there is no such queue.
    fn existing_queue(&self) -> u16 {
        let q = self.selectors.queue;
        if q < self.endpoint.queue_count() { q } else { 0 }
    }

    /// virtio 1.3 §4.1.4.3: what notifications call the queue, with NOTIF_CONFIG_DATA. Its number does.
    fn notif_config_data(&self) -> u16 {
        let negotiated = self.endpoint.negotiated().contains(Features::NOTIF_CONFIG_DATA);
        if negotiated { self.existing_queue() } else { 0 }
    }

    /// virtio 1.3 §4.1.4.3.1: what `queue_size` presents is a power of two, unless rings are packed; so nothing else is let
    /// in.
    fn write_queue_size(&mut self, q: u16, size: u16) {
        let format = RingFormat::of(self.endpoint.negotiated());
        if is_valid_size(format, size) && size <= self.endpoint.queue_size_max(q) {
            self.endpoint.set_queue_size(q, size);
        } else {
            self.warn("ignored: invalid size of a queue, or size of a queue not there");
        }
    }

    /// virtio 1.3 §4.1.4.3.2: a driver must not write 0; only a reset disables a queue.
    fn write_queue_enable(&mut self, q: u16, value: u64) {
        match value {
            1 => self.endpoint.enable_queue(q),
            _ => self.warn("ignored: queue_enable written with other than 1"),
        }
    }

    fn write_queue_address(&mut self, q: u16, area: Area, address: u64) {
        self.endpoint.set_queue_address(q, area, Half::Low, address as u32);
        self.endpoint.set_queue_address(q, area, Half::High, (address >> 32) as u32);
    }

    /// virtio 1.3 §2.6.1: all of the queue's state returns to its default, of which the vector is a part.
    fn write_queue_reset(&mut self, q: u16, value: u64) {
        let was_enabled = self.endpoint.queue_enabled(q) || self.endpoint.queue_resetting(q);
        match value {
            1 => self.endpoint.reset_queue(q),
            _ => self.warn("ignored: queue_reset written with other than 1"),
        }
        let is_enabled = self.endpoint.queue_enabled(q) || self.endpoint.queue_resetting(q);
        if was_enabled && !is_enabled {
            self.lines.map_queue(q, NO_VECTOR);
        }
    }
}
