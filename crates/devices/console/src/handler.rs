//! Serves the two queues: [`Receiver`] and [`Transmitter`].

use crate::device::Window;
use crate::keyboard::Keyboard;
use crate::request::{to_fill, to_send};
use crate::screen::Screen;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vioduct_spec::console::{RECEIVE_QUEUE, SIZE, TRANSMIT_QUEUE};
use vioduct_virtio_device::{
    BufferError, Chain, Fault, Features, Interest, Io, QueueHandler, RateLimit, SourceId, Wake,
};

/// Something was typed, or can be written.
const LINE: SourceId = SourceId(0);
/// The window has another size.
const RESIZED: SourceId = SourceId(1);

/// Takes hold of what a handler and the model share; neither leaves it half changed.
pub(crate) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fills the driver's buffers with input.
pub(crate) struct Receiver {
    pub(crate) keyboard: Arc<Mutex<Keyboard>>,
    pub(crate) window: Window,
    pub(crate) negotiated: Features,
    pub(crate) log: RateLimit,
}

impl Receiver {
    fn watch(&self, io: &mut Io<'_>) -> Result<(), Fault> {
        if let Some(wire) = &lock(&self.keyboard).wire {
            watch(io, wire, LINE, Interest::Readable)?;
        }
        // virtio 1.3 §5.3.4: the size is valid with SIZE only.
        match self.negotiated.contains(SIZE) {
            true => watch(io, self.window.changed(), RESIZED, Interest::Readable),
            false => Ok(()),
        }
    }

    /// A device at rest is woken by nothing.
    fn unwatch(&self, io: &mut Io<'_>) {
        if let Some(wire) = &lock(&self.keyboard).wire {
            unwatch(io, wire);
        }
        unwatch(io, self.window.changed());
    }

    /// Hands over what has come, as long as there is something and a buffer for it.
    fn hand_over(&mut self, io: &mut Io<'_>) -> Result<(), Fault> {
        let mut keyboard = lock(&self.keyboard);
        loop {
            match keyboard.typed() {
                Ok([]) => return Ok(()),
                Ok(_) => {}
                Err(error) => {
                    if let Some(wire) = keyboard.wire.take() {
                        unwatch(io, &wire);
                    }
                    if error.kind() != io::ErrorKind::UnexpectedEof {
                        self.say(format_args!("there is no more input: {error}"));
                    }
                    return Ok(());
                }
            }
            let Some(chain) = io.pop(RECEIVE_QUEUE)? else { return Ok(()) };
            let written = match to_fill(&chain) {
                Ok(()) => chain.writer().write(keyboard.unread()),
                Err(refused) => {
                    self.say(format_args!("{refused}"));
                    Ok(0)
                }
            };
            match written {
                Ok(count) => {
                    io.complete(RECEIVE_QUEUE, chain, count as u32)?;
                    keyboard.taken(count);
                }
                Err(error) => return give_back(RECEIVE_QUEUE, chain, error, io),
            }
        }
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        if let Some(suppressed) = self.log.admit() {
            tracing::warn!(device = "console", suppressed, "{what}");
        }
    }
}

impl QueueHandler for Receiver {
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        match why {
            Wake::Started(_) => self.watch(io),
            Wake::Source(RESIZED) => {
                self.window.tell(|| io.config_changed());
                Ok(())
            }
            Wake::Kick(_) | Wake::Source(_) => self.hand_over(io),
            // None of its buffers is held.
            Wake::Stopping(_) => {
                self.unwatch(io);
                Ok(())
            }
        }
    }
}

/// Sends what is in the driver's buffers.
pub(crate) struct Transmitter {
    pub(crate) screen: Arc<Mutex<Screen>>,
    /// The buffer of which a part did not fit, and how long the part is that did, in bytes.
    pub(crate) parked: Option<(Chain, usize)>,
}

