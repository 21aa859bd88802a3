//! `virtio-demo`: one stored `u32`, read and written by requests over a virtqueue, and shown in the configuration space.

#![deny(clippy::indexing_slicing)]
#![deny(clippy::panic)]

mod handler;
mod request;
#[cfg(test)]
mod tests;

use handler::Server;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use vioduct_spec::{demo, device_type};
use vioduct_virtio_device::{DeviceInfo, DeviceModel, Features, Handlers, OptionError, Options, StateError};

/// The device: its value.
#[derive(Debug)]
pub struct VirtioDemo {
    device_type: u32,
    value: Arc<AtomicU32>,
}

impl VirtioDemo {
    /// The device that `virtio-demo[,id=NUMBER]` describes. `id` is the device type, 1 to 63: 63 unless given, and another
    /// for hosts that take only types they have a name for.
    ///
    /// # Errors
    /// If there is another option, or `id` is none of these.
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        options.accept(&["id"])?;
        let device_type = options.number_in("id", 1..=63)?.unwrap_or(device_type::DEMO);
        Ok(Self { device_type, ..Self::default() })
    }

    /// The stored value.
    pub fn value(&self) -> u32 {
        self.value.load(Ordering::Acquire)
    }
}

impl Default for VirtioDemo {
    fn default() -> Self {
        Self { device_type: device_type::DEMO, value: Arc::new(AtomicU32::new(demo::INITIAL_VALUE)) }
    }
}

impl DeviceModel for VirtioDemo {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            config_len: demo::CONFIG_LEN,
            ..DeviceInfo::new(self.device_type, "virtio-demo", vec![demo::QUEUE_SIZE])
        }
    }

    fn read_config(&self, offset: usize, out: &mut [u8]) {
        let value = self.value().to_le_bytes();
        out.iter_mut().zip(value.iter().skip(offset)).for_each(|(to, from)| *to = *from);
    }

    fn handlers(&mut self, _negotiated: Features) -> Handlers {
        vec![(0..1, Box::new(Server { value: self.value.clone() }))]
    }

    fn reset(&mut self) {
        let Self { device_type: _, value } = self;
        value.store(demo::INITIAL_VALUE, Ordering::Release);
    }

    /// The value, little-endian.
    fn save(&self) -> Vec<u8> {
        let Self { device_type: _, value } = self;
        value.load(Ordering::Acquire).to_le_bytes().to_vec()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        let bytes = state.try_into().map_err(|_| {
            StateError(format!("it is 4 bytes, not {}: use one of a virtio-demo", state.len()).into())
        })?;
        self.value.store(u32::from_le_bytes(bytes), Ordering::Release);
        Ok(())
    }
}
