//! Feature bits (virtio 1.3 §2.2 and §6) and the set type that carries them.

use core::fmt;
use core::ops::{BitAnd, BitOr, BitOrAssign};

/// A set of feature bits 0 to 63 (virtio 1.3 §2.2): offered by a device, or acknowledged by a driver.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Features(pub u64);

impl Features {
    /// No feature at all.
    pub const NONE: Self = Self(0);
    /// Descriptors may refer to tables of descriptors (virtio 1.3 §2.7.5.3).
    pub const INDIRECT_DESC: Self = Self::bit(28);
    /// Notifications are suppressed by event indices (virtio 1.3 §2.7.7, §2.7.8, §2.8.10).
    pub const EVENT_IDX: Self = Self::bit(29);
    /// The device follows version 1 or later of the specification (virtio 1.3 §6.1).
    pub const VERSION_1: Self = Self::bit(32);
    /// The device's view of memory is translated or limited by the platform (virtio 1.3 §6).
    pub const ACCESS_PLATFORM: Self = Self::bit(33);
    /// Virtqueues are packed (virtio 1.3 §2.8).
    pub const RING_PACKED: Self = Self::bit(34);
    /// Buffers are used in the order in which they were made available (virtio 1.3 §2.7.9, §2.8.14).
    pub const IN_ORDER: Self = Self::bit(35);
    /// Memory is ordered by the platform's rules for real devices (virtio 1.3 §6).
    pub const ORDER_PLATFORM: Self = Self::bit(36);
    /// The PCI function supports single-root I/O virtualization (virtio 1.3 §6).
    pub const SR_IOV: Self = Self::bit(37);
    /// Notifications carry the queue's position (virtio 1.3 §2.9).
    pub const NOTIFICATION_DATA: Self = Self::bit(38);
    /// Notifications carry a device-chosen identifier (virtio 1.3 §4.1.5.2).
    pub const NOTIF_CONFIG_DATA: Self = Self::bit(39);
    /// A single queue can be reset (virtio 1.3 §2.6.1).
    pub const RING_RESET: Self = Self::bit(40);
    /// The bits which concern the ring and the transport, not one device type (virtio 1.3 §2.2: 24 to 41 at this revision).
    pub const RESERVED: Self = Self(((1 << 42) - 1) & !((1 << 24) - 1));
    /// The bits whose meaning the device type gives (virtio 1.3 §2.2).
    pub const DEVICE_TYPE: Self = Self(!Self::RESERVED.0);
    /// The reserved bits that this project's queues implement, in both layouts.
    pub const RING: Self = Self(
        Self::INDIRECT_DESC.0
            | Self::EVENT_IDX.0
            | Self::RING_PACKED.0
            | Self::IN_ORDER.0
            | Self::VERSION_1.0,
    );

    /// The set with the single bit `number` (0 to 63; a higher number gives the empty set).
    #[must_use]
    pub const fn bit(number: u32) -> Self {
        match 1u64.checked_shl(number) {
            Some(bits) => Self(bits),
            None => Self::NONE,
        }
    }

    /// Whether every bit of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits of this set that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The union, usable in constants.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether no bit is set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The 32 bits that a transport shows for a feature-select value; beyond the set they read as zero
    /// (virtio 1.3 §4.1.4.3, §4.2.2).
    #[must_use]
    pub const fn word(self, select: u32) -> u32 {
        match select {
            0 => self.0 as u32,
            1 => (self.0 >> 32) as u32,
            _ => 0,
        }
    }

    /// This set with the 32 bits at `select` replaced; a select value beyond the set changes nothing.
    #[must_use]
    pub const fn with_word(self, select: u32, word: u32) -> Self {
        match select {
            0 => Self(self.0 & !0xffff_ffff | word as u64),
            1 => Self(self.0 & 0xffff_ffff | (word as u64) << 32),
            _ => self,
        }
    }
}

impl BitOr for Features {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Features {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for Features {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

const NAMES: [(Features, &str); 11] = [
    (Features::INDIRECT_DESC, "INDIRECT_DESC"),
    (Features::EVENT_IDX, "EVENT_IDX"),
    (Features::VERSION_1, "VERSION_1"),
    (Features::ACCESS_PLATFORM, "ACCESS_PLATFORM"),
    (Features::RING_PACKED, "RING_PACKED"),
    (Features::IN_ORDER, "IN_ORDER"),
    (Features::ORDER_PLATFORM, "ORDER_PLATFORM"),
    (Features::SR_IOV, "SR_IOV"),
    (Features::NOTIFICATION_DATA, "NOTIFICATION_DATA"),
    (Features::NOTIF_CONFIG_DATA, "NOTIF_CONFIG_DATA"),
    (Features::RING_RESET, "RING_RESET"),
];

impl fmt::Display for Features {
    /// Names of the reserved bits, `bit N` for those of a device type, joined by ` | `; `none` for the empty set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let mut separator = "";
        for number in 0..64 {
            let bit = Self::bit(number);
            if !self.contains(bit) {
                continue;
            }
            f.write_str(separator)?;
            separator = " | ";
            match NAMES.iter().find(|(named, _)| *named == bit) {
                Some((_, name)) => f.write_str(name)?,
                None => write!(f, "bit {number}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Features({:#x}: {self})", self.0)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::Features;
    use std::string::ToString;

    #[test]
    fn words_select_halves_and_nothing_beyond() {
        let set = Features::VERSION_1 | Features::bit(3);
        assert_eq!((set.word(0), set.word(1), set.word(2)), (8, 1, 0));
        assert_eq!(Features::NONE.with_word(1, 1).with_word(0, 8).with_word(7, !0), set);
    }

    #[test]
    fn display_names_reserved_bits() {
        assert_eq!((Features::VERSION_1 | Features::bit(5)).to_string(), "bit 5 | VERSION_1");
        assert_eq!(Features::NONE.to_string(), "none");
    }
}
