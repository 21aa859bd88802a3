//! How a device's code is driven: [`QueueHandler`], why it wakes ([`Wake`]), and what it can do then ([`Io`]).

use crate::backend::HostEvents;
use crate::lane::Slot;
use crate::sources::{Sources, Token};
use std::borrow::Cow;
use std::io;
use std::os::fd::AsFd;
use vioduct_virtqueue::{BufferError, Burst, Chain, MemoryFault, Next, QueueError};

/// Serves one or more queues of a device. It is driven, never driving: it does what can be done now and returns.
pub trait QueueHandler: Send {
    /// Something has happened. After it returns, what was completed is published and the driver notified, once.
    ///
    /// A handler that has popped until it got `None` is woken with [`Wake::Kick`] when a buffer is available. One that stopped
    /// before that has chosen to come back by itself, on a [`Wake::Source`].
    ///
    /// # Errors
    /// A [`Fault`] stops the whole device until the driver resets it: use it for what leaves no way to go on, not for the
    /// failure of one request.
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault>;
}

/// Why a handler is woken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// This queue was started. A kick follows, whether or not the driver sends one.
    Started(u16),
    /// This queue may have available buffers.
    Kick(u16),
    /// This event source is ready. It is reported again only after it became ready anew: read or write until it would block.
    Source(SourceId),
    /// This queue will be stopped: it gives no more buffers. Complete what is held of it, now or as its I/O ends.
    Stopping(u16),
}

/// A handler's own name for an event source that it watches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct SourceId(pub u32);

/// What a handler waits for on an event source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interest {
    /// It can be read.
    Readable,
    /// It can be written.
    Writable,
    /// Either.
    Both,
}

/// Why a device cannot go on until it is reset. A guest causes it; nobody panics over it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The driver broke the rules of a queue.
    #[error("queue {queue}: {error}")]
    Queue {
        /// Which queue.
        queue: u16,
        /// What it did.
        error: QueueError,
    },
    /// A buffer is in memory that the device may not access.
    #[error("buffer: {0}")]
    Memory(MemoryFault),
    /// What this kind of device cannot accept, or cannot survive.
    #[error("{0}")]
    Device(Cow<'static, str>),
}

/// How much a handler may take on in one wake, so that no queue starves another and no driver keeps a thread to itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Chains.
    pub chains: u32,
    /// Bytes in those chains, readable and writable. It is spent when reached, so the last chain may exceed it.
    pub bytes: u64,
}

impl Default for Budget {
    /// 256 chains or 4 MiB.
    fn default() -> Self {
        Self { chains: 256, bytes: 4 << 20 }
    }
}

/// What is left of a budget within one wake.
pub(crate) struct Allowance {
    left: Budget,
    /// Work was refused: the handler is to be woken again, without a kick.
    pub(crate) exhausted: bool,
}

impl Allowance {
    pub(crate) fn new(budget: Budget) -> Self {
        Self { left: budget, exhausted: false }
    }

    /// Whether a further chain may be taken; if not, remembers that one was wanted.
    fn permits(&mut self) -> bool {
        let some = self.left.chains > 0 && self.left.bytes > 0;
        self.exhausted |= !some;
        some
    }

    fn spend(&mut self, chain: &Chain) {
        self.left.chains = self.left.chains.saturating_sub(1);
        self.left.bytes = self.left.bytes.saturating_sub(chain.readable_len() + chain.writable_len());
    }
}

/// What a handler can do in a wake. Queues are named by their number in the device; of queues that are not its own, or do not
/// run, it gets nothing.
pub struct Io<'w> {
    pub(crate) first: u16,
    pub(crate) slots: &'w mut [Slot],
    pub(crate) allowance: Allowance,
    pub(crate) sources: &'w mut Sources,
    pub(crate) events: &'w dyn HostEvents,
}

