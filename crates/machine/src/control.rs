//! [`Control`]: how a machine comes to its end, and who wants it to.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// How a machine ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The guest switched itself off.
    PowerOff,
    /// The guest wants to start again.
    Reset,
    /// It was stopped from outside.
    Stopped,
    /// The guest, or KVM, came to a state from which it does not go on; in words.
    Crashed(String),
}

/// What ends a machine, once. Cheap to clone, usable from any thread.
#[derive(Clone, Default)]
pub(crate) struct Control(Arc<Shared>);

#[derive(Default)]
struct Shared {
    outcome: Mutex<Option<Outcome>>,
    ended: Condvar,
}

impl Control {
    /// It is over; what came first counts.
    pub(crate) fn end(&self, outcome: Outcome) {
        let mut slot = self.0.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(outcome);
        self.0.ended.notify_all();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.outcome.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Waits for the end.
    pub(crate) fn wait(&self) -> Outcome {
        let mut slot = self.0.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(outcome) = slot.clone() {
                return outcome;
            }
            slot = self.0.ended.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Stops a machine, from any thread.
#[derive(Clone)]
pub struct Stopper(pub(crate) Control);

impl Stopper {
    /// Stops the processors; [`Machine::run`](crate::Machine::run) returns [`Outcome::Stopped`].
    pub fn stop(&self) {
        self.0.end(Outcome::Stopped);
    }
}
