//! [`Header`]: what is to be done to a packet, or has been (virtio 1.3 §5.1.6). The driver passes it through.

use crate::dma::{Dma, DmaBuffer, DmaError};
use vioduct_spec::net::{HEADER_LEN, HEADER_NUM_BUFFERS};

/// What precedes a packet. The default asks for nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// Flags, as in [`HDR_F_NEEDS_CSUM`](vioduct_spec::net::HDR_F_NEEDS_CSUM).
    pub flags: u8,
    /// Kind of segmentation, as in [`GSO_TCPV4`](vioduct_spec::net::GSO_TCPV4).
    pub gso_type: u8,
    /// Length of the packet's own headers, in bytes: a hint.
    pub hdr_len: u16,
    /// Length of a segment's payload, in bytes.
    pub gso_size: u16,
    /// Where the checksummed part starts, in bytes from the packet's start.
    pub csum_start: u16,
    /// Where in that part the checksum is, in bytes.
    pub csum_offset: u16,
}

/// A header as it lies before a packet, `num_buffers` included: two words, so that it travels in registers. Read as one thing from
/// pieces that have just been stored, it would wait for all that was stored before them (docs/decisions/0010).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Raw {
    front: u64,
    /// Its last 4 bytes: half of a word, which is stored whole, as it is loaded whole.
    back: u64,
}

/// Where the second word is.
const BACK: usize = size_of::<u64>();
const _: () = assert!(BACK + size_of::<u32>() == HEADER_LEN && HEADER_NUM_BUFFERS == BACK + 2);

impl Raw {
    /// A packet to which nothing is to be done.
    pub(super) const PLAIN: Self = Self { front: 0, back: 0 };

    /// virtio 1.3 §5.1.6.2.1: `num_buffers` of a packet that is sent is 0.
    pub(super) const fn of(header: &Header) -> Self {
        let Header { flags, gso_type, hdr_len, gso_size, csum_start, csum_offset } = *header;
        let ([a, b], [c, d], [e, f]) =
            (hdr_len.to_le_bytes(), gso_size.to_le_bytes(), csum_start.to_le_bytes());
        Self { front: u64::from_le_bytes([flags, gso_type, a, b, c, d, e, f]), back: csum_offset as u64 }
    }

    pub(super) fn read<D: Dma>(memory: &DmaBuffer<D>, offset: usize) -> Result<Self, DmaError> {
        Ok(Self {
            front: u64::from_le(memory.read_word(offset)?),
            back: u32::from_le(memory.read_word(offset + BACK)?).into(),
        })
    }

    pub(super) fn write<D: Dma>(self, memory: &mut DmaBuffer<D>, offset: usize) -> Result<(), DmaError> {
        memory.write_word(offset, self.front.to_le())?;
        memory.write_word(offset + BACK, (self.back as u32).to_le())
    }

    /// How many buffers the packet is in.
    pub(super) const fn buffers(self) -> u16 {
        (self.back >> 16) as u16
    }

    pub(super) const fn decode(self) -> Header {
        let [flags, gso_type, a, b, c, d, e, f] = self.front.to_le_bytes();
        Header {
            flags,
            gso_type,
            hdr_len: u16::from_le_bytes([a, b]),
            gso_size: u16::from_le_bytes([c, d]),
            csum_start: u16::from_le_bytes([e, f]),
            csum_offset: self.back as u16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s5_1_6_fields_are_where_the_specification_has_them() {
        let raw = Raw { front: 0x0807_0605_0403_0201, back: 0x0c0b_0a09 };
        let header = Header {
            flags: 1,
            gso_type: 2,
            hdr_len: 0x0403,
            gso_size: 0x0605,
            csum_start: 0x0807,
            csum_offset: 0x0a09,
        };
        assert_eq!((raw.decode(), raw.buffers()), (header, 0x0c0b));
        assert_eq!(
            Raw::of(&header),
            Raw { back: 0x0a09, ..raw },
            "virtio 1.3 §5.1.6.2.1: of what is sent, 0"
        );
    }
}
