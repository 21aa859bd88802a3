//! What a packet's header, and a buffer, must be (virtio 1.3 §5.1.6).
//!
//! A header is copied once out of memory that the driver may change, judged, and put together anew from what was found good: what a
//! port, or a driver, gets to see is never the original.

use std::fmt;
use vioduct_spec::net::*;
use vioduct_virtio_device::{BufferError, Chain, Features};

/// An Ethernet header.
pub(crate) const MIN_FRAME_BYTES: usize = 14;
const CHECKSUM_LEN: u64 = 2;

/// Why a packet goes no further, or a buffer comes back untouched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    Writable,
    Readable,
    Runt,
    TooShort,
    TooLong,
    ChecksumNotNegotiated,
    ChecksumOutside,
    SegmentationNotNegotiated,
    SegmentationUnknown,
    SegmentsOfNothing,
    SegmentsWithoutChecksum,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Writable => "a buffer in a transmit queue has a device-writable part",
            Self::Readable => "a buffer in a receive queue has a device-readable part",
            Self::Runt => "a buffer in a receive queue is shorter than the header",
            Self::TooShort => "it is shorter than its headers",
            Self::TooLong => "it is longer than any packet",
            Self::ChecksumNotNegotiated => "its checksum is incomplete, which was not negotiated",
            Self::ChecksumOutside => "its checksum lies outside of it",
            Self::SegmentationNotNegotiated => "it is to be segmented, which was not negotiated",
            Self::SegmentationUnknown => "it is to be segmented in no known way",
            Self::SegmentsOfNothing => "it is to be cut into segments of no bytes",
            Self::SegmentsWithoutChecksum => "it is to be segmented without a checksum",
        })
    }
}

/// Features that a header's wishes depend on.
pub(crate) struct Direction {
    checksum: Features,
    congestion: Features,
    /// Kinds of segmentation; any of the features will do.
    kinds: [(u8, Features); 4],
    /// Flags beside that of an incomplete checksum.
    flags: u8,
}

/// Packets that the driver sends.
pub(crate) static SENT: Direction = Direction {
    checksum: CSUM,
    congestion: HOST_ECN,
    kinds: [(GSO_TCPV4, HOST_TSO4), (GSO_TCPV6, HOST_TSO6), (GSO_UDP, HOST_UFO), (GSO_UDP_L4, HOST_USO)],
    // virtio 1.3 §5.1.6.2.2: a device ignores flags that it does not know, and those that are its own.
    flags: 0,
};

/// Packets that the driver receives.
pub(crate) static RECEIVED: Direction = Direction {
    checksum: GUEST_CSUM,
    congestion: GUEST_ECN,
    kinds: [
        (GSO_TCPV4, GUEST_TSO4),
        (GSO_TCPV6, GUEST_TSO6),
        (GSO_UDP, GUEST_UFO),
        (GSO_UDP_L4, GUEST_USO4.with(GUEST_USO6)),
    ],
    flags: HDR_F_DATA_VALID,
};

/// A header that was found good.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Header {
    flags: u8,
    gso_type: u8,
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

impl Header {
    /// Nothing is to be done to the packet.
    pub(crate) const PLAIN: [u8; HEADER_LEN] = [0; HEADER_LEN];

