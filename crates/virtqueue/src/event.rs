//! When a side wants to be notified (virtio 1.3 §2.7.7.2, §2.7.10, §2.8.10).

use crate::area::Area;
use crate::layout::RingIndex;
use crate::memory::MemoryFault;
use core::sync::atomic::Ordering;
use vioduct_spec::ring::packed::{
    EVENT_DESC, EVENT_F_DESC, EVENT_F_DISABLE, EVENT_F_ENABLE, EVENT_F_MASK, EVENT_FLAGS,
};

/// Whether going from `old` to `new` passed `event` (virtio 1.3 §2.7.7.2, §2.7.10.1; modulo 2^16).
#[inline]
pub(crate) const fn passed(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

/// What one side of a packed ring asks for in its event suppression structure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    Always,
    Never,
    At(RingIndex),
}

impl Wanted {
    /// Reads the other side's structure. The flags come first: they are written last.
    #[inline]
    pub(crate) fn load<A: Area>(area: &A) -> Result<Self, MemoryFault> {
        Ok(match area.load_u16(EVENT_FLAGS, Ordering::Acquire)? & EVENT_F_MASK {
            EVENT_F_DISABLE => Self::Never,
            EVENT_F_DESC => {
                Self::At(RingIndex::from_packed_word(area.load_u16(EVENT_DESC, Ordering::Relaxed)?))
            }
            // The reserved value too: a notification too many does no harm.
            _ => Self::Always,
        })
    }

    /// Writes this side's structure.
    #[inline]
    pub(crate) fn store<A: Area>(self, area: &A) -> Result<(), MemoryFault> {
        let flags = match self {
            Self::Always => EVENT_F_ENABLE,
            Self::Never => EVENT_F_DISABLE,
            Self::At(place) => {
                area.store_u16(EVENT_DESC, place.to_packed_word(), Ordering::Relaxed)?;
                EVENT_F_DESC
            }
        };
        area.store_u16(EVENT_FLAGS, flags, Ordering::Release)
    }

    /// Whether a side that has moved `moved` descriptors, to `now`, must notify.
    #[inline]
    pub(crate) fn reached(self, now: RingIndex, moved: u16, size: u16) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            // A place of a lap before is like one of this lap. A notification too many does no harm.
            Self::At(_) if moved > size => true,
            Self::At(event) => {
                // One lap behind in the same 16-bit arithmetic that indices without wrap counters use.
                let lap = if event.wrap == now.wrap { 0 } else { size };
                passed(event.index.wrapping_sub(lap), now.index, now.index.wrapping_sub(moved))
            }
        }
    }
}
