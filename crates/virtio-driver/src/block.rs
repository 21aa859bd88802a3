//! The driver of block devices (virtio 1.3 §5.2).

use crate::config;
use crate::device::{Device, Reset, Running, Wanted};
use crate::dma::Dma;
use crate::error::{InitError, RequestError};
use crate::request_queue::{Events, Options, RequestQueue, SlotShape, Taken, Ticket, Wait};
use crate::transport::{Transport, TransportError};
use alloc::vec::Vec;
use vioduct_spec::{Features, blk, device_type};

/// Bytes of data in one request at most. [`Block::read`] and [`Block::write`] send as many requests as it takes.
pub const TRANSFER_LEN: usize = 4096;
/// A request with its data in front, or a reply with its status behind.
const READABLE_LEN: usize = blk::HEADER_LEN + TRANSFER_LEN;
const WRITABLE_LEN: usize = TRANSFER_LEN + blk::STATUS_LEN;
const SHAPE: SlotShape = SlotShape { readable_len: READABLE_LEN as u32, writable_len: WRITABLE_LEN as u32 };
/// What is of use to this driver, where the device has it.
const USED: Features = blk::RO
    .with(blk::BLK_SIZE)
    .with(blk::FLUSH)
    .with(blk::CONFIG_WCE)
    .with(blk::MQ)
    .with(blk::DISCARD)
    .with(blk::WRITE_ZEROES);

/// A running block device. Dropped, it resets the device.
#[derive(Debug)]
pub struct Block<T: Transport, D: Dma> {
    device: Device<T, Running>,
    queues: Vec<RequestQueue<D>>,
    geometry: Geometry,
    dma: D,
}

/// What a block device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Capacity in sectors of 512 bytes.
    pub sectors: u64,
    /// The block size that accesses are best a multiple of, in bytes: a power of two from 512 on.
    pub block_len_bytes: u32,
}

/// One request. Sectors are of 512 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'d> {
    /// Read.
    Read {
        /// The first sector.
        sector: u64,
        /// How much: whole sectors, at most [`TRANSFER_LEN`].
        len_bytes: usize,
    },
    /// Write.
    Write {
        /// The first sector.
        sector: u64,
        /// Whole sectors, at most [`TRANSFER_LEN`] bytes.
        data: &'d [u8],
    },
    /// Make stable what was written.
    Flush,
    /// The content of these sectors is needed no more.
    Discard {
        /// The first sector.
        sector: u64,
        /// How many.
        sectors: u32,
    },
    /// These sectors are to read as zeroes.
    WriteZeroes {
        /// The first sector.
        sector: u64,
        /// How many.
        sectors: u32,
        /// Whether the device may deallocate them.
        allocation: Allocation,
    },
    /// The device's identification.
    Identify,
}

/// What becomes of zeroed sectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allocation {
    /// They stay allocated.
    Kept,
    /// They may be deallocated.
    MayGo,
}

impl Request<'_> {
    /// The request's bytes, and how long its answer is.
    fn encode(self, out: &mut [u8; READABLE_LEN]) -> Result<(usize, usize), RequestError> {
        let range = |sector: u64, sectors: u32, flags: u32| {
            u128::from(sector) | u128::from(sectors) << 64 | u128::from(flags) << 96
        };
        let (kind, at, answer_len) = match self {
            Self::Read { sector, len_bytes } => (blk::T_IN, sector, len_bytes),
            Self::Write { sector, .. } => (blk::T_OUT, sector, 0),
            Self::Flush => (blk::T_FLUSH, 0, 0),
            Self::Discard { .. } => (blk::T_DISCARD, 0, 0),
            Self::WriteZeroes { .. } => (blk::T_WRITE_ZEROES, 0, 0),
            Self::Identify => (blk::T_GET_ID, 0, blk::ID_LEN),
        };
        let ranges = match self {
            Self::Discard { sector, sectors } => range(sector, sectors, 0).to_le_bytes(),
            Self::WriteZeroes { sector, sectors, allocation: Allocation::Kept } => {
                range(sector, sectors, 0).to_le_bytes()
            }
            Self::WriteZeroes { sector, sectors, allocation: Allocation::MayGo } => {
                range(sector, sectors, blk::RANGE_UNMAP).to_le_bytes()
            }
            _ => [0; blk::RANGE_LEN],
        };
        let data = match self {
            Self::Write { data, .. } => data,
            Self::Discard { .. } | Self::WriteZeroes { .. } => &ranges,
            Self::Read { .. } | Self::Flush | Self::Identify => &[],
        };
        for len in [data.len(), answer_len] {
            if len > TRANSFER_LEN {
                return Err(RequestError::TooLong { len, slot: TRANSFER_LEN });
            }
        }
        let header = u128::from(kind) | u128::from(at) << 64;
        let bytes = header.to_le_bytes().into_iter().chain(data.iter().copied());
        out.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Ok((blk::HEADER_LEN + data.len(), answer_len))
    }
}

