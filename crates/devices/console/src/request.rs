//! What a buffer must be.

use std::fmt;
use vioduct_virtio_device::Chain;

/// Bytes of one buffer of output, at most: what there is room for in one wake and no driver comes near.
pub const MAX_BUFFER_BYTES: u64 = 4 << 20;

/// Why a buffer is given back untouched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// It is to be filled, and has a device-readable part.
    Readable,
    /// It is output, and has a device-writable part.
    Writable,
    /// It is output of more than [`MAX_BUFFER_BYTES`].
    TooLong,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self {
            Self::Readable => "a buffer in the receive queue has a device-readable part",
            Self::Writable => "a buffer in the transmit queue has a device-writable part",
            Self::TooLong => "a buffer in the transmit queue is too long",
        };
        write!(f, "given back untouched: {why}")
    }
}

/// virtio 1.3 §5.3.6.1: the driver must not put a device-readable buffer in a receiveq.
pub(crate) fn to_fill(chain: &Chain) -> Result<(), Refused> {
    if chain.readable_len() > 0 { Err(Refused::Readable) } else { Ok(()) }
}

/// virtio 1.3 §5.3.6.1: the driver must not put a device-writable buffer in a transmitq.
pub(crate) fn to_send(chain: &Chain) -> Result<(), Refused> {
    match (chain.writable_len(), chain.readable_len()) {
        (1.., _) => Err(Refused::Writable),
        (0, len) if len > MAX_BUFFER_BYTES => Err(Refused::TooLong),
        (0, _) => Ok(()),
    }
}
