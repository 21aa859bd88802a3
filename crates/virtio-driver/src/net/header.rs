//! [`Header`]: what is to be done to a packet, or has been (virtio 1.3 §5.1.6). The driver passes it through.

use vioduct_spec::net::HEADER_LEN;

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

impl Header {
    /// virtio 1.3 §5.1.6.2.1: `num_buffers` of a packet that is sent is 0.
    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
        let Self { flags, gso_type, hdr_len, gso_size, csum_start, csum_offset } = *self;
        let words = [hdr_len, gso_size, csum_start, csum_offset, 0].into_iter().flat_map(u16::to_le_bytes);
        let mut bytes = [0; HEADER_LEN];
        bytes.iter_mut().zip([flags, gso_type].into_iter().chain(words)).for_each(|(to, from)| *to = from);
        bytes
    }

    /// The header, and how many buffers the packet is in.
    pub(super) fn decode(bytes: [u8; HEADER_LEN]) -> (Self, u16) {
        let [flags, gso_type, a, b, c, d, e, f, g, h, i, j] = bytes;
        let word = |low, high| u16::from_le_bytes([low, high]);
        let header = Self {
            flags,
            gso_type,
            hdr_len: word(a, b),
            gso_size: word(c, d),
            csum_start: word(e, f),
            csum_offset: word(g, h),
        };
        (header, word(i, j))
    }
}
