//! [`Port`]: what the card is plugged into; and what a card shares with whoever serves its queues.

use crate::cable::Cable;
use crate::filter::Filter;
use crate::handler::PairHandler;
use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vioduct_virtio_device::{Features, QueueHandler, RateLimit};

/// What a network card is plugged into.
pub trait Port: Send + Sync {
    /// The features of the device type that it makes possible: offloads.
    fn features(&self) -> Features;

    /// Pairs of queues that it can serve, at least 1.
    fn pairs(&self) -> u16;

    /// What serves this pair of queues.
    fn handler(&self, pair: Pair) -> Box<dyn QueueHandler>;

    /// Becomes readable when the port may be gone, where nobody here takes its packets and would find out.
    fn news(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Takes the [`news`](Self::news), and looks whether the port is there.
    fn hear(&self) -> Presence {
        Presence::There
    }

    /// The driver takes these offloads now, which are features that the port has.
    ///
    /// # Errors
    /// Of the system; the port goes on as before.
    fn set_offloads(&self, _taken: Features) -> io::Result<()> {
        Ok(())
    }

    /// The driver uses this many pairs of queues now: no packet goes to the others any more.
    ///
    /// # Errors
    /// Of the system; the port goes on as before.
    fn set_pairs(&self, _count: u16) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a port is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// It is.
    There,
    /// It was taken away, for good.
    Gone,
}

/// A pair of queues, for a port to serve.
pub struct Pair {
    /// Which, counted from 0.
    pub(crate) number: u16,
    pub(crate) negotiated: Features,
    pub(crate) shared: Arc<Shared>,
    /// Whether this pair's handler tells the driver of changes of the cable, there being no control queue whose would.
    pub(crate) tells: Tells,
}

impl Pair {
    /// What serves it over packets of `port`, which does not block: each is read and written whole, behind the header of virtio 1.3
    /// §5.1.6.
    #[must_use]
    pub fn serve(self, port: Arc<OwnedFd>) -> Box<dyn QueueHandler> {
        Box::new(PairHandler::new(self, port))
    }
}

/// Who tells the driver of changes of the cable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tells {
    /// Whoever has this.
    Here,
    /// Somebody else, or nobody: the driver does not know of it.
    Elsewhere,
}

/// What the model of a card and its handlers share.
pub(crate) struct Shared {
    pub(crate) cable: Cable,
    filter: Mutex<Filter>,
    /// Offloads that the driver takes.
    offloads: AtomicU64,
    /// Pairs of queues that it uses.
    pairs: AtomicU16,
    pub(crate) sent_dropped: AtomicU64,
    pub(crate) received_dropped: AtomicU64,
    log: RateLimit,
}

impl Shared {
    pub(crate) fn new(cable: Cable, filter: Filter) -> Self {
        Self {
            cable,
            filter: Mutex::new(filter),
            offloads: AtomicU64::new(0),
            pairs: AtomicU16::new(1),
            sent_dropped: AtomicU64::new(0),
            received_dropped: AtomicU64::new(0),
            log: RateLimit::default(),
        }
    }

    pub(crate) fn filter(&self) -> MutexGuard<'_, Filter> {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn offloads(&self) -> Features {
        Features(self.offloads.load(Ordering::Acquire))
    }

    pub(crate) fn set_offloads(&self, taken: Features) {
        self.offloads.store(taken.0, Ordering::Release);
    }

    pub(crate) fn pairs(&self) -> u16 {
        self.pairs.load(Ordering::Acquire)
    }

    pub(crate) fn set_pairs(&self, count: u16) {
        self.pairs.store(count, Ordering::Release);
    }

    /// A packet that the driver sent went nowhere.
    pub(crate) fn drop_sent(&self, why: impl fmt::Display) {
        self.sent_dropped.fetch_add(1, Ordering::Relaxed);
        self.say(format_args!("a packet of the driver's is dropped: {why}"));
    }

    /// A packet for the driver did not reach it.
    pub(crate) fn drop_received(&self, why: impl fmt::Display) {
        self.received_dropped.fetch_add(1, Ordering::Relaxed);
        self.say(format_args!("a packet for the driver is dropped: {why}"));
    }

    /// A line of the log, if there were not too many.
    pub(crate) fn say(&self, what: fmt::Arguments<'_>) {
        if let Some(suppressed) = self.log.admit() {
            tracing::warn!(device = "net", suppressed, "{what}");
        }
    }
}
