//! [`Events`]: what a device reports of itself, passed on to the front-end.

use crate::channel::{Channel, Notice};
use crate::notify::Signaller;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use vioduct_virtio_device::{HostEvents, RateLimit};

/// Takes a device's events from any thread.
pub(crate) struct Events {
    device: &'static str,
    channel: Arc<Channel>,
    failed: AtomicBool,
    /// The error descriptor of each ring.
    errors: Mutex<Vec<Option<Signaller>>>,
    log: RateLimit,
}

impl Events {
    pub(crate) fn new(device: &'static str, rings: usize, channel: Arc<Channel>) -> Self {
        let errors = Mutex::new((0..rings).map(|_| None).collect());
        Self { device, channel, failed: AtomicBool::new(false), errors, log: RateLimit::default() }
    }

    /// Whether the device has stopped until it is reset.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The device has been reset.
    pub(crate) fn recover(&self) {
        self.failed.store(false, Ordering::Release);
    }

    pub(crate) fn set_error(&self, ring: u16, fd: Option<Signaller>) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = errors.get_mut(usize::from(ring)) {
            *place = fd;
        }
    }
}

impl HostEvents for Events {
    fn config_changed(&self) {
        self.channel.post(Notice::ConfigChange);
    }

    /// A fault stops the whole device, so every ring has the error.
    fn needs_reset(&self, reason: &dyn Display) {
        self.failed.store(true, Ordering::Release);
        if let Some(suppressed) = self.log.admit() {
            tracing::warn!(device = self.device, suppressed, "the device needs a reset: {reason}");
        }
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        for (ring, error) in (0..).zip(errors.iter()) {
            match error {
                Some(fd) => fd.signal(),
                None => {
                    self.channel.post(Notice::Error(ring));
                }
            }
        }
    }
}
