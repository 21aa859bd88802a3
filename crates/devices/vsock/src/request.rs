//! What a packet of the driver's must be, and a buffer for one of ours.

use std::fmt;
use vioduct_spec::vsock::{
    HEADER_LEN, Header, OP_CREDIT_REQUEST, OP_CREDIT_UPDATE, OP_REQUEST, OP_RESPONSE, OP_RST, OP_RW,
    OP_SHUTDOWN,
};
use vioduct_virtio_device::Chain;

/// What a packet is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    Request,
    Response,
    Reset,
    Shutdown,
    Data,
    CreditUpdate,
    CreditRequest,
}

/// The numbers of operations.
const OPS: [(u16, Op); 7] = [
    (OP_REQUEST, Op::Request),
    (OP_RESPONSE, Op::Response),
    (OP_RST, Op::Reset),
    (OP_SHUTDOWN, Op::Shutdown),
    (OP_RW, Op::Data),
    (OP_CREDIT_UPDATE, Op::CreditUpdate),
    (OP_CREDIT_REQUEST, Op::CreditRequest),
];

/// Why a buffer or the packet in it does nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// It is to be filled, and has a device-readable part.
    Readable,
    /// It is to be filled, and has no room for a header, or for data where there is some.
    TooShort,
    /// It is the driver's, and has a device-writable part.
    Writable,
    /// It is shorter than a header.
    NoHeader,
    /// The header announces more than there is.
    Length(u32),
    /// Nothing has this number.
    Operation(u16),
    /// It says that it comes from another guest.
    Source(u64),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Readable => f.write_str("a buffer in the receive queue has a device-readable part"),
            Self::TooShort => f.write_str("a buffer in the receive queue is too short"),
            Self::Writable => f.write_str("a buffer in the transmit queue has a device-writable part"),
            Self::NoHeader => f.write_str("a packet is shorter than a header"),
            Self::Length(len) => write!(f, "a packet has less than the {len} bytes that it announces"),
            Self::Operation(op) => write!(f, "a packet has the operation {op}, which there is not"),
            Self::Source(cid) => write!(f, "a packet says that it comes from {cid}"),
        }
    }
}

/// virtio 1.3 §5.10.6.4: buffers of the receive queue are device-writable; each takes a packet.
pub(crate) fn to_fill(chain: &Chain, least: usize) -> Result<(), Refused> {
    match chain.readable_len() {
        1.. => Err(Refused::Readable),
        0 if chain.writable_len() < least as u64 => Err(Refused::TooShort),
        0 => Ok(()),
    }
}

/// virtio 1.3 §5.10.6.4: buffers of the transmit queue are device-readable, and begin with a header.
pub(crate) fn to_take(chain: &Chain) -> Result<(), Refused> {
    match (chain.writable_len(), chain.readable_len()) {
        (1.., _) => Err(Refused::Writable),
        (0, len) if len < HEADER_LEN as u64 => Err(Refused::NoHeader),
        (0, _) => Ok(()),
    }
}

/// What a packet is for. Row 37: `header` was read once; nothing of it is read again.
pub(crate) fn decode(header: &Header, chain: &Chain, guest_cid: u32) -> Result<Op, Refused> {
    let data_len = chain.readable_len().saturating_sub(HEADER_LEN as u64);
    if u64::from(header.len) > data_len {
        return Err(Refused::Length(header.len));
    }
    // virtio 1.3 §5.10.6.2: the source is the guest's identifier, the upper half of which is zeros.
    if header.src_cid != u64::from(guest_cid) {
        return Err(Refused::Source(header.src_cid));
    }
    let known = OPS.iter().find(|(number, _)| *number == header.op);
    known.map(|(_, op)| *op).ok_or(Refused::Operation(header.op))
}
