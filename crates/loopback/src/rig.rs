//! [`Rig`]: a device in a machine of its own, and a driver that does what a test says: for tests that any device must pass.
//!
//! This module holds `unsafe` because it lays rings out in guest memory, which it owns.
#![allow(unsafe_code)]

use vioduct_spec::{Features, Status};
use vioduct_virtio_device::DeviceModel;
use vioduct_virtio_device::rig::Reply;
use vioduct_virtio_driver::{DmaBuffer, Transport, TransportError};
use vioduct_virtqueue::{
    Buffer, DriverQueue, IndirectMemory, Kick, Memory, RingFormat, RingLayout, RingMemory,
};

use crate::failure::{Failure, Outcome, same};
use crate::{Depth, GuestDma, Machine, Stepped, WriteCheck};

/// A device model of any type.
pub type AnyModel = Box<dyn DeviceModel>;

/// How a rig's device is attached, and what its driver takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setup {
    /// What lies between the two.
    pub depth: Depth,
    /// Features of ring and transport, `RING_PACKED` among them or not. `VERSION_1` and what the device type offers come on top.
    pub features: Features,
    /// Largest size of its queues in descriptors; the device may allow less.
    pub queue_size: u16,
}

/// A request's memory.
struct Parts {
    _readable: Vec<Piece>,
    writable: Vec<Piece>,
}

/// One descriptor's memory, in a page of its own, at an odd place.
struct Piece {
    memory: DmaBuffer<GuestDma>,
    offset: usize,
    len: u32,
}

impl Piece {
    fn buffer(&self) -> Outcome<Buffer> {
        Ok(self.memory.piece(self.offset, self.len)?)
    }
}

struct RigQueue {
    driver: DriverQueue<Parts>,
    _memory: Vec<DmaBuffer<GuestDma>>,
}

/// A device, and a driver in the test's hands. Nothing happens but what is called for.
pub struct Rig {
    machine: Machine,
    device: Stepped<AnyModel>,
    transport: Box<dyn Transport + Send>,
    setup: Setup,
    negotiated: Features,
    queues: Vec<Option<RigQueue>>,
    pieces: usize,
    writes: Option<WriteCheck>,
}

impl Rig {
    const MEMORY_BYTES: usize = 16 << 20;
    const TABLE_ENTRIES: u16 = 8;

