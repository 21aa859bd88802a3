//! How much either side of a connection may send (virtio 1.3 §5.10.6.3). All counters go around.

/// Bytes that are kept for a host program that does not read: the guest's credit on each connection.
pub const BUFFER_BYTES: u32 = 128 << 10;
/// The guest is told of its credit once this much of it is new.
const WORTH_TELLING_BYTES: u32 = BUFFER_BYTES / 4;

/// The guest has sent more than it had credit for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Overdrawn;

/// The guest says it has consumed what was never sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Impossible;

/// What the guest sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct FromGuest {
    received: u32,
    /// Of which the host program has so much.
    forwarded: u32,
    /// Which the guest was told of up to here.
    told: u32,
}

impl FromGuest {
    /// Takes account of `len` bytes that have come.
    pub(crate) fn receive(&mut self, len: u32) -> Result<(), Overdrawn> {
        let kept = self.received.wrapping_sub(self.forwarded);
        if len > BUFFER_BYTES.saturating_sub(kept) {
            return Err(Overdrawn);
        }
        self.received = self.received.wrapping_add(len);
        Ok(())
    }

    /// The host program has `len` bytes more.
    pub(crate) fn forward(&mut self, len: u32) {
        self.forwarded = self.forwarded.wrapping_add(len);
    }

    /// Whether the guest should know of its credit.
    pub(crate) fn is_worth_telling(&self) -> bool {
        self.forwarded.wrapping_sub(self.told) >= WORTH_TELLING_BYTES
    }

    /// What it is told: the count of what was forwarded.
    pub(crate) fn tell(&mut self) -> u32 {
        self.told = self.forwarded;
        self.forwarded
    }
}

/// What is sent to the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct ToGuest {
    sent: u32,
    consumed: u32,
    buffer_bytes: u32,
}

impl ToGuest {
    /// The guest says how much it keeps, and how much it has consumed.
    pub(crate) fn update(&mut self, buffer_bytes: u32, consumed: u32) -> Result<(), Impossible> {
        let in_flight = self.sent.wrapping_sub(self.consumed);
        if consumed.wrapping_sub(self.consumed) > in_flight {
            return Err(Impossible);
        }
        (self.buffer_bytes, self.consumed) = (buffer_bytes, consumed);
        Ok(())
    }

    /// How much may be sent. A guest may have made its buffer smaller than what is in flight.
    pub(crate) fn room(&self) -> u32 {
        self.buffer_bytes.saturating_sub(self.sent.wrapping_sub(self.consumed))
    }

    /// So much was sent.
    pub(crate) fn send(&mut self, len: u32) {
        self.sent = self.sent.wrapping_add(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row38_credit_goes_around_and_never_below_zero() {
        let mut to = ToGuest { sent: u32::MAX - 9, consumed: u32::MAX - 9, buffer_bytes: 0 };
        to.update(100, u32::MAX - 9).unwrap();
        to.send(60);
        assert_eq!(to.room(), 40);
        to.update(30, 20).unwrap();
        assert_eq!(to.room(), 0, "30 are in flight");
        to.update(10, 20).unwrap();
        assert_eq!(to.room(), 0, "more are in flight than it keeps now");
        assert_eq!(to.update(100, 51), Err(Impossible), "one more than were sent");
        assert_eq!(to.update(100, 19), Err(Impossible), "it takes one back");
        to.update(u32::MAX, 50).unwrap();
        assert_eq!(to.room(), u32::MAX);
    }

    #[test]
    fn row38_a_guest_sends_no_more_than_is_kept() {
        let start = u32::MAX - 5;
        let mut from = FromGuest { received: start, forwarded: start, told: start };
        from.receive(BUFFER_BYTES - 1).unwrap();
        assert_eq!(from.receive(2), Err(Overdrawn));
        from.receive(1).unwrap();
        assert_eq!(from.receive(1), Err(Overdrawn));
        from.forward(WORTH_TELLING_BYTES - 1);
        assert!(!from.is_worth_telling());
        from.forward(1);
        assert!(from.is_worth_telling());
        assert_eq!(from.tell(), start.wrapping_add(WORTH_TELLING_BYTES));
        assert!(!from.is_worth_telling());
        from.receive(WORTH_TELLING_BYTES).unwrap();
        assert_eq!(from.receive(1), Err(Overdrawn));
    }
}
