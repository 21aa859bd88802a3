//! Where a queue lies in memory, and where each side stands in it.

use crate::memory::IoAddr;
use vioduct_spec::{Features, ring};

/// The two layouts of a virtqueue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum RingFormat {
    /// Descriptor table, available ring, used ring (virtio 1.3 §2.7).
    Split,
    /// One descriptor ring that both sides write (virtio 1.3 §2.8).
    Packed,
}

impl RingFormat {
    /// The layout that negotiated features select (virtio 1.3 §6, `RING_PACKED`).
    #[must_use]
    pub const fn of(negotiated: Features) -> Self {
        if negotiated.contains(Features::RING_PACKED) { Self::Packed } else { Self::Split }
    }
}

/// Size and place of a virtqueue's three areas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingLayout {
    /// Number of descriptors: 1 to 32768, a power of two for split rings.
    pub size: u16,
    /// Descriptor table (split) or descriptor ring (packed), 16-byte aligned.
    pub descriptor_area: IoAddr,
    /// Available ring (split, 2-byte aligned) or driver event suppression (packed, 4-byte aligned).
    pub driver_area: IoAddr,
    /// Used ring (split) or device event suppression (packed), 4-byte aligned.
    pub device_area: IoAddr,
}

/// Length and alignment of the three areas, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AreaSizes {
    /// Length of the descriptor area; its alignment is 16.
    pub descriptor_len: usize,
    /// Length of the driver area.
    pub driver_len: usize,
    /// Alignment of the driver area.
    pub driver_align: u64,
    /// Length of the device area; its alignment is 4.
    pub device_len: usize,
}

impl AreaSizes {
    /// The areas of a queue of `size` descriptors (virtio 1.3 §2.7, §2.8.10.1).
    #[must_use]
    pub const fn of(format: RingFormat, size: u16) -> Self {
        match format {
            RingFormat::Split => Self {
                descriptor_len: ring::split::descriptor_area_len(size),
                driver_len: ring::split::driver_area_len(size),
                driver_align: ring::split::DRIVER_AREA_ALIGN,
                device_len: ring::split::device_area_len(size),
            },
            RingFormat::Packed => Self {
                descriptor_len: ring::packed::descriptor_area_len(size),
                driver_len: ring::packed::EVENT_AREA_LEN,
                driver_align: ring::packed::EVENT_AREA_ALIGN,
                device_len: ring::packed::EVENT_AREA_LEN,
            },
        }
    }

    /// Bytes that hold all three areas, one after the other, the first of them 16-byte aligned.
    #[must_use]
    pub const fn total_len(self) -> usize {
        self.device_offset() + self.device_len
    }

    /// Offset of the driver area when the three lie one after the other.
    #[must_use]
    pub const fn driver_offset(self) -> usize {
        self.descriptor_len
    }

    /// Offset of the device area when the three lie one after the other, in a cache line of its own: the two ends write
    /// different lines.
    #[must_use]
    pub const fn device_offset(self) -> usize {
        (self.descriptor_len + self.driver_len).next_multiple_of(64)
    }
}

/// Whether a queue can have `size` descriptors (virtio 1.3 §2.7: a power of two; §2.8.10.1: any up to 2^15).
#[must_use]
pub const fn is_valid_size(format: RingFormat, size: u16) -> bool {
    size >= 1
        && size <= ring::MAX_QUEUE_SIZE
        && match format {
            RingFormat::Split => size.is_power_of_two(),
            RingFormat::Packed => true,
        }
}

/// A place in a ring. Split: `index` counts freely modulo 2^16 and `wrap` means nothing. Packed: `index` is below the queue size
/// and `wrap` is the wrap counter (virtio 1.3 §2.8.1), initially [`Wrap::Set`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct RingIndex {
    /// Descriptor or entry index.
    pub index: u16,
    /// Wrap counter.
    pub wrap: Wrap,
}

/// A ring wrap counter: one bit (virtio 1.3 §2.8.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Wrap {
    /// The counter is 0.
    Clear,
    /// The counter is 1, as at the start.
    Set,
}

impl Wrap {
    /// 0 or 1.
    #[must_use]
    pub const fn bit(self) -> u16 {
        match self {
            Self::Clear => 0,
            Self::Set => 1,
        }
    }

    /// The counter from a bit; any value but 0 is 1.
    #[must_use]
    pub const fn from_bit(bit: u16) -> Self {
        if bit == 0 { Self::Clear } else { Self::Set }
    }

    /// The other value.
    #[must_use]
    pub const fn flipped(self) -> Self {
        match self {
            Self::Clear => Self::Set,
            Self::Set => Self::Clear,
        }
    }
}

impl RingIndex {
    /// Where every ring starts.
    pub const START: Self = Self { index: 0, wrap: Wrap::Set };

    /// Offset in bits 0 to 14 and wrap counter in bit 15, as event suppression structures, notification data and the vhost
    /// ring base have it (virtio 1.3 §2.8.10, §2.9).
    #[must_use]
    pub const fn to_packed_word(self) -> u16 {
        self.index & 0x7fff | self.wrap.bit() << 15
    }

    /// The inverse of [`to_packed_word`](Self::to_packed_word).
    #[must_use]
    pub const fn from_packed_word(word: u16) -> Self {
        Self { index: word & 0x7fff, wrap: Wrap::from_bit(word >> 15) }
    }

    /// This place, `count` (at most `size`) descriptors further in a packed ring of `size`.
    #[must_use]
    #[inline]
    pub const fn packed_advance(self, count: u16, size: u16) -> Self {
        let next = self.index as u32 + count as u32;
        if next >= size as u32 {
            Self { index: (next - size as u32) as u16, wrap: self.wrap.flipped() }
        } else {
            Self { index: next as u16, wrap: self.wrap }
        }
    }
}

/// Where the device end stands: enough to stop a queue on one device end and resume it on another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct QueuePosition {
    /// Next place where a buffer will be made available.
    pub available: RingIndex,
    /// Next place where a buffer will be marked used.
    pub used: RingIndex,
}

impl QueuePosition {
    /// A queue that has not run yet.
    pub const START: Self = Self { available: RingIndex::START, used: RingIndex::START };
}
