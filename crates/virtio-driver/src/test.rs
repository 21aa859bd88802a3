//! The driver of `virtio-test`: factorials and echoes.

use crate::config;
use crate::device::{Device, Reset, Running, Wanted};
use crate::dma::Dma;
use crate::error::{InitError, RequestError};
use crate::request_queue::{Events, Options, RequestQueue, SlotShape, Taken, Ticket, Wait};
use crate::transport::Transport;
use vioduct_spec::{Features, test};

const QUEUE: u16 = 0;
const SHAPE: SlotShape =
    SlotShape { readable_len: test::ECHO_READABLE_LEN as u32, writable_len: test::ECHO_WRITABLE_LEN as u32 };

/// A running `virtio-test` device. Dropped, it resets the device.
#[derive(Debug)]
pub struct Test<T: Transport, D: Dma> {
    device: Device<T, Running>,
    /// Only with `CAN_PRINT`.
    queue: Option<RequestQueue<D>>,
    dma: D,
}

/// The device's configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TestConfig {
    /// `num_pages`.
    pub num_pages: u32,
    /// `actual`.
    pub actual: u32,
    /// `event`.
    pub event: u32,
}

/// The answer to an echo+100 request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Echo {
    /// `arg1` of the request, plus 100.
    pub ret: u32,
    /// `arg2` of the request, plus 100.
    pub arg1: u32,
    /// `arg3` of the request, plus 100.
    pub arg2: u32,
}

/// Writes `words` and then `text`, cut where it is full, to a request; what is left of it stays NUL.
fn encode<const N: usize>(words: &[u32], text: &[u8]) -> [u8; N] {
    let mut request = [0; N];
    let room = text.len().min(test::TEXT_LEN);
    let bytes = words.iter().flat_map(|word| word.to_le_bytes()).chain(text.iter().copied().take(room));
    for (to, from) in request.iter_mut().zip(bytes) {
        *to = from;
    }
    request
}

fn encode_echo(n: u32) -> [u8; test::ECHO_READABLE_LEN] {
    let words = [n, n.wrapping_add(1), n.wrapping_add(2), n.wrapping_add(3)];
    encode(&words, test::ECHO_TEXT.as_bytes())
}

fn decode_echo(reply: [u8; test::ECHO_WRITABLE_LEN]) -> Echo {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = reply;
    let word = |bytes| u32::from_le_bytes(bytes);
    Echo { ret: word([a, b, c, d]), arg1: word([e, f, g, h]), arg2: word([i, j, k, l]) }
}

