//! The driver of the entropy device (virtio 1.3 §5.4): buffers that the device fills with random bytes.

use crate::device::{Device, Reset, Running, Wanted};
use crate::dma::Dma;
use crate::error::{InitError, RequestError};
use crate::request_queue::{Events, Options, RequestQueue, SlotShape, Wait};
use crate::transport::Transport;
use vioduct_spec::{Features, device_type};

const QUEUE: u16 = 0;
/// Bytes asked for at once.
pub const CHUNK_LEN: usize = 256;
const SHAPE: SlotShape = SlotShape { readable_len: 0, writable_len: CHUNK_LEN as u32 };

/// A running entropy device. Dropped, it resets the device.
#[derive(Debug)]
pub struct Entropy<T: Transport, D: Dma> {
    device: Device<T, Running>,
    queue: RequestQueue<D>,
    dma: D,
}

impl<T: Transport, D: Dma + Clone> Entropy<T, D> {
    /// Takes a device from whatever state it is in to running.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn new(transport: T, dma: D, options: &Options) -> Result<Self, InitError> {
        Self::start(Device::new(transport)?, dma, options)
    }

    /// The same from a device that has been reset.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn start(device: Device<T, Reset>, dma: D, options: &Options) -> Result<Self, InitError> {
        let wanted = Wanted { required: Features::NONE, optional: options.features };
        let mut device = device.negotiate(device_type::ENTROPY, wanted)?;
        let queue = RequestQueue::set_up(&mut device, QUEUE, SHAPE, options, &dma)?;
        Ok(Self { device: device.driver_ok()?, queue, dma })
    }

    /// Resets the device and starts over.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn restart(self, options: &Options) -> Result<Self, InitError> {
        let Self { device, queue, dma } = self;
        let device = device.reset()?;
        drop(queue);
        Self::start(device, dma, options)
    }

    /// Fills `out` with random bytes, by as many requests as it takes: a device may fill less than it was given
    /// (virtio 1.3 §5.4.6.1).
    ///
    /// # Errors
    /// [`RequestError::ShortReply`] if the device gives none at all, though it must give one byte or more (virtio 1.3 §5.4.6.2);
    /// `out` may then be partly filled.
    pub fn fill(&mut self, mut out: &mut [u8], wait: Wait<'_>) -> Result<(), RequestError> {
        while !out.is_empty() {
            let len = out.len().min(CHUNK_LEN);
            let chunk = out.get_mut(..len).unwrap_or_default();
            let written = self.queue.call(&mut self.device, &[], chunk, wait)?;
            if written == 0 {
                return Err(RequestError::ShortReply { written, wanted: 1 });
            }
            out = out.get_mut(written as usize..).unwrap_or_default();
        }
        Ok(())
    }

    /// Handles an interrupt.
    ///
    /// # Errors
    /// [`RequestError::NeedsReset`] and the like.
    pub fn service(&mut self) -> Result<Events, RequestError> {
        self.queue.service(&mut self.device)
    }

    /// The device, for its transport and its health.
    pub const fn device(&mut self) -> &mut Device<T, Running> {
        &mut self.device
    }

    /// The queue, for its waker, its size and a reset of it.
    pub const fn queue(&mut self) -> &mut RequestQueue<D> {
        &mut self.queue
    }
}
