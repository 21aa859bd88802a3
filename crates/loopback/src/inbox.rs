//! Where a device's interrupts arrive: the part of an interrupt controller that one driver sees.

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vioduct_pci::{InterruptSink, Level, MsiMessage};
use vioduct_virtio_device::TransportInterrupts;
use vioduct_virtio_driver::Interrupts;

use crate::traffic::{Crossing, InterruptKind, Recorder};

/// Where messages are sent to.
pub(crate) const MESSAGE_ADDRESS: u64 = 0xfee0_0000;

/// Interrupts of one device that its driver has not taken yet. The device may raise them from any thread.
pub(crate) struct Inbox {
    recorder: Arc<Recorder>,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting {
    calls: Interrupts,
    messages: Vec<u16>,
    line: bool,
    /// Interrupts since the last wait.
    unseen: u64,
}

impl Inbox {
    pub(crate) fn new(recorder: Arc<Recorder>) -> Self {
        Self { recorder, waiting: Mutex::default(), arrived: Condvar::new() }
    }

    /// What was called where there are no registers, which is taken by asking.
    pub(crate) fn take_calls(&self) -> Interrupts {
        mem::take(&mut self.lock().calls)
    }

    /// The vectors of the messages that came, oldest first, which are taken by asking.
    pub(crate) fn take_messages(&self) -> Vec<u16> {
        mem::take(&mut self.lock().messages)
    }

    /// Whether the line is high.
    pub(crate) fn line(&self) -> bool {
        self.lock().line
    }

    /// Whether anything is there that the driver has not taken.
    pub(crate) fn is_pending(&self) -> bool {
        let Waiting { calls, messages, line, unseen: _ } = &*self.lock();
        calls.queue || calls.config || !messages.is_empty() || *line
    }

    /// Returns when an interrupt comes that no earlier wait has seen, and after `limit` at the latest; whether one came.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let waiting = self.lock();
        let outcome = self.arrived.wait_timeout_while(waiting, limit, |waiting| waiting.unseen == 0);
        let (mut waiting, _) = outcome.unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut waiting.unseen) > 0
    }

    /// Forgets the calls, as when the driver starts over.
    pub(crate) fn clear_calls(&self) {
        self.lock().calls = Interrupts::default();
    }

    pub(crate) fn set_line(&self, level: Level) {
        let high = level == Level::Asserted;
        let was_high = mem::replace(&mut self.lock().line, high);
        if high && !was_high {
            self.raise(InterruptKind::Line, |_| {});
        }
    }

    fn raise(&self, kind: InterruptKind, change: impl FnOnce(&mut Waiting)) {
        self.recorder.record(Crossing::Interrupt(kind));
        let mut waiting = self.lock();
        change(&mut waiting);
        waiting.unseen += 1;
        drop(waiting);
        self.arrived.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TransportInterrupts for Inbox {
    fn queue(&self, q: u16) {
        self.raise(InterruptKind::Queue(q), |waiting| waiting.calls.queue = true);
    }

    fn config(&self) {
        self.raise(InterruptKind::Config, |waiting| waiting.calls.config = true);
    }
}

impl InterruptSink for Inbox {
    fn msi(&self, _vector: u16, message: MsiMessage) {
        match (message.address, u16::try_from(message.data)) {
            (MESSAGE_ADDRESS, Ok(vector)) => {
                self.raise(InterruptKind::Message { vector }, |waiting| waiting.messages.push(vector));
            }
            _ => self.recorder.record(Crossing::Interrupt(InterruptKind::Lost)),
        }
    }

    fn intx(&self, level: Level) {
        self.set_line(level);
    }
}
