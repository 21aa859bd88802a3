//! The virtio entropy device (virtio 1.3 §5.4): fills device-writable buffers with random bytes.

#![deny(clippy::indexing_slicing)]
#![deny(clippy::panic)]

mod handler;
#[cfg(test)]
mod tests;

pub use handler::MAX_REQUEST_BYTES;

use handler::{Filler, PIECE_BYTES};
use vioduct_spec::device_type;
use vioduct_virtio_device::{DeviceInfo, DeviceModel, Features, Handlers, OptionError, Options};

/// An entropy source: the system's.
#[derive(Debug, Default)]
pub struct Entropy;

impl Entropy {
    /// Largest size of the one virtqueue, in descriptors.
    pub const QUEUE_SIZE: u16 = 256;

    /// The device that `entropy` describes; it has no options.
    ///
    /// # Errors
    /// If an option is given.
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        options.accept(&[])?;
        Ok(Self)
    }
}

impl DeviceModel for Entropy {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::new(device_type::ENTROPY, "entropy", vec![Self::QUEUE_SIZE])
    }

    fn handlers(&mut self, _negotiated: Features) -> Handlers {
        vec![(0..1, Box::new(Filler { piece: [0; PIECE_BYTES] }))]
    }
}
