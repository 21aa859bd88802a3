//! [`Server`]: takes requests in as they come, and completes them as their operations end, in any order.
//!
//! This module holds `unsafe` because it is what promises that memory stays where an operation has it: the chain and the slot of
//! a request are kept until its operation has been reaped, whatever happens to queue and driver.
#![allow(unsafe_code)]

use crate::device::{Cache, Pace};
use crate::engine::{Done, Engine};
use crate::flight::{Flight, Means, Slot, Task, Trouble};
use crate::request::{Refused, Request, Rules, conclude};
use std::fmt::Display;
use std::io;
use std::mem;
use std::sync::Arc;
use vioduct_spec::blk;
use vioduct_virtio_device::{
    BufferError, Chain, Fault, Interest, Io, QueueHandler, RateLimit, SourceId, Wake,
};

/// The one source: operations have ended.
const ENDED: SourceId = SourceId(0);

/// Serves one queue.
pub(crate) struct Server {
    engine: Engine,
    rules: Rules,
    cache: Arc<Cache>,
    serial: [u8; blk::ID_LEN],
    pace: Pace,
    slots: Vec<Slot>,
    /// Numbers of slots without a request.
    free: Vec<u32>,
    in_flight: usize,
    done: Vec<Done>,
    log: RateLimit,
}

impl Server {
    pub(crate) fn new(
        engine: Engine,
        rules: Rules,
        cache: Arc<Cache>,
        serial: [u8; blk::ID_LEN],
        pace: Pace,
    ) -> Self {
        let (slots, free, done) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            engine,
            rules,
            cache,
            serial,
            pace,
            slots,
            free,
            in_flight: 0,
            done,
            log: RateLimit::default(),
        }
    }

    fn take_in(&mut self, q: u16, io: &mut Io<'_>) -> Result<(), Fault> {
        while let Some(chain) = io.pop(q)? {
            let index = self.free.pop().unwrap_or_else(|| {
                self.slots.push(Slot::default());
                self.slots.len() as u32 - 1
            });
            self.begin(index, q, chain, io)?;
        }
        Ok(())
    }

    /// Reads a request, and begins with it, in an empty slot.
    fn begin(&mut self, index: u32, queue: u16, chain: Chain, io: &mut Io<'_>) -> Result<(), Fault> {
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return io.complete(queue, chain, 0);
        };
        let durability = self.cache.durability(self.rules.negotiated);
        let request = Request::parse(&chain, &self.rules, &mut slot.ranges);
        let task = match request {
            Ok(Request::Read(span)) => Task::Read { span, done: 0 },
            Ok(Request::Write(span)) => Task::Write { span, done: 0, durability },
            Ok(Request::Flush) => Task::Sync,
            Ok(Request::Ranges) => Task::Ranges { next: 0, means: Means::Allocation, durability },
            Ok(Request::Identify) | Err(_) => Task::Finished,
        };
        let mut flight = Flight { queue, chain, task, filled: 0 };
        let status = match request {
            Ok(Request::Identify) => identify(&mut flight, &self.serial),
            Ok(_) => Ok(blk::S_OK),
            Err(Refused::Wrong) => Ok(blk::S_IOERR),
            Err(Refused::Unknown) => Ok(blk::S_UNSUPP),
            Err(Refused::Memory(error)) => Err(error),
        };
        slot.flight = Some(flight);
        match status {
            Ok(blk::S_OK) => self.go_on(index, io),
            Ok(status) => self.finish(index, status, io),
            Err(error) => self.fail(index, error, io),
        }
    }

    /// The next operation of a request, or its end.
    fn go_on(&mut self, index: u32, io: &mut Io<'_>) -> Result<(), Fault> {
        let Some(slot) = self.slots.get_mut(index as usize) else { return Ok(()) };
        match slot.next_op() {
            Ok(Some(op)) => {
                // SAFETY: the pieces are of the slot, which is left alone until the operation is reaped, on the heap; their memory
                // is of the slot, static, or of the chain in it, which keeps it mapped, and is given back after that only. No
                // reference into it exists: it is the guest's, or the slot's own.
                match unsafe { self.engine.push(index, op) } {
                    Ok(()) => self.in_flight += 1,
                    Err(error) => return self.stop_with(index, &error, io),
                }
                Ok(())
            }
            Ok(None) => self.finish(index, blk::S_OK, io),
            Err(trouble) => self.give_up(index, trouble, io),
        }
    }

    /// Completes a request that was not pushed, and with it the device's life.
    fn stop_with(&mut self, index: u32, error: &io::Error, io: &mut Io<'_>) -> Result<(), Fault> {
        self.finish(index, blk::S_IOERR, io)?;
        Err(engine_failed(error))
    }

    fn give_up(&mut self, index: u32, trouble: Trouble, io: &mut Io<'_>) -> Result<(), Fault> {
        match trouble {
            Trouble::File(error) => {
                self.say(&error);
                self.finish(index, blk::S_IOERR, io)
            }
            Trouble::Memory(error) => self.fail(index, error, io),
        }
    }

    /// Gives a request back with its status.
    fn finish(&mut self, index: u32, status: u8, io: &mut Io<'_>) -> Result<(), Fault> {
        let Some(Flight { queue, chain, filled, .. }) = self.vacate(index) else { return Ok(()) };
        match conclude(&chain, status, filled) {
            Ok(written) => io.complete(queue, chain, written),
            Err(error) => {
                io.complete(queue, chain, 0)?;
                memory_fault(error)
            }
        }
    }

    /// Gives back a request whose memory is not there.
    fn fail(&mut self, index: u32, error: BufferError, io: &mut Io<'_>) -> Result<(), Fault> {
        match error {
            BufferError::Short { .. } => self.finish(index, blk::S_IOERR, io),
            BufferError::Memory(_) => {
                let Some(Flight { queue, chain, .. }) = self.vacate(index) else { return Ok(()) };
                io.complete(queue, chain, 0)?;
                memory_fault(error)
            }
        }
    }

    fn vacate(&mut self, index: u32) -> Option<Flight> {
        let flight = self.slots.get_mut(index as usize)?.flight.take()?;
        self.free.push(index);
        Some(flight)
    }

    /// Completes what has ended; and with [`Pace::Stepped`], waits until everything has. The first fault is told when all that has
    /// ended is taken care of.
    fn settle(&mut self, io: &mut Io<'_>) -> Result<(), Fault> {
        let mut outcome = Ok(());
        loop {
            self.engine.submit().map_err(|error| engine_failed(&error))?;
            if self.pace == Pace::Stepped && self.in_flight > 0 {
                self.engine.wait().map_err(|error| engine_failed(&error))?;
            }
            let mut done = mem::take(&mut self.done);
            self.engine.reap(&mut done);
            if done.is_empty() {
                self.done = done;
                return outcome;
            }
            for Done { token, result } in done.drain(..) {
                self.in_flight -= 1;
                outcome = outcome.and(self.ended(token, result, io));
            }
            self.done = done;
        }
    }

    fn ended(&mut self, index: u32, result: io::Result<u64>, io: &mut Io<'_>) -> Result<(), Fault> {
        match self.slots.get_mut(index as usize).map(|slot| slot.advance(result)) {
            Some(Ok(())) => self.go_on(index, io),
            Some(Err(trouble)) => self.give_up(index, trouble, io),
            None => Ok(()),
        }
    }

    /// Where every wake waits for the ends of its operations, none comes later.
    fn watch(&mut self, io: &mut Io<'_>) -> Result<(), Fault> {
        let Some(source) = self.engine.source().filter(|_| self.pace == Pace::Free) else { return Ok(()) };
        io.watch(source, ENDED, Interest::Readable)
            .map_err(|error| Fault::Device(format!("cannot wait for the file: {error}").into()))
    }

    fn say(&self, error: &impl Display) {
        if let Some(suppressed) = self.log.admit() {
            tracing::warn!(device = "block", suppressed, "a request failed: {error}");
        }
    }
}

