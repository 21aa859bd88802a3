//! The driver of `virtio-demo`: one stored `u32`, read and written by requests.

use crate::config;
use crate::device::{Device, Reset, Running, Wanted};
use crate::dma::Dma;
use crate::error::{InitError, RequestError};
use crate::request_queue::{Events, Options, RequestQueue, SlotShape, Taken, Ticket, Wait};
use crate::transport::Transport;
use vioduct_spec::{Features, demo, device_type};

const QUEUE: u16 = 0;
const SHAPE: SlotShape =
    SlotShape { readable_len: demo::HALF_LEN as u32, writable_len: demo::HALF_LEN as u32 };

/// A running `virtio-demo` device. Dropped, it resets the device.
#[derive(Debug)]
pub struct Demo<T: Transport, D: Dma> {
    device: Device<T, Running>,
    queue: RequestQueue<D>,
    dma: D,
}

/// What one request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// The stored value.
    Read,
    /// Store this value.
    Write(u32),
    /// Any opcode and operand, known to the device or not.
    Raw {
        /// Opcode.
        opcode: u32,
        /// Operand.
        operand: u32,
    },
}

impl Request {
    fn encode(self) -> [u8; demo::HALF_LEN] {
        let (opcode, operand) = match self {
            Self::Read => (demo::OP_READ, 0),
            Self::Write(value) => (demo::OP_WRITE, value),
            Self::Raw { opcode, operand } => (opcode, operand),
        };
        (u64::from(opcode) | u64::from(operand) << 32).to_le_bytes()
    }
}

/// The operand of a reply, unless the device did not know the request.
fn decode(reply: [u8; demo::HALF_LEN]) -> Result<u32, RequestError> {
    let both = u64::from_le_bytes(reply);
    if both as u32 == demo::OP_INVALID {
        return Err(RequestError::Refused);
    }
    Ok((both >> 32) as u32)
}

impl<T: Transport, D: Dma + Clone> Demo<T, D> {
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
        let mut device = device.negotiate(device_type::DEMO, wanted)?;
        let queue = RequestQueue::set_up(&mut device, QUEUE, SHAPE, options, &dma)?;
        Ok(Self { device: device.driver_ok()?, queue, dma })
    }

    /// Resets the device and starts over: all that was in flight is lost.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn restart(self, options: &Options) -> Result<Self, InitError> {
        let Self { device, queue, dma } = self;
        let device = device.reset()?;
        drop(queue);
        Self::start(device, dma, options)
    }

    /// Reads the stored value.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn read(&mut self, wait: Wait<'_>) -> Result<u32, RequestError> {
        self.call(Request::Read, wait)
    }

    /// Stores a value, and returns what the device says it stored.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn write(&mut self, value: u32, wait: Wait<'_>) -> Result<u32, RequestError> {
        self.call(Request::Write(value), wait)
    }

    /// Sends one request, waits, and returns the reply's operand.
    ///
    /// # Errors
    /// [`RequestError`]; [`RequestError::Refused`] for an unknown opcode.
    pub fn call(&mut self, request: Request, wait: Wait<'_>) -> Result<u32, RequestError> {
        decode(self.queue.call_exact(&mut self.device, &request.encode(), wait)?)
    }

    /// Adds a request to the batch that the next [`kick`](Self::kick) shows the device.
    ///
    /// # Errors
    /// [`RequestError::Full`] and that the queue is broken.
    pub fn submit(&mut self, request: Request) -> Result<Ticket, RequestError> {
        self.queue.submit(&request.encode(), SHAPE.writable_len)
    }

    /// Shows the device the batch.
    ///
    /// # Errors
    /// Of the transport.
    pub fn kick(&mut self) -> Result<(), RequestError> {
        self.queue.kick(&mut self.device)
    }

    /// Collects answers, and says how many there were.
    ///
    /// # Errors
    /// [`RequestError::Queue`] from a device that broke the queue's rules.
    pub fn poll(&mut self) -> Result<u16, RequestError> {
        self.queue.poll()
    }

    /// The operand of the reply to a request, if it has come.
    ///
    /// # Errors
    /// [`RequestError::ShortReply`], [`RequestError::Refused`], [`RequestError::StaleTicket`].
    pub fn take(&mut self, ticket: Ticket) -> Result<Taken<u32>, RequestError> {
        match self.queue.take_reply(ticket)? {
            Taken::Done(reply) => decode(reply).map(Taken::Done),
            Taken::Pending(ticket) => Ok(Taken::Pending(ticket)),
        }
    }

    /// The current value as the configuration shows it.
    ///
    /// # Errors
    /// Of the transport.
    pub fn config_value(&mut self) -> Result<u32, RequestError> {
        Ok(config::read_u32(self.device.transport(), 0)?)
    }

    /// Handles an interrupt: collects answers, and says whether the configuration may have changed.
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

    /// Resets the queue alone, where `RING_RESET` is negotiated: requests in flight are lost.
    ///
    /// # Errors
    /// As [`RequestQueue::restart`].
    pub fn restart_queue(&mut self) -> Result<(), RequestError> {
        self.queue.restart(&mut self.device)
    }
}