impl<T: Transport, D: Dma + Clone> Block<T, D> {
    /// Takes a device from whatever state it is in to running, with one queue.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn new(transport: T, dma: D, options: &Options) -> Result<Self, InitError> {
        Self::start(Device::new(transport)?, dma, options, 1)
    }

    /// The same with up to `queues` queues, as many as the device has of them.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn with_queues(transport: T, dma: D, options: &Options, queues: u16) -> Result<Self, InitError> {
        Self::start(Device::new(transport)?, dma, options, queues)
    }

    /// The same from a device that has been reset.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn start(
        device: Device<T, Reset>,
        dma: D,
        options: &Options,
        queues: u16,
    ) -> Result<Self, InitError> {
        let wanted = Wanted { required: Features::NONE, optional: options.features | USED };
        let mut device = device.negotiate(device_type::BLOCK, wanted)?;
        let negotiated = device.negotiated();
        let geometry = Geometry::read(device.transport(), negotiated)?;
        // virtio 1.3 §5.2.2: one queue without MQ; and row 77: a device may say of their number what it likes.
        let there = match negotiated.contains(blk::MQ) {
            true => u16::from_le_bytes(config::read_bytes(device.transport(), blk::NUM_QUEUES as u64)?),
            false => 1,
        };
        let count = queues.min(there).max(1);
        let queues = (0..count)
            .map(|queue| RequestQueue::set_up(&mut device, queue, SHAPE, options, &dma))
            .collect::<Result<_, _>>()?;
        Ok(Self { device: device.driver_ok()?, queues, geometry, dma })
    }

    /// Resets the device and starts over: all that was in flight is lost.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn restart(self, options: &Options) -> Result<Self, InitError> {
        let Self { device, queues, geometry: _, dma } = self;
        let count = queues.len() as u16;
        let device = device.reset()?;
        drop(queues);
        Self::start(device, dma, options, count)
    }

    /// Capacity and block size.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// How many queues there are.
    #[must_use]
    pub const fn queue_count(&self) -> u16 {
        self.queues.len() as u16
    }

    /// Fills `out`, whole sectors, from `sector` on.
    ///
    /// # Errors
    /// [`RequestError::Failed`] from a disk that cannot; `out` may then be partly filled.
    pub fn read(&mut self, sector: u64, out: &mut [u8], wait: Wait<'_>) -> Result<(), RequestError> {
        for (number, part) in (0..).zip(out.chunks_mut(TRANSFER_LEN)) {
            let sector = further(sector, number)?;
            self.call(Request::Read { sector, len_bytes: part.len() }, part, wait)?;
        }
        Ok(())
    }

    /// Writes `data`, whole sectors, from `sector` on.
    ///
    /// # Errors
    /// [`RequestError::Failed`] from a disk that cannot; it may then be partly written.
    pub fn write(&mut self, sector: u64, data: &[u8], wait: Wait<'_>) -> Result<(), RequestError> {
        for (number, data) in (0..).zip(data.chunks(TRANSFER_LEN)) {
            let sector = further(sector, number)?;
            self.call(Request::Write { sector, data }, &mut [], wait)?;
        }
        Ok(())
    }

    /// Makes stable what was written before, by requests that have their answers. A device that does not know of flushes
    /// answered no write before it was stable (virtio 1.3 §5.2.6.2).
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn flush(&mut self, wait: Wait<'_>) -> Result<(), RequestError> {
        if !self.device.negotiated().contains(blk::FLUSH) {
            return Ok(());
        }
        self.call(Request::Flush, &mut [], wait)
    }

    /// Says that the content of `sectors` sectors from `sector` on is needed no more.
    ///
    /// # Errors
    /// [`RequestError::Refused`] from a device that does not know of it.
    pub fn discard(&mut self, sector: u64, sectors: u32, wait: Wait<'_>) -> Result<(), RequestError> {
        self.call(Request::Discard { sector, sectors }, &mut [], wait)
    }

    /// Has `sectors` sectors from `sector` on read as zeroes.
    ///
    /// # Errors
    /// [`RequestError::Refused`] from a device that does not know of it.
    pub fn write_zeroes(
        &mut self,
        sector: u64,
        sectors: u32,
        allocation: Allocation,
        wait: Wait<'_>,
    ) -> Result<(), RequestError> {
        self.call(Request::WriteZeroes { sector, sectors, allocation }, &mut [], wait)
    }

    /// The device's identification: a text, and zeros unless it is of full length.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn id(&mut self, wait: Wait<'_>) -> Result<[u8; blk::ID_LEN], RequestError> {
        let mut id = [0; blk::ID_LEN];
        self.call(Request::Identify, &mut id, wait)?;
        Ok(id)
    }

    /// Sends one request by the first queue, waits, and fills `answer`.
    ///
    /// # Errors
    /// [`RequestError`]; [`RequestError::Refused`] for a request that the device does not know.
    pub fn call(
        &mut self,
        request: Request<'_>,
        answer: &mut [u8],
        wait: Wait<'_>,
    ) -> Result<(), RequestError> {
        let Self { device, queues, .. } = self;
        let queue = queues.first_mut().ok_or(RequestError::NoQueue)?;
        let (mut bytes, mut reply) = ([0; READABLE_LEN], [0; WRITABLE_LEN]);
        let (len, answer_len) = request.encode(&mut bytes)?;
        let reply = reply.get_mut(..answer_len + blk::STATUS_LEN).unwrap_or_default();
        let written = queue.call(device, bytes.get(..len).unwrap_or_default(), reply, wait)?;
        decode(reply, written, answer)
    }

    /// Adds a request to the batch that the next [`kick`](Self::kick) of the queue shows the device.
    ///
    /// # Errors
    /// [`RequestError::Full`], [`RequestError::TooLong`], [`RequestError::NoQueue`] and that the queue is broken.
    pub fn submit(&mut self, queue: u16, request: Request<'_>) -> Result<Ticket, RequestError> {
        let mut bytes = [0; READABLE_LEN];
        let (len, answer_len) = request.encode(&mut bytes)?;
        let reply_len = (answer_len + blk::STATUS_LEN) as u32;
        self.queue(queue)?.submit(bytes.get(..len).unwrap_or_default(), reply_len)
    }

    /// Shows the device the batch of a queue.
    ///
    /// # Errors
    /// Of the transport; [`RequestError::NoQueue`].
    pub fn kick(&mut self, queue: u16) -> Result<(), RequestError> {
        let Self { device, queues, .. } = self;
        queues.get_mut(usize::from(queue)).ok_or(RequestError::NoQueue)?.kick(device)
    }

    /// Collects answers of a queue, and says how many there were.
    ///
    /// # Errors
    /// [`RequestError::Queue`] from a device that broke the queue's rules; [`RequestError::NoQueue`].
    pub fn poll(&mut self, queue: u16) -> Result<u16, RequestError> {
        self.queue(queue)?.poll()
    }

    /// Takes the answer to a request, if it has come; `answer` is as long as what was asked for.
    ///
    /// # Errors
    /// As [`call`](Self::call); [`RequestError::StaleTicket`].
    pub fn take(&mut self, queue: u16, ticket: Ticket, answer: &mut [u8]) -> Result<Taken<()>, RequestError> {
        let mut reply = [0; WRITABLE_LEN];
        let reply = reply.get_mut(..answer.len() + blk::STATUS_LEN);
        let too_long = RequestError::TooLong { len: answer.len(), slot: TRANSFER_LEN };
        let reply = reply.ok_or(too_long)?;
        match self.queue(queue)?.take(ticket, reply)? {
            Taken::Done(written) => decode(reply, written, answer).map(Taken::Done),
            Taken::Pending(ticket) => Ok(Taken::Pending(ticket)),
        }
    }

    /// Handles an interrupt: collects answers of every queue, and says whether the configuration, and with it the capacity, may
    /// have changed.
    ///
    /// # Errors
    /// [`RequestError::NeedsReset`] and the like.
    pub fn service(&mut self) -> Result<Events, RequestError> {
        let interrupts = self.device.interrupts()?;
        if interrupts.config {
            let negotiated = self.device.negotiated();
            self.geometry = Geometry::read(self.device.transport(), negotiated)?;
        }
        let mut completed = 0;
        if interrupts.queue {
            for queue in &mut self.queues {
                completed += queue.drain()?;
            }
        }
        Ok(Events { completed, config_changed: interrupts.config })
    }

    /// The device, for its transport and its health.
    pub const fn device(&mut self) -> &mut Device<T, Running> {
        &mut self.device
    }

    /// A queue, for its waker, its size and a reset of it.
    ///
    /// # Errors
    /// [`RequestError::NoQueue`].
    pub fn queue(&mut self, queue: u16) -> Result<&mut RequestQueue<D>, RequestError> {
        self.queues.get_mut(usize::from(queue)).ok_or(RequestError::NoQueue)
    }
}

