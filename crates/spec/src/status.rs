//! The device status field (virtio 1.3 §2.1).

use core::fmt;
use core::ops::BitOr;

/// Bits of the device status field; zero is "reset".
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Status(pub u8);

impl Status {
    /// Nothing set: the device is, or is being, reset.
    pub const RESET: Self = Self(0);
    /// The driver has found the device.
    pub const ACKNOWLEDGE: Self = Self(1);
    /// The driver knows how to drive it.
    pub const DRIVER: Self = Self(2);
    /// The driver is ready; queues may be used.
    pub const DRIVER_OK: Self = Self(4);
    /// Feature negotiation is complete, if it still reads as set.
    pub const FEATURES_OK: Self = Self(8);
    /// The device has met an error from which only a reset recovers.
    pub const NEEDS_RESET: Self = Self(64);
    /// The driver has given the device up.
    pub const FAILED: Self = Self(128);

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The union.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The bits of this value that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Status {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

const NAMES: [(Status, &str); 6] = [
    (Status::ACKNOWLEDGE, "ACKNOWLEDGE"),
    (Status::DRIVER, "DRIVER"),
    (Status::DRIVER_OK, "DRIVER_OK"),
    (Status::FEATURES_OK, "FEATURES_OK"),
    (Status::NEEDS_RESET, "NEEDS_RESET"),
    (Status::FAILED, "FAILED"),
];

impl fmt::Display for Status {
    /// The set bits by name, joined by ` | `; `reset` for zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("reset");
        }
        let mut separator = "";
        for (bit, name) in NAMES {
            if self.contains(bit) {
                write!(f, "{separator}{name}")?;
                separator = " | ";
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Status({:#x}: {self})", self.0)
    }
}
