//! What can go wrong when a device is set up, and when it is asked something.

use crate::dma::DmaError;
use crate::transport::TransportError;
use core::fmt;
use vioduct_spec::{Features, Status, device_type};
use vioduct_virtqueue::{QueueError, SetupError};

/// Why a device could not be set up. The device was told so (`FAILED`, virtio 1.3 §3.1.1) if it had been found already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InitError {
    /// The device is of another type than the driver drives.
    DeviceType {
        /// Type the device has.
        found: u32,
        /// Type the driver drives.
        wanted: u32,
    },
    /// Features that the driver cannot do without, and the device does not offer.
    FeaturesMissing(Features),
    /// The device took `FEATURES_OK` back, having been asked for these features (virtio 1.3 §3.1.1).
    FeaturesRefused(Features),
    /// The device lost a status bit that it was given, or needs a reset already; this is what it showed.
    Status(Status),
    /// The transport.
    Transport(TransportError),
    /// Memory for the rings or buffers.
    Dma(DmaError),
    /// The ring.
    Queue(SetupError),
}

impl From<TransportError> for InitError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

impl From<DmaError> for InitError {
    fn from(error: DmaError) -> Self {
        Self::Dma(error)
    }
}

impl From<SetupError> for InitError {
    fn from(error: SetupError) -> Self {
        Self::Queue(error)
    }
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeviceType { found, wanted } => write!(
                f,
                "the device is of type {found} ({}), this driver drives type {wanted} ({})",
                device_type::name(*found),
                device_type::name(*wanted)
            ),
            Self::FeaturesMissing(features) => write!(f, "the device does not offer {features}"),
            Self::FeaturesRefused(features) => write!(f, "the device refused the features {features}"),
            Self::Status(status) => write!(f, "the device gave up during initialization: status {status}"),
            Self::Transport(error) => error.fmt(f),
            Self::Dma(error) => error.fmt(f),
            Self::Queue(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for InitError {}

/// Why a running device gave no answer, or none that can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestError {
    /// Every slot is taken, or too few descriptors are free: take completions first.
    Full,
    /// More bytes than a slot has.
    TooLong {
        /// Bytes asked for.
        len: usize,
        /// Bytes that a slot has.
        slot: usize,
    },
    /// The device wrote fewer bytes than the reply has; what else is in the buffer is not from it.
    ShortReply {
        /// Bytes that the device says it wrote.
        written: u32,
        /// Bytes of the reply.
        wanted: u32,
    },
    /// The device does not know the request.
    Refused,
    /// The device could not carry the request out: it asks for what is not there, or the medium has failed.
    Failed,
    /// What was negotiated gives the driver no queue for requests.
    NoQueue,
    /// The ticket is of another queue, or of a time before a reset.
    StaleTicket,
    /// The caller's wait gave up; the request is still with the device, and its answer will be dropped.
    GaveUp,
    /// The device met an error that only a reset can mend (virtio 1.3 §2.1.1): start it over.
    NeedsReset,
    /// The device does not show the status that it was given: it has been reset by somebody else, or is gone.
    Gone(Status),
    /// The device broke the queue's rules: start it over.
    Queue(QueueError),
    /// The transport.
    Transport(TransportError),
    /// The buffers.
    Dma(DmaError),
}

impl From<QueueError> for RequestError {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}

impl From<TransportError> for RequestError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

impl From<DmaError> for RequestError {
    fn from(error: DmaError) -> Self {
        Self::Dma(error)
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no room for another request: take completions first"),
            Self::TooLong { len, slot } => write!(f, "{len} bytes, where a slot has {slot}"),
            Self::ShortReply { written, wanted } => {
                write!(f, "the device wrote {written} bytes of a reply of {wanted}")
            }
            Self::Refused => f.write_str("the device does not know the request"),
            Self::Failed => f.write_str("the device could not carry the request out"),
            Self::NoQueue => f.write_str("no queue for requests was negotiated"),
            Self::StaleTicket => f.write_str("the request is not one of this queue, or was lost in a reset"),
            Self::GaveUp => f.write_str("gave up waiting for the device"),
            Self::NeedsReset => f.write_str("the device needs a reset: start it over"),
            Self::Gone(status) => write!(f, "the device is not running any more: status {status}"),
            Self::Queue(error) => error.fmt(f),
            Self::Transport(error) => error.fmt(f),
            Self::Dma(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for RequestError {}