impl Geometry {
    fn read<T: Transport + ?Sized>(transport: &mut T, negotiated: Features) -> Result<Self, TransportError> {
        let sectors = config::read_u64(transport, blk::CAPACITY as u64)?;
        let block_len_bytes = match negotiated.contains(blk::BLK_SIZE) {
            true => config::read_u32(transport, blk::BLOCK_SIZE as u64)?,
            false => blk::SECTOR_LEN as u32,
        };
        // Row 77: nobody is to divide by what a device says here, or to allocate it.
        let sensible = block_len_bytes.is_power_of_two() && block_len_bytes >= blk::SECTOR_LEN as u32;
        Ok(Self { sectors, block_len_bytes: if sensible { block_len_bytes } else { blk::SECTOR_LEN as u32 } })
    }
}

/// The first sector of part `number` of a transfer.
fn further(sector: u64, number: u64) -> Result<u64, RequestError> {
    const SECTORS: u64 = (TRANSFER_LEN / blk::SECTOR_LEN) as u64;
    number.checked_mul(SECTORS).and_then(|sectors| sector.checked_add(sectors)).ok_or(RequestError::Failed)
}

/// Fills `answer` from a reply whose first `written` bytes are the device's, if its last byte says that all is well.
fn decode(reply: &[u8], written: u32, answer: &mut [u8]) -> Result<(), RequestError> {
    let (Some((status, data)), true) = (reply.split_last(), written as usize >= reply.len()) else {
        return Err(RequestError::ShortReply { written, wanted: reply.len() as u32 });
    };
    match *status {
        blk::S_OK => {
            answer.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
            Ok(())
        }
        blk::S_UNSUPP => Err(RequestError::Refused),
        _ => Err(RequestError::Failed),
    }
}

#[cfg(test)]
mod tests;
