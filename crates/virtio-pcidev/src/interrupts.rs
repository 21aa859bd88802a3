//! The interrupt queue: from a function's pin and vectors into the buffers that its driver has made available.
//!
//! What is raised waits in the [`Outbox`], one bit for each vector, until there is a buffer. So nothing is lost when there is
//! none, and nothing grows. A vector that is masked while it waits goes on waiting; MSI-X turned off, or a reset, ends that.

use crate::protocol::{HEADER_LEN, Header, INTERRUPT_LEN, INTERRUPT_QUEUE, op};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vioduct_pci::{FunctionSpec, InterruptSink, Level, MsiMessage, VectorState};
use vioduct_virtio_device::{
    BufferError, EventFd, Fault, Interest, Io, QueueHandler, Signal, SourceId, Wake,
};

/// Interrupts that were raised and are not delivered.
#[derive(Debug)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    /// Something came to be deliverable.
    bell: EventFd,
    /// The pin's number, 1 to 4; 0 if there is none.
    pin: u8,
}

#[derive(Debug)]
struct Waiting {
    pin: bool,
    vectors: Vec<Line>,
    /// Where the search begins, so that no vector starves another.
    next: usize,
}

/// One vector.
#[derive(Clone, Copy, Debug)]
struct Line {
    state: VectorState,
    waiting: bool,
}

impl Line {
    fn message(self) -> Option<MsiMessage> {
        match self.state {
            VectorState::Unmasked(message) if self.waiting => Some(message),
            _ => None,
        }
    }
}

/// An interrupt on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Interrupt {
    Pin,
    Vector(usize, MsiMessage),
}

impl Outbox {
    pub(crate) fn new(spec: &FunctionSpec) -> io::Result<Self> {
        let vectors = spec.msix.as_ref().map_or(0, |msix| msix.vectors);
        let line = Line { state: VectorState::Disabled, waiting: false };
        let waiting = Waiting { pin: false, vectors: vec![line; vectors.into()], next: 0 };
        Ok(Self { waiting: Mutex::new(waiting), bell: EventFd::new()?, pin: spec.interrupt_pin as u8 })
    }

    /// The next interrupt that can be delivered, which waits no more.
    fn take(&self) -> Option<Interrupt> {
        let mut waiting = self.lock();
        if std::mem::take(&mut waiting.pin) {
            return Some(Interrupt::Pin);
        }
        let Waiting { vectors, next, .. } = &mut *waiting;
        let (later, earlier) = (*next..vectors.len(), 0..*next);
        let mut places = later.chain(earlier);
        let (place, message) = places.find_map(|place| Some((place, vectors.get(place)?.message()?)))?;
        *next = place + 1;
        vectors.get_mut(place)?.waiting = false;
        Some(Interrupt::Vector(place, message))
    }

    /// There was no buffer after all: it is the next again.
    fn put_back(&self, interrupt: Interrupt) {
        let mut waiting = self.lock();
        match interrupt {
            Interrupt::Pin => waiting.pin = true,
            Interrupt::Vector(place, _) => {
                waiting.next = place;
                if let Some(line) = waiting.vectors.get_mut(place) {
                    line.waiting = true;
                }
            }
        }
    }

    fn message(&self, interrupt: Interrupt) -> ([u8; INTERRUPT_LEN], usize) {
        let (header, data, len) = match interrupt {
            Interrupt::Pin => {
                let header = Header { op: op::PIN, bar: 0, size: 0, addr: self.pin.into() };
                (header, [0; 4], HEADER_LEN)
            }
            Interrupt::Vector(_, message) => {
                let header = Header { op: op::MSI, bar: 0, size: 4, addr: message.address };
                (header, message.data.to_le_bytes(), INTERRUPT_LEN)
            }
        };
        let mut bytes = [0; INTERRUPT_LEN];
        let parts = header.encode().into_iter().chain(data);
        bytes.iter_mut().zip(parts).for_each(|(byte, part)| *byte = part);
        (bytes, len)
    }

    /// Whoever panicked with the lock left single bits, each of them valid.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InterruptSink for Outbox {
    fn msi(&self, vector: u16, message: MsiMessage) {
        if let Some(line) = self.lock().vectors.get_mut(usize::from(vector)) {
            *line = Line { state: VectorState::Unmasked(message), waiting: true };
        }
        self.bell.signal();
    }

    fn intx(&self, level: Level) {
        self.lock().pin = level == Level::Asserted;
        if level == Level::Asserted {
            self.bell.signal();
        }
    }

    fn vector_changed(&self, vector: u16, state: VectorState) {
        if let Some(line) = self.lock().vectors.get_mut(usize::from(vector)) {
            line.state = state;
            line.waiting &= state != VectorState::Disabled;
        }
        self.bell.signal();
    }
}

/// Serves the interrupt queue.
pub(crate) struct Delivery(pub(crate) Arc<Outbox>);

impl QueueHandler for Delivery {
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        const BELL: SourceId = SourceId(0);
        match why {
            Wake::Started(_) => io.watch(&self.0.bell, BELL, Interest::Readable).map_err(|error| {
                Fault::Device(format!("its interrupts cannot be waited for: {error}").into())
            }),
            Wake::Kick(_) | Wake::Source(_) => self.deliver(io),
            Wake::Stopping(_) => Ok(()),
        }
    }
}

impl Delivery {
    /// Fills buffers while there are some. The kick of a later one is waited for only if an interrupt is.
    fn deliver(&self, io: &mut Io<'_>) -> Result<(), Fault> {
        while let Some(interrupt) = self.0.take() {
            let chain = match io.pop(INTERRUPT_QUEUE) {
                Ok(Some(chain)) => chain,
                outcome => {
                    self.0.put_back(interrupt);
                    return outcome.map(|_| ());
                }
            };
            let (bytes, len) = self.0.message(interrupt);
            match chain.writer().write_all(bytes.get(..len).unwrap_or_default()) {
                Ok(()) => io.complete(INTERRUPT_QUEUE, chain, len as u32)?,
                Err(error) => {
                    self.0.put_back(interrupt);
                    io.complete(INTERRUPT_QUEUE, chain, 0)?;
                    if let BufferError::Memory(fault) = error {
                        return Err(Fault::Memory(fault));
                    }
                }
            }
        }
        Ok(())
    }
}