    /// A device in reset, and a driver that has found it.
    ///
    /// # Errors
    /// If the device cannot be attached, or is not found.
    pub fn new(model: AnyModel, setup: Setup) -> Outcome<Self> {
        let machine = Machine::new(Self::MEMORY_BYTES)?;
        let device = machine.attach(model, setup.depth, Features(u64::MAX))?;
        let transport = device.transport()?;
        let negotiated = Features::NONE;
        let (queues, pieces, writes) = (Vec::new(), 0, None);
        Ok(Self { machine, device, transport, setup, negotiated, queues, pieces, writes })
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The device.
    pub fn device(&self) -> &Stepped<AnyModel> {
        &self.device
    }

    /// The driver's way to the device.
    pub fn transport(&mut self) -> &mut dyn Transport {
        &mut *self.transport
    }

    /// How it was set up.
    pub fn setup(&self) -> Setup {
        self.setup
    }

    /// The features in force.
    pub fn negotiated(&self) -> Features {
        self.negotiated
    }

    /// The device status.
    pub fn status(&mut self) -> Status {
        self.transport.status()
    }

    /// Adds `bits` to the status, as far as the device takes them.
    pub fn raise(&mut self, bits: Status) {
        let status = self.transport.status() | bits;
        self.transport.set_status(status);
    }

    /// Resets the device, and takes all memory back.
    ///
    /// # Errors
    /// If the status does not read as 0 then, or the interrupt line is high.
    pub fn reset(&mut self) -> Outcome {
        self.transport.set_status(Status::RESET);
        let status = self.status();
        self.queues.clear();
        self.negotiated = Features::NONE;
        // virtio 1.3 §4.2.2.1: a reset clears the interrupt status; §4.1.4.5 has the ISR go with it.
        same("the line after a reset", self.device.interrupt_line(), false)?;
        // Messages that came before are of no interest to the driver that starts over.
        self.transport.take_interrupts();
        same("the status after a reset", status, Status::RESET)
    }

    /// Takes a device in reset to FEATURES_OK.
    ///
    /// # Errors
    /// If it does not offer what the setup says, or refuses.
    pub fn negotiate(&mut self) -> Outcome {
        self.raise(Status::ACKNOWLEDGE);
        self.raise(Status::DRIVER);
        let offered = self.transport.device_features();
        let wanted = Features::VERSION_1 | self.setup.features | offered.without(Features::RESERVED);
        same("features missing", wanted.without(offered), Features::NONE)?;
        self.transport.set_driver_features(wanted)?;
        self.raise(Status::FEATURES_OK);
        let expected = Status::ACKNOWLEDGE | Status::DRIVER | Status::FEATURES_OK;
        same("the status after FEATURES_OK", self.status(), expected)?;
        self.negotiated = wanted;
        Ok(self.transport.enable_config_interrupt()?)
    }

    /// Lays out and enables every queue.
    ///
    /// # Errors
    /// If the device refuses one.
    pub fn enable_queues(&mut self) -> Outcome {
        (0..self.transport.queue_count()).try_for_each(|q| self.enable_queue(q))
    }

    /// Lays out queue `q` afresh and enables it.
    ///
    /// # Errors
    /// If the device refuses it.
    pub fn enable_queue(&mut self, q: u16) -> Outcome {
        let format = RingFormat::of(self.negotiated);
        let size = self.queue_size(q)?;
        let dma = self.machine.dma();
        let ring = DmaBuffer::new(dma.clone(), RingMemory::len_for(format, size))?;
        let tables = DmaBuffer::new(dma, IndirectMemory::len_for(size, Self::TABLE_ENTRIES))?;
        // SAFETY: zeroed and page-aligned memory of its own, as long as needed, which is kept beside the queue and dropped after.
        let ring_memory = unsafe { RingMemory::new(ring.host(), ring.io_addr(), format, size) }?;
        // SAFETY: as above.
        let indirect =
            unsafe { IndirectMemory::new(tables.host(), tables.io_addr(), size, Self::TABLE_ENTRIES) };
        let driver = DriverQueue::new(ring_memory, Some(indirect), self.negotiated)?;
        self.transport.enable_queue(q, driver.layout())?;
        let place = usize::from(q);
        self.queues.resize_with(self.queues.len().max(place + 1), || None);
        self.queues[place] = Some(RigQueue { driver, _memory: vec![ring, tables] });
        Ok(())
    }

    fn queue_size(&mut self, q: u16) -> Outcome<u16> {
        let size = self.transport.queue_size_max(q).min(self.setup.queue_size);
        let log = size.checked_ilog2().ok_or(TransportError::NoQueue(q))?;
        Ok(match RingFormat::of(self.negotiated) {
            RingFormat::Split => 1 << log,
            RingFormat::Packed => size,
        })
    }

    /// Sets DRIVER_OK.
    ///
    /// # Errors
    /// If the device does not show it then, and nothing else.
    pub fn go_live(&mut self) -> Outcome {
        self.raise(Status::DRIVER_OK);
        self.check_live()
    }

    /// Resets the device and brings it up, with fresh queues.
    ///
    /// # Errors
    /// If it refuses.
    pub fn bring_up(&mut self) -> Outcome {
        self.reset()?;
        self.negotiate()?;
        self.enable_queues()?;
        self.go_live()
    }

    /// Passes if the device is running and needs no reset.
    ///
    /// # Errors
    /// If not.
    pub fn check_live(&mut self) -> Outcome {
        let live = Status::ACKNOWLEDGE | Status::DRIVER | Status::FEATURES_OK | Status::DRIVER_OK;
        same("the status of a running device", self.status(), live)
    }

    /// Where queue `q` lies.
    ///
    /// # Errors
    /// If it is not enabled.
    pub fn layout(&mut self, q: u16) -> Outcome<RingLayout> {
        Ok(self.queue(q)?.driver.layout())
    }

    /// Makes a buffer available in queue `q`: a descriptor for each readable piece, then for each writable length. Each is in
    /// memory of its own at an odd address, so that neighbours are never contiguous.
    ///
    /// # Errors
    /// If the queue or the memory is full.
    pub fn submit(&mut self, q: u16, readable: &[&[u8]], writable: &[u32]) -> Outcome {
        let mut pieces = Vec::with_capacity(readable.len());
        for data in readable {
            let mut piece = self.piece(data.len() as u32)?;
            piece.memory.write(piece.offset, data)?;
            pieces.push(piece);
        }
        let writable = writable.iter().map(|len| self.piece(*len)).collect::<Outcome<Vec<_>>>()?;
        let buffers = |pieces: &[Piece]| pieces.iter().map(Piece::buffer).collect::<Outcome<Vec<_>>>();
        let (out, back) = (buffers(&pieces)?, buffers(&writable)?);
        let parts = Parts { _readable: pieces, writable };
        self.queue(q)?.driver.add(&out, &back, parts).map_err(|(error, _)| Failure::new(error))
    }

    fn piece(&mut self, len: u32) -> Outcome<Piece> {
        self.pieces += 1;
        let offset = self.pieces % 7 + 1;
        let memory = DmaBuffer::new(self.machine.dma(), offset + len as usize)?;
        Ok(Piece { memory, offset, len })
    }

    /// Shows the device what was submitted to queue `q`, and notifies it if it wants to know; whether it did.
    ///
    /// # Errors
    /// Of the transport.
    pub fn kick(&mut self, q: u16) -> Outcome<Kick> {
        let driver = &mut self.queue(q)?.driver;
        let kick = driver.kick_prepare();
        let next = driver.notification_data();
        if kick == Kick::Needed {
            self.transport.notify(q, next)?;
        }
        Ok(kick)
    }

    /// Lets the device work until it has nothing to do; how many steps that took.
    pub fn run(&mut self) -> usize {
        match &mut self.writes {
            Some(check) => check.while_the_device_works(|| self.device.run()),
            None => self.device.run(),
        }
    }

    /// Has the memory log what the device writes, and notes what that is.
    pub fn start_write_check(&mut self) {
        self.device.pause();
        self.machine.memory().start_log();
        self.device.resume();
        self.writes = Some(WriteCheck::new(self.machine.dma()));
    }

    /// Compares the two; how many pages the device has changed.
    ///
    /// # Errors
    /// If one of them is not in the log.
    pub fn finish_write_check(&mut self) -> Outcome<usize> {
        let Some(check) = self.writes.take() else { return Ok(0) };
        self.device.pause();
        let outcome = check.compare();
        self.machine.memory().stop_log();
        self.device.resume();
        outcome.map(|()| check.changed())
    }

    /// The next buffer that the device has used.
    ///
    /// # Errors
    /// If the device broke the rules of the queue.
    pub fn take(&mut self, q: u16) -> Outcome<Option<Reply>> {
        let Some(completion) = self.queue(q)?.driver.get()? else { return Ok(None) };
        let mut bytes = Vec::new();
        for piece in completion.token.writable {
            let mut part = vec![0; piece.len as usize];
            piece.memory.read(piece.offset, &mut part)?;
            bytes.extend(part);
        }
        Ok(Some(Reply { written: completion.written, bytes }))
    }

    /// One request and its reply: submits, kicks, lets the device work, takes.
    ///
    /// # Errors
    /// If there is no reply.
    pub fn request(&mut self, q: u16, readable: &[&[u8]], writable: &[u32]) -> Outcome<Reply> {
        self.submit(q, readable, writable)?;
        let _ = self.kick(q)?;
        self.run();
        self.take(q)?.ok_or_else(|| Failure::new("the device has not used the buffer"))
    }

    /// How many buffers of queue `q` the driver has not taken back.
    ///
    /// # Errors
    /// If it is not enabled.
    pub fn in_flight(&mut self, q: u16) -> Outcome<u16> {
        Ok(self.queue(q)?.driver.in_flight())
    }

    /// Takes the memory of queue `q` back: after a reset of it.
    pub fn forget_queue(&mut self, q: u16) {
        if let Some(queue) = self.queues.get_mut(usize::from(q)) {
            *queue = None;
        }
    }

    /// Writes guest memory past the driver, as a hostile one would.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn poke(&self, at: vioduct_virtqueue::IoAddr, data: &[u8]) -> Outcome {
        Ok(self.machine.memory().write(at, data)?)
    }

    fn queue(&mut self, q: u16) -> Outcome<&mut RigQueue> {
        let queue = self.queues.get_mut(usize::from(q)).and_then(Option::as_mut);
        queue.ok_or_else(|| TransportError::NoQueue(q).into())
    }
}
