//! The packed layout (virtio 1.3 §2.8): one ring of descriptors that both sides write.

pub(crate) mod device;
pub(crate) mod driver;

use crate::layout::Wrap;
use vioduct_spec::ring::{DESC_F_AVAIL, DESC_F_USED};

/// virtio 1.3 §2.8.1: available when `AVAIL` equals the driver's wrap counter and `USED` does not.
#[inline(always)]
pub(crate) const fn is_available(flags: u16, wrap: Wrap) -> bool {
    flags & (DESC_F_AVAIL | DESC_F_USED) == available_bits(wrap)
}

/// virtio 1.3 §2.8.1: used when both bits equal the device's wrap counter.
#[inline(always)]
pub(crate) const fn is_used(flags: u16, wrap: Wrap) -> bool {
    flags & (DESC_F_AVAIL | DESC_F_USED) == used_bits(wrap)
}

#[inline(always)]
pub(crate) const fn available_bits(wrap: Wrap) -> u16 {
    match wrap {
        Wrap::Set => DESC_F_AVAIL,
        Wrap::Clear => DESC_F_USED,
    }
}

#[inline(always)]
pub(crate) const fn used_bits(wrap: Wrap) -> u16 {
    match wrap {
        Wrap::Set => DESC_F_AVAIL | DESC_F_USED,
        Wrap::Clear => 0,
    }
}
