//! The driver of consoles (virtio 1.3 §5.3) with one port.

use crate::config;
use crate::device::{Device, Reset, Running, Wanted};
use crate::dma::Dma;
use crate::error::{InitError, RequestError};
use crate::request_queue::{Events, Options, RequestQueue, SlotShape, Taken, Ticket, Wait};
use crate::transport::{Transport, TransportError};
use alloc::collections::VecDeque;
use vioduct_spec::console::{self, EMERG_WR, EMERG_WRITE, RECEIVE_QUEUE, SIZE, TRANSMIT_QUEUE};
use vioduct_spec::{Features, device_type};

/// Bytes of output in one buffer at most. [`Console::write`] sends as many buffers as it takes.
pub const TRANSFER_LEN: usize = 4096;
/// Bytes of input in one buffer.
pub const RECEIVE_LEN: usize = 256;
/// Buffers that wait for input, at most.
const RECEIVE_BUFFERS: usize = 8;
const RECEIVED: SlotShape = SlotShape { readable_len: 0, writable_len: RECEIVE_LEN as u32 };
const TRANSMITTED: SlotShape = SlotShape { readable_len: TRANSFER_LEN as u32, writable_len: 0 };

/// A running console. Dropped, it resets the device.
#[derive(Debug)]
pub struct Console<T: Transport, D: Dma> {
    device: Device<T, Running>,
    receive: RequestQueue<D>,
    transmit: RequestQueue<D>,
    /// Buffers for input, in the order in which the device has got them.
    posted: VecDeque<Ticket>,
    /// Input of a buffer that was taken back, and which part of it nobody has read yet.
    chunk: [u8; RECEIVE_LEN],
    unread: core::ops::Range<usize>,
    dma: D,
}

/// The size of a console, in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// In a line.
    pub cols: u16,
    /// Lines.
    pub rows: u16,
}

impl<T: Transport, D: Dma + Clone> Console<T, D> {
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
        let wanted =
            Wanted { required: Features::NONE, optional: options.features | SIZE | console::EMERG_WRITE };
        let mut device = device.negotiate(device_type::CONSOLE, wanted)?;
        let receive = RequestQueue::set_up(&mut device, RECEIVE_QUEUE, RECEIVED, options, &dma)?;
        let transmit = RequestQueue::set_up(&mut device, TRANSMIT_QUEUE, TRANSMITTED, options, &dma)?;
        let device = device.driver_ok()?;
        let (posted, chunk, unread) = (VecDeque::new(), [0; RECEIVE_LEN], 0..0);
        Ok(Self { device, receive, transmit, posted, chunk, unread, dma })
    }

    /// Resets the device and starts over: input that was not read is lost.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn restart(self, options: &Options) -> Result<Self, InitError> {
        let Self { device, receive, transmit, posted: _, chunk: _, unread: _, dma } = self;
        let device = device.reset()?;
        drop((receive, transmit));
        Self::start(device, dma, options)
    }

    /// Writes all of `data`.
    ///
    /// # Errors
    /// [`RequestError::GaveUp`] if `wait` breaks off; some of it may then be on its way.
    pub fn write(&mut self, data: &[u8], wait: Wait<'_>) -> Result<(), RequestError> {
        for part in data.chunks(TRANSFER_LEN) {
            self.transmit.call(&mut self.device, part, &mut [], wait)?;
        }
        Ok(())
    }

    /// Reads what has come, at most `out.len()` bytes, and says how much that is: 0 if nothing has. It never waits; the device gets
    /// buffers for input from the first call on.
    ///
    /// # Errors
    /// [`RequestError::Queue`] from a device that broke the queue's rules.
    pub fn try_read(&mut self, out: &mut [u8]) -> Result<usize, RequestError> {
        self.receive.poll()?;
        let mut count = 0;
        while let Some(room) = out.get_mut(count..).filter(|room| !room.is_empty()) {
            if self.unread.is_empty() && self.take_chunk()? == Chunk::Pending {
                break;
            }
            let here = self.chunk.get(self.unread.clone()).unwrap_or_default();
            room.iter_mut().zip(here).for_each(|(to, from)| *to = *from);
            let len = room.len().min(here.len());
            self.unread.start += len;
            count += len;
        }
        self.post()?;
        Ok(count)
    }

    /// Takes the oldest buffer back, if the device has used it.
    fn take_chunk(&mut self) -> Result<Chunk, RequestError> {
        let Some(ticket) = self.posted.pop_front() else { return Ok(Chunk::Pending) };
        match self.receive.take(ticket, &mut self.chunk)? {
            Taken::Pending(ticket) => {
                self.posted.push_front(ticket);
                Ok(Chunk::Pending)
            }
            // Row 76: no more than the buffer has is ever said to be written.
            Taken::Done(written) => {
                self.unread = 0..(written as usize).min(RECEIVE_LEN);
                Ok(Chunk::Taken)
            }
        }
    }

    /// Gives the device as many buffers for input as it is to have.
    fn post(&mut self) -> Result<(), RequestError> {
        let before = self.posted.len();
        while self.posted.len() < RECEIVE_BUFFERS {
            match self.receive.submit(&[], RECEIVE_LEN as u32) {
                Ok(ticket) => self.posted.push_back(ticket),
                Err(RequestError::Full) => break,
                Err(error) => return Err(error),
            }
        }
        if self.posted.len() > before { self.receive.kick(&mut self.device) } else { Ok(()) }
    }

    /// The size, if the device tells it. It may change: see [`service`](Self::service).
    ///
    /// # Errors
    /// [`RequestError::Transport`] from a device whose configuration keeps changing.
    pub fn size(&mut self) -> Result<Option<Size>, RequestError> {
        if !self.device.negotiated().contains(SIZE) {
            return Ok(None);
        }
        let field = |transport: &mut T, at: usize| -> Result<u16, TransportError> {
            let mut bytes = [0; 2];
            transport.read_config_field(at as u64, &mut bytes)?;
            Ok(u16::from_le_bytes(bytes))
        };
        let size = config::stable(self.device.transport(), |transport| {
            Ok(Size { cols: field(transport, console::COLS)?, rows: field(transport, console::ROWS)? })
        })?;
        Ok(Some(size))
    }

    /// Writes one character without queues (virtio 1.3 §5.3.4): for a driver in distress.
    ///
    /// # Errors
    /// [`RequestError::Refused`] by a device that has no such thing.
    pub fn write_in_emergency(&mut self, character: u8) -> Result<(), RequestError> {
        if !self.device.negotiated().contains(EMERG_WRITE) {
            return Err(RequestError::Refused);
        }
        let word = u32::from(character).to_le_bytes();
        Ok(self.device.transport().write_config_field(EMERG_WR as u64, &word)?)
    }

    /// Handles an interrupt: collects input, and buffers of output, and says whether the size may have changed.
    ///
    /// # Errors
    /// [`RequestError::NeedsReset`] and the like.
    pub fn service(&mut self) -> Result<Events, RequestError> {
        let interrupts = self.device.interrupts()?;
        let completed = if interrupts.queue { self.receive.drain()? + self.transmit.drain()? } else { 0 };
        Ok(Events { completed, config_changed: interrupts.config })
    }

    /// The device, for its transport and its health.
    pub const fn device(&mut self) -> &mut Device<T, Running> {
        &mut self.device
    }

    /// The queue of input, for its waker.
    pub const fn receive_queue(&mut self) -> &mut RequestQueue<D> {
        &mut self.receive
    }
}

/// Whether there was a buffer to take back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Chunk {
    Taken,
    Pending,
}

#[cfg(test)]
mod tests;
