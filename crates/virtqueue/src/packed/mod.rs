//! The packed layout (virtio 1.3 §2.8): one ring of descriptors that both sides write.

pub(crate) mod device;
pub(crate) mod driver;

use crate::area::{Area, LINE};
use crate::layout::Wrap;
use vioduct_spec::ring::{DESC_F_AVAIL, DESC_F_USED, DESCRIPTOR_SIZE};

/// Descriptors in a cache line.
const PER_LINE: usize = LINE / DESCRIPTOR_SIZE;

/// For whoever takes the descriptor at `index`, where a cache line begins: the other side's processor has those that follow, which are on their
/// way from now on. Those before were taken, and are written soon.
#[inline(always)]
fn fetch_around<A: Area>(descriptors: &A, index: usize) {
    if index.is_multiple_of(PER_LINE) {
        let at = index * DESCRIPTOR_SIZE;
        descriptors.fetch_to_read(at + LINE);
        descriptors.fetch_to_read(at + 2 * LINE);
        descriptors.fetch_to_write(at.wrapping_sub(LINE));
    }
}

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
