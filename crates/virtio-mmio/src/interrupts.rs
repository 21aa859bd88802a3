//! The interrupt status and the line that it drives (virtio 1.3 §4.2.2, `InterruptStatus` and `InterruptACK`).

use std::sync::{Mutex, PoisonError};
use vioduct_spec::mmio::{INTERRUPT_CONFIG, INTERRUPT_QUEUE};
use vioduct_virtio_device::TransportInterrupts;

/// The level of an interrupt line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// No event is unacknowledged.
    Low,
    /// Some event is.
    High,
}

/// The interrupt line that the machine gives to a window.
pub trait InterruptLine: Send + Sync {
    /// The line is at `level` from now on. Called from any thread, one call at a time, and only when the level changes. It must
    /// not access the window.
    fn set(&self, level: Level);
}

pub(crate) struct Interrupts {
    /// Locked while the line is set, so that the line and the status never part.
    status: Mutex<u8>,
    line: Box<dyn InterruptLine>,
}

impl Interrupts {
    pub(crate) fn new(line: Box<dyn InterruptLine>) -> Self {
        Self { status: Mutex::new(0), line }
    }

    pub(crate) fn status(&self) -> u8 {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Clears the bits of `mask`; others stay.
    pub(crate) fn acknowledge(&self, mask: u8) {
        self.change(|status| status & !mask);
    }

    /// Takes over a saved status, in place of what is there.
    pub(crate) fn restore(&self, status: u8) {
        self.change(|_| status);
    }

    fn change(&self, new: impl FnOnce(u8) -> u8) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, after) = (*status, new(*status));
        *status = after;
        if (before == 0) != (after == 0) {
            self.line.set(if after == 0 { Level::Low } else { Level::High });
        }
    }
}

impl TransportInterrupts for Interrupts {
    fn queue(&self, _q: u16) {
        self.change(|status| status | INTERRUPT_QUEUE);
    }
    fn config(&self) {
        self.change(|status| status | INTERRUPT_CONFIG);
    }
}