    /// What is good of `bytes`, a private copy, before a packet of `frame_len` bytes. What it asks for must have been negotiated
    /// (rows 29 to 31 of the hostile peers).
    pub(crate) fn judge(
        bytes: &[u8; HEADER_LEN],
        frame_len: u64,
        direction: &Direction,
        negotiated: Features,
    ) -> Result<Self, Refused> {
        let [flags, gso_type, a, b, c, d, e, f, g, h, _, _] = *bytes;
        let [hdr_len, gso_size] = [[a, b], [c, d]].map(u16::from_le_bytes);
        let [csum_start, csum_offset] = [[e, f], [g, h]].map(u16::from_le_bytes);
        let mut header = Self::default();
        // virtio 1.3 §5.1.6.4.1: a device that may not leave checksums to the driver sets no flags.
        if negotiated.contains(direction.checksum) {
            header.flags = flags & direction.flags;
        }
        if flags & HDR_F_NEEDS_CSUM != 0 {
            if !negotiated.contains(direction.checksum) {
                return Err(Refused::ChecksumNotNegotiated);
            }
            if u64::from(csum_start) + u64::from(csum_offset) + CHECKSUM_LEN > frame_len {
                return Err(Refused::ChecksumOutside);
            }
            header = Self { flags: header.flags | HDR_F_NEEDS_CSUM, csum_start, csum_offset, ..header };
        }
        if gso_type == GSO_NONE {
            return Ok(header);
        }
        direction.judge_segmentation(gso_type, gso_size, negotiated)?;
        if header.flags & HDR_F_NEEDS_CSUM == 0 {
            return Err(Refused::SegmentsWithoutChecksum);
        }
        // virtio 1.3 §5.1.6.2.2: a device does not rely on this length; what is beyond the packet is none.
        let hdr_len = u64::from(hdr_len).min(frame_len) as u16;
        Ok(Self { gso_type, gso_size, hdr_len, ..header })
    }

    /// As it precedes a packet that is in `num_buffers` buffers, or is sent (0).
    pub(crate) fn encode(&self, num_buffers: u16) -> [u8; HEADER_LEN] {
        let Self { flags, gso_type, hdr_len, gso_size, csum_start, csum_offset } = *self;
        let mut bytes = [0; HEADER_LEN];
        let words = [hdr_len, gso_size, csum_start, csum_offset, num_buffers];
        let words = words.into_iter().flat_map(u16::to_le_bytes);
        bytes.iter_mut().zip([flags, gso_type].into_iter().chain(words)).for_each(|(to, from)| *to = from);
        bytes
    }
}

impl Direction {
    fn judge_segmentation(&self, gso_type: u8, gso_size: u16, negotiated: Features) -> Result<(), Refused> {
        let kind = gso_type & !GSO_ECN;
        let (_, any_of) =
            self.kinds.iter().find(|(known, _)| *known == kind).ok_or(Refused::SegmentationUnknown)?;
        let congestion = gso_type & GSO_ECN == 0 || negotiated.contains(self.congestion);
        if (negotiated & *any_of).is_empty() || !congestion {
            return Err(Refused::SegmentationNotNegotiated);
        }
        if gso_size == 0 { Err(Refused::SegmentsOfNothing) } else { Ok(()) }
    }
}

/// The header of a packet that the driver sends, and how long the packet is behind it; the header's bytes are read once.
pub(crate) fn to_send(
    chain: &Chain,
    negotiated: Features,
) -> Result<Result<(Header, u64), Refused>, BufferError> {
    let Some(frame_len) = chain.readable_len().checked_sub(HEADER_LEN as u64) else {
        return Ok(Err(Refused::TooShort));
    };
    if let Err(refused) = judge_frame_len(frame_len) {
        return Ok(Err(refused));
    }
    // virtio 1.3 §5.1.6.2: all of a packet that is sent is device-readable.
    if chain.writable_len() > 0 {
        return Ok(Err(Refused::Writable));
    }
    let bytes = chain.reader().read_array()?;
    Ok(Header::judge(&bytes, frame_len, &SENT, negotiated).map(|header| (header, frame_len)))
}

/// Whether there are packets of that length.
pub(crate) fn judge_frame_len(frame_len: u64) -> Result<(), Refused> {
    if frame_len < MIN_FRAME_BYTES as u64 {
        return Err(Refused::TooShort);
    }
    if frame_len > MAX_FRAME_BYTES as u64 { Err(Refused::TooLong) } else { Ok(()) }
}

/// Whether a buffer can be filled: row 9 of the hostile peers.
pub(crate) fn to_fill(chain: &Chain) -> Result<(), Refused> {
    if chain.readable_len() > 0 {
        return Err(Refused::Readable);
    }
    if chain.writable_len() < HEADER_LEN as u64 { Err(Refused::Runt) } else { Ok(()) }
}
