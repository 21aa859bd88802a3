//! What a queue has done, readable while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread counts up and any reads.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// One thread counts, so this needs no locked instruction.
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct QueueCounters {
    pub(crate) wakes: Counter,
    pub(crate) chains: Counter,
    pub(crate) exhausted: Counter,
    pub(crate) kicks: Counter,
    pub(crate) signals: Counter,
    pub(crate) suppressed: Counter,
}

impl QueueCounters {
    pub(crate) fn read(&self) -> QueueStats {
        let Self { wakes, chains, exhausted, kicks, signals, suppressed } = self;
        QueueStats {
            wakes: wakes.get(),
            chains: chains.get(),
            exhausted: exhausted.get(),
            kicks: kicks.get(),
            signals: signals.get(),
            suppressed: suppressed.get(),
        }
    }
}

/// What a queue has done since its device was created.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueStats {
    /// Wakes of the handler for this queue.
    pub wakes: u64,
    /// Buffers that the handler has taken with [`Io::pop`](crate::Io::pop).
    pub chains: u64,
    /// Wakes that ended with the work budget spent.
    pub exhausted: u64,
    /// Notifications that came by eventfd; far fewer than buffers, if suppression works.
    pub kicks: u64,
    /// Used-buffer notifications sent.
    pub signals: u64,
    /// Batches of used buffers that the driver did not want to be notified of.
    pub suppressed: u64,
}

/// Reads what the queues of a device have done, from any thread, for as long as it is kept.
#[derive(Clone, Debug)]
pub struct Meter(Vec<Arc<QueueCounters>>);

impl Meter {
    pub(crate) fn new(counters: &[Arc<QueueCounters>]) -> Self {
        Self(counters.to_vec())
    }

    /// What queue `q` has done; `None` if the device has no such queue.
    #[must_use]
    pub fn read(&self, q: u16) -> Option<QueueStats> {
        self.0.get(usize::from(q)).map(|counters| counters.read())
    }
}