impl<T: Transport, D: Dma + Clone> Test<T, D> {
    /// Takes a device of type `device_type` (45 unless the machine says otherwise) to running.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn new(transport: T, dma: D, device_type: u32, options: &Options) -> Result<Self, InitError> {
        Self::start(Device::new(transport)?, dma, device_type, options)
    }

    /// The same from a device that has been reset.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn start(
        device: Device<T, Reset>,
        dma: D,
        device_type: u32,
        options: &Options,
    ) -> Result<Self, InitError> {
        let wanted = Wanted { required: Features::NONE, optional: options.features | test::F_CAN_PRINT };
        let mut device = device.negotiate(device_type, wanted)?;
        let can_print = device.negotiated().contains(test::F_CAN_PRINT);
        let queue =
            can_print.then(|| RequestQueue::set_up(&mut device, QUEUE, SHAPE, options, &dma)).transpose()?;
        Ok(Self { device: device.driver_ok()?, queue, dma })
    }

    /// Resets the device and starts over: all that was in flight is lost.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn restart(self, options: &Options) -> Result<Self, InitError> {
        let Self { device, queue, dma } = self;
        let device_type = device.device_type();
        let device = device.reset()?;
        drop(queue);
        Self::start(device, dma, device_type, options)
    }

    /// The factorial of `n` modulo 2^32, with `text` (up to 32 bytes) for the device's log.
    ///
    /// # Errors
    /// [`RequestError`]; [`RequestError::NoQueue`] without `CAN_PRINT`.
    pub fn factorial(&mut self, n: u32, text: &str, wait: Wait<'_>) -> Result<u32, RequestError> {
        let queue = self.queue.as_mut().ok_or(RequestError::NoQueue)?;
        let request: [u8; test::FACTORIAL_READABLE_LEN] = encode(&[n], text.as_bytes());
        Ok(u32::from_le_bytes(queue.call_exact(&mut self.device, &request, wait)?))
    }

    /// Sends `n` to `n + 3` and gets the last three back, plus 100 each.
    ///
    /// # Errors
    /// [`RequestError`]; [`RequestError::NoQueue`] without `CAN_PRINT`.
    pub fn echo(&mut self, n: u32, wait: Wait<'_>) -> Result<Echo, RequestError> {
        let queue = self.queue.as_mut().ok_or(RequestError::NoQueue)?;
        Ok(decode_echo(queue.call_exact(&mut self.device, &encode_echo(n), wait)?))
    }

    /// Adds a factorial request to the batch that the next [`kick`](Self::kick) shows the device.
    ///
    /// # Errors
    /// [`RequestError::Full`], [`RequestError::NoQueue`] and that the queue is broken.
    pub fn submit_factorial(&mut self, n: u32, text: &str) -> Result<Ticket, RequestError> {
        let queue = self.queue.as_mut().ok_or(RequestError::NoQueue)?;
        let request: [u8; test::FACTORIAL_READABLE_LEN] = encode(&[n], text.as_bytes());
        queue.submit(&request, test::FACTORIAL_WRITABLE_LEN as u32)
    }

    /// The answer to a factorial request, if it has come.
    ///
    /// # Errors
    /// [`RequestError::ShortReply`], [`RequestError::StaleTicket`].
    pub fn take_factorial(&mut self, ticket: Ticket) -> Result<Taken<u32>, RequestError> {
        match self.queue.as_mut().ok_or(RequestError::NoQueue)?.take_reply(ticket)? {
            Taken::Done(reply) => Ok(Taken::Done(u32::from_le_bytes(reply))),
            Taken::Pending(ticket) => Ok(Taken::Pending(ticket)),
        }
    }

    /// Adds an echo+100 request to the batch that the next [`kick`](Self::kick) shows the device.
    ///
    /// # Errors
    /// [`RequestError::Full`], [`RequestError::NoQueue`] and that the queue is broken.
    pub fn submit_echo(&mut self, n: u32) -> Result<Ticket, RequestError> {
        let queue = self.queue.as_mut().ok_or(RequestError::NoQueue)?;
        queue.submit(&encode_echo(n), SHAPE.writable_len)
    }

    /// Shows the device the batch.
    ///
    /// # Errors
    /// Of the transport; [`RequestError::NoQueue`].
    pub fn kick(&mut self) -> Result<(), RequestError> {
        self.queue.as_mut().ok_or(RequestError::NoQueue)?.kick(&mut self.device)
    }

    /// The answer to an echo+100 request, if it has come.
    ///
    /// # Errors
    /// [`RequestError::ShortReply`], [`RequestError::StaleTicket`].
    pub fn take_echo(&mut self, ticket: Ticket) -> Result<Taken<Echo>, RequestError> {
        match self.queue.as_mut().ok_or(RequestError::NoQueue)?.take_reply(ticket)? {
            Taken::Done(reply) => Ok(Taken::Done(decode_echo(reply))),
            Taken::Pending(ticket) => Ok(Taken::Pending(ticket)),
        }
    }

    /// Handles an interrupt: disables callbacks, drains, enables, looks again; and says whether the configuration may have changed.
    ///
    /// # Errors
    /// [`RequestError::NeedsReset`] and the like.
    pub fn service(&mut self) -> Result<Events, RequestError> {
        if let Some(queue) = &mut self.queue {
            return queue.service(&mut self.device);
        }
        let config_changed = self.device.transport().take_interrupts().config;
        self.device.check()?;
        Ok(Events { completed: 0, config_changed })
    }

    /// The configuration, all of one generation.
    ///
    /// # Errors
    /// Of the transport.
    pub fn read_config(&mut self) -> Result<TestConfig, RequestError> {
        let [num_pages, actual, event] = config::read_u32_fields(self.device.transport(), 0)?;
        Ok(TestConfig { num_pages, actual, event })
    }

    /// Writes the configuration back.
    ///
    /// # Errors
    /// Of the transport.
    pub fn write_config(&mut self, new: TestConfig) -> Result<(), RequestError> {
        let TestConfig { num_pages, actual, event } = new;
        Ok(config::write_u32_fields(self.device.transport(), 0, &[num_pages, actual, event])?)
    }

    /// The device, for its transport and its health.
    pub const fn device(&mut self) -> &mut Device<T, Running> {
        &mut self.device
    }

    /// The queue, which there is with `CAN_PRINT` only.
    pub const fn queue(&mut self) -> Option<&mut RequestQueue<D>> {
        self.queue.as_mut()
    }
}