impl Transmitter {
    /// Sends and takes in by turns, until there is nothing more or no room for it.
    fn pump(&mut self, io: &mut Io<'_>) -> Result<(), Fault> {
        let screen = self.screen.clone();
        let mut screen = lock(&screen);
        loop {
            screen.send();
            match self.take_in(&mut screen, io) {
                Ok(Progress::Some) => {}
                Ok(Progress::None) => return Ok(()),
                Err(fault) => {
                    screen.send();
                    return Err(fault);
                }
            }
        }
    }

    /// Copies from the driver's buffers what there is room for, and gives back those that are empty then.
    fn take_in(&mut self, screen: &mut Screen, io: &mut Io<'_>) -> Result<Progress, Fault> {
        let mut progress = Progress::None;
        while screen.room() > 0 {
            let Some((chain, done)) = self.next(io)? else { break };
            progress = Progress::Some;
            if let Err(refused) = to_send(&chain) {
                screen.say(format_args!("{refused}"));
                io.complete(TRANSMIT_QUEUE, chain, 0)?;
                continue;
            }
            match copy(&chain, done, screen) {
                Ok(Copied::Whole) => io.complete(TRANSMIT_QUEUE, chain, 0)?,
                Ok(Copied::UpTo(done)) => self.parked = Some((chain, done)),
                Err(error) => give_back(TRANSMIT_QUEUE, chain, error, io)?,
            }
        }
        Ok(progress)
    }

    fn next(&mut self, io: &mut Io<'_>) -> Result<Option<(Chain, usize)>, Fault> {
        match self.parked.take() {
            Some(parked) => Ok(Some(parked)),
            None => Ok(io.pop(TRANSMIT_QUEUE)?.map(|chain| (chain, 0))),
        }
    }

    /// Gives back what is held. A reset, or a migration, does not wait for a reader that has stopped.
    fn let_go(&mut self, io: &mut Io<'_>) -> Result<(), Fault> {
        unwatch(io, &lock(&self.screen).wire);
        let Some((chain, done)) = self.parked.take() else { return Ok(()) };
        let lost = chain.readable_len().saturating_sub(done as u64);
        lock(&self.screen)
            .say(format_args!("{lost} bytes of output are lost: nobody has read what was before"));
        io.complete(TRANSMIT_QUEUE, chain, 0)
    }
}

impl QueueHandler for Transmitter {
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        match why {
            Wake::Started(_) => watch(io, &lock(&self.screen).wire, LINE, Interest::Writable),
            Wake::Kick(_) | Wake::Source(_) => self.pump(io),
            Wake::Stopping(_) => self.pump(io).and(self.let_go(io)),
        }
    }
}

/// Whether anything was taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    Some,
    None,
}

/// How much of a buffer was copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Copied {
    Whole,
    UpTo(usize),
}

/// Copies what there is room for from a buffer, of which the first `done` bytes were copied before.
fn copy(chain: &Chain, done: usize, screen: &mut Screen) -> Result<Copied, BufferError> {
    let mut reader = chain.reader();
    reader.skip(done)?;
    let left = usize::try_from(reader.remaining()).unwrap_or(usize::MAX);
    let count = screen.add(left, |room| reader.read(room))?;
    Ok(if count == left { Copied::Whole } else { Copied::UpTo(done + count) })
}

/// Gives back a buffer whose memory is not there.
fn give_back(queue: u16, chain: Chain, error: BufferError, io: &mut Io<'_>) -> Result<(), Fault> {
    io.complete(queue, chain, 0)?;
    match error {
        BufferError::Memory(fault) => Err(Fault::Memory(fault)),
        BufferError::Short { .. } => Ok(()),
    }
}

/// Waits for a descriptor, unless it is a file: those are always ready.
fn watch(io: &mut Io<'_>, fd: &impl AsFd, id: SourceId, interest: Interest) -> Result<(), Fault> {
    match io.watch(fd, id, interest) {
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
            Err(Fault::Device(format!("cannot wait for the line: {error}").into()))
        }
        _ => Ok(()),
    }
}

/// Ends [`watch`], of which there is nothing to end for a file.
fn unwatch(io: &mut Io<'_>, fd: &impl AsFd) {
    let _ = io.unwatch(fd);
}
