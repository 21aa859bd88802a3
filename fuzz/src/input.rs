//! Takes a target's bytes apart. Past their end everything is 0, so that every input means something.

use vioduct_spec::Features;
use vioduct_virtqueue::{RingFormat, RingIndex};

/// The bytes not yet taken.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Whether anything is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Up to `len` bytes.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let taken = self.bytes(N);
        out[..taken.len()].copy_from_slice(taken);
        out
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// One byte, modulo `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.u8()) % bound
    }

    /// Length of an access: mostly what a processor does, sometimes up to 4 KiB.
    pub fn access_len(&mut self) -> usize {
        match self.u8() {
            few @ 0..=0xdf => 1 << (few % 4),
            many => usize::from(many - 0xe0) * 132,
        }
    }

    /// A place in a ring: whole for split rings, wrap counter in bit 15 for packed ones.
    pub fn ring_index(&mut self, format: RingFormat) -> RingIndex {
        let word = self.u16();
        match format {
            RingFormat::Split => RingIndex { index: word, ..RingIndex::START },
            // The wrap counter starts as 1: inverted, so that zeros are the start.
            RingFormat::Packed => RingIndex::from_packed_word(word ^ 0x8000),
        }
    }
}

/// The features that bits 0 to 2 of `bits` choose for a ring of this layout.
#[must_use]
pub fn features(format: RingFormat, bits: u8) -> Features {
    let layout = match format {
        RingFormat::Split => Features::NONE,
        RingFormat::Packed => Features::RING_PACKED,
    };
    let options = [Features::EVENT_IDX, Features::INDIRECT_DESC, Features::IN_ORDER];
    let chosen = options.into_iter().enumerate().filter(|(bit, _)| bits & 1 << bit != 0);
    chosen.fold(layout | Features::VERSION_1, |set, (_, option)| set | option)
}

/// A small valid queue size.
#[must_use]
pub fn size(format: RingFormat, byte: u8) -> u16 {
    match format {
        RingFormat::Split => 1 << (byte % 6),
        RingFormat::Packed => 1 + u16::from(byte % 33),
    }
}