impl QueueHandler for Server {
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        let taken = match why {
            Wake::Kick(q) => self.take_in(q, io),
            Wake::Started(_) => self.watch(io),
            Wake::Source(_) | Wake::Stopping(_) => Ok(()),
        };
        // What is in flight is looked after whatever has become of the queue.
        self.settle(io).and(taken)
    }
}

impl Drop for Server {
    /// Whoever drops a running device gives its driver up; the memory still must not go before the operations that use it.
    fn drop(&mut self) {
        while self.in_flight > 0 {
            if self.engine.wait().is_err() {
                // Rather a leak than memory that is written to when it is somebody else's.
                mem::forget(mem::take(&mut self.slots));
                return;
            }
            self.engine.reap(&mut self.done);
            self.in_flight = self.in_flight.saturating_sub(mem::take(&mut self.done).len());
        }
        for slot in &mut self.slots {
            if let Some(flight) = slot.flight.take() {
                flight.chain.discard();
            }
        }
    }
}

/// virtio 1.3 §5.2.6: the device's identification, zeros after it unless it is of full length.
fn identify(flight: &mut Flight, serial: &[u8; blk::ID_LEN]) -> Result<u8, BufferError> {
    flight.chain.writer().write_all(serial)?;
    flight.filled = blk::ID_LEN as u64;
    Ok(blk::S_OK)
}

fn memory_fault(error: BufferError) -> Result<(), Fault> {
    match error {
        BufferError::Memory(fault) => Err(Fault::Memory(fault)),
        BufferError::Short { .. } => Ok(()),
    }
}

fn engine_failed(error: &io::Error) -> Fault {
    Fault::Device(format!("the system carries out no operations any more: {error}").into())
}