impl Io<'_> {
    /// The next available buffer of queue `q`. `None` if there is none, the queue is stopping, or the work budget of this wake
    /// is spent; in the last case another wake follows.
    ///
    /// # Errors
    /// If the driver broke the rules of the queue.
    #[inline]
    pub fn pop(&mut self, q: u16) -> Result<Option<Chain>, Fault> {
        let Some(slot) = self.slots.get_mut(usize::from(q.wrapping_sub(self.first))) else {
            return Ok(None);
        };
        if slot.is_closed() || !self.allowance.permits() {
            return Ok(None);
        }
        let chain = slot.pop().map_err(|error| Fault::Queue { queue: q, error })?;
        if let Some(chain) = &chain {
            self.allowance.spend(chain);
        }
        Ok(chain)
    }

    /// Gives back a buffer of queue `q`, with the number of bytes written from the start of its writable part. The driver sees
    /// it after this wake. The buffer of a queue that has gone is dropped: the driver has taken it back.
    ///
    /// # Errors
    /// If the queue has met a fault, or the chain is not of this queue.
    #[inline]
    pub fn complete(&mut self, q: u16, chain: Chain, written: u32) -> Result<(), Fault> {
        match self.slots.get_mut(usize::from(q.wrapping_sub(self.first))) {
            Some(slot) => slot.complete(chain, written).map_err(|error| Fault::Queue { queue: q, error }),
            None => {
                chain.discard();
                Ok(())
            }
        }
    }

    /// Pops buffers of one piece of queue `q` onto the end of `burst`, until it holds `up_to`, and says what is next: for handlers that work
    /// on many at a time. They are not counted in the budget: keep to one of your own.
    ///
    /// # Errors
    /// If the driver broke the rules of the queue.
    #[inline]
    pub fn pop_burst(&mut self, q: u16, burst: &mut Burst, up_to: usize) -> Result<Next, Fault> {
        match self.slots.get_mut(usize::from(q.wrapping_sub(self.first))) {
            Some(slot) if !slot.is_closed() => {
                slot.pop_burst(burst, up_to).map_err(|error| Fault::Queue { queue: q, error })
            }
            _ => Ok(Next::Nothing),
        }
    }

    /// The first buffer of a burst of queue `q`, as [`pop`](Self::pop) would have given it: for one that takes more care.
    #[inline]
    pub fn chain_of(&mut self, q: u16, burst: &mut Burst) -> Option<Chain> {
        self.slots.get_mut(usize::from(q.wrapping_sub(self.first)))?.chain_of(burst)
    }

    /// Gives back the first `count` buffers of a burst of queue `q`, with what was marked as written. The driver sees them after this
    /// wake. Those of a queue that has gone are dropped: the driver has taken them back.
    ///
    /// # Errors
    /// If the queue has met a fault.
    #[inline]
    pub fn complete_burst(&mut self, q: u16, burst: &mut Burst, count: usize) -> Result<(), Fault> {
        match self.slots.get_mut(usize::from(q.wrapping_sub(self.first))) {
            Some(slot) => slot.complete_burst(burst, count).map_err(|error| Fault::Queue { queue: q, error }),
            None => {
                burst.discard();
                Ok(())
            }
        }
    }

    /// Serves all that is available in queue `q`, as far as the budget allows: for devices that answer each request at once.
    /// `request` returns the number of bytes it has written. A buffer too short for it is completed with 0.
    ///
    /// # Errors
    /// If the driver broke the rules of the queue, or a buffer is not in accessible memory.
    pub fn serve<F>(&mut self, q: u16, mut request: F) -> Result<(), Fault>
    where
        F: FnMut(&Chain) -> Result<u32, BufferError>,
    {
        while let Some(chain) = self.pop(q)? {
            let written = match request(&chain) {
                Ok(written) => written,
                Err(BufferError::Short { .. }) => 0,
                Err(BufferError::Memory(fault)) => {
                    self.complete(q, chain, 0)?;
                    return Err(Fault::Memory(fault));
                }
            };
            self.complete(q, chain, written)?;
        }
        Ok(())
    }

    /// Size in descriptors of queue `q`, while it runs.
    #[must_use]
    pub fn queue_size(&self, q: u16) -> Option<u16> {
        self.slots.get(usize::from(q.wrapping_sub(self.first)))?.queue_size()
    }

    /// Wakes this handler with [`Wake::Kick`] once queue `q` has an available buffer. [`pop`](Self::pop) and
    /// [`pop_burst`](Self::pop_burst) do this by themselves when they find none.
    #[inline]
    pub fn expect_kick(&mut self, q: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(q.wrapping_sub(self.first))) {
            slot.expect_kick();
        }
    }

    /// The same, and buffers of the handler's other queues do not wake it, until it expects or [pops](Self::pop) them: for one that
    /// could do nothing with them.
    #[inline]
    pub fn expect_kick_only(&mut self, q: u16) {
        self.slots.iter_mut().for_each(Slot::expect_no_kick);
        self.expect_kick(q);
    }

    /// Wakes this handler with [`Wake::Source`] when `fd` becomes ready. The handler keeps `fd` open until it calls
    /// [`unwatch`](Self::unwatch). Watching it again changes `id` and `interest`.
    ///
    /// # Errors
    /// If the system cannot wait for this kind of file, or has no memory left.
    pub fn watch(&mut self, fd: impl AsFd, id: SourceId, interest: Interest) -> io::Result<()> {
        self.sources.watch(fd.as_fd(), Token::Source(id), interest)
    }

    /// Ends [`watch`](Self::watch).
    ///
    /// # Errors
    /// If `fd` was not watched.
    pub fn unwatch(&mut self, fd: impl AsFd) -> io::Result<()> {
        self.sources.unwatch(fd.as_fd())
    }

    /// Tells the driver that configuration bytes have changed. The model shows the new ones already.
    pub fn config_changed(&self) {
        self.events.config_changed();
    }
}
