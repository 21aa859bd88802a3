//! What may happen to an endpoint from another thread: the status bits and the generation that its back-end moves.

use crate::backend::{HostEvents, Signal};
use crate::rate_limit::RateLimit;
use std::fmt::Display;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use vioduct_spec::Status;

/// How a transport notifies the driver. The implementor is its own object, not the register decoder: it is called from any
/// thread, also while the decoder is at work.
pub trait TransportInterrupts: Send + Sync {
    /// Queue `q` has used buffers (virtio 1.3 §2.3).
    fn queue(&self, q: u16);

    /// The configuration, or the status, has changed.
    fn config(&self);

    /// An eventfd whose increment is as good as [`queue`](Self::queue), as things stand: for back-ends outside of this process,
    /// which ask when a queue starts.
    fn queue_eventfd(&self, _q: u16) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// The part of an endpoint that its back-end reaches.
pub(super) struct Events {
    device: &'static str,
    status: AtomicU8,
    generation: AtomicU32,
    interrupts: Arc<dyn TransportInterrupts>,
    log: RateLimit,
}

impl Events {
    pub(super) fn new(device: &'static str, interrupts: Arc<dyn TransportInterrupts>) -> Self {
        Self {
            device,
            status: AtomicU8::new(0),
            generation: AtomicU32::new(0),
            interrupts,
            log: RateLimit::default(),
        }
    }

    pub(super) fn status(&self) -> Status {
        Status(self.status.load(Ordering::Acquire))
    }

    /// Sets bits that the driver wrote. If the device failed before DRIVER_OK, the driver learns of it now (virtio 1.3
    /// §2.1.2: it is notified of NEEDS_RESET if DRIVER_OK is set). One atomic holds both bits, so whichever comes second sees
    /// the other and notifies.
    pub(super) fn set_status(&self, bits: Status) {
        let before = Status(self.status.fetch_or(bits.0, Ordering::AcqRel));
        if bits.contains(Status::DRIVER_OK) && before.contains(Status::NEEDS_RESET) {
            self.interrupts.config();
        }
    }

    pub(super) fn replace_status(&self, status: Status) {
        self.status.store(status.0, Ordering::Release);
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn advance_generation(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn replace_generation(&self, generation: u32) {
        self.generation.store(generation, Ordering::Release);
    }
}

impl HostEvents for Events {
    fn config_changed(&self) {
        self.advance_generation();
        // virtio 1.3 §2.1.2: nothing is sent to the driver before DRIVER_OK.
        if self.status().contains(Status::DRIVER_OK) {
            self.interrupts.config();
        }
    }

    fn needs_reset(&self, reason: &dyn Display) {
        let before = Status(self.status.fetch_or(Status::NEEDS_RESET.0, Ordering::AcqRel));
        if before.contains(Status::NEEDS_RESET) {
            return;
        }
        if let Some(suppressed) = self.log.admit() {
            tracing::warn!(device = self.device, suppressed, "the device needs a reset: {reason}");
        }
        // virtio 1.3 §2.1.2: after setting NEEDS_RESET the device must notify, if DRIVER_OK is set.
        if before.contains(Status::DRIVER_OK) {
            self.interrupts.config();
        }
    }
}

/// A queue's used-buffer notification by way of the transport.
pub(super) struct QueueInterrupt {
    pub(super) events: Arc<Events>,
    pub(super) queue: u16,
}

impl Signal for QueueInterrupt {
    fn signal(&self) {
        self.events.interrupts.queue(self.queue);
    }

    fn eventfd(&self) -> Option<BorrowedFd<'_>> {
        self.events.interrupts.queue_eventfd(self.queue)
    }
}
