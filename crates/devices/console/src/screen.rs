//! [`Screen`]: output that waits for whoever reads it.

use crate::wire::{Sent, Wire};
use vioduct_virtio_device::RateLimit;

/// Bytes of output that wait, at most; the driver's buffers wait then.
pub const MAX_UNSENT_BYTES: usize = 64 << 10;

/// Where output goes, and what has not gone yet. It outlasts resets: what a driver has written is to be seen.
#[derive(Debug)]
pub(crate) struct Screen {
    pub(crate) wire: Wire,
    unsent: Vec<u8>,
    log: RateLimit,
}

impl Screen {
    pub(crate) fn new(wire: Wire) -> Self {
        Self { wire, unsent: Vec::new(), log: RateLimit::default() }
    }

    /// How many bytes can be added.
    pub(crate) fn room(&self) -> usize {
        MAX_UNSENT_BYTES - self.unsent.len()
    }

    /// Adds up to `room` bytes, by what `fill` makes of the memory for them: how many those are.
    pub(crate) fn add<E>(
        &mut self,
        room: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let before = self.unsent.len();
        self.unsent.resize(before + room.min(self.room()), 0);
        let filled = fill(self.unsent.get_mut(before..).unwrap_or_default());
        self.unsent.truncate(before + filled.as_ref().map_or(0, |count| *count));
        filled
    }

    /// Sends what can be sent now. Output that fails is lost: a guest is not to stop because a disk is full, or a reader gone.
    pub(crate) fn send(&mut self) {
        let mut sent = 0;
        while let Some(rest) = self.unsent.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.wire.write(rest) {
                Ok(Sent::Bytes(count)) => sent += count,
                Ok(Sent::Blocked) => break,
                Err(error) => {
                    let lost = rest.len();
                    self.say(format_args!("{lost} bytes of output are lost: {error}"));
                    sent += lost;
                }
            }
        }
        self.unsent.drain(..sent);
    }

    /// Says something in the log, sparingly.
    pub(crate) fn say(&self, what: std::fmt::Arguments<'_>) {
        if let Some(suppressed) = self.log.admit() {
            tracing::warn!(device = "console", suppressed, "{what}");
        }
    }
}
