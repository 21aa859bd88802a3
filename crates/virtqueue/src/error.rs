//! What can go wrong with a queue: set-up errors, and faults of the other side.

use crate::memory::{IoAddr, MemoryFault};
use core::fmt;

/// Why a queue cannot be set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetupError {
    /// The size is 0, above 32768, or (split) not a power of two.
    Size(u16),
    /// An area is not aligned to the bytes given.
    Alignment(IoAddr, u64),
    /// An area is not in memory that the device may access.
    Memory(MemoryFault),
    /// A saved position does not fit the queue.
    Position,
    /// The record of what was in flight is damaged, or another queue's.
    Record,
}

impl From<MemoryFault> for SetupError {
    fn from(fault: MemoryFault) -> Self {
        Self::Memory(fault)
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(size) => {
                write!(f, "queue size {size}: must be 1 to 32768, and a power of two for a split ring")
            }
            Self::Alignment(at, align) => write!(f, "ring area at {at} is not aligned to {align} bytes"),
            Self::Memory(fault) => write!(f, "ring area: {fault}"),
            Self::Position => f.write_str("the saved position does not fit a queue of this size"),
            Self::Record => f.write_str(
                "the record of buffers in flight is damaged, or another queue's: start with a new one",
            ),
        }
    }
}

impl core::error::Error for SetupError {}

/// A fault of the other side, after which the queue does nothing more until it is reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueueError {
    /// More buffers are available than the queue can hold (virtio 1.3 §2.7.13).
    AvailableIndex {
        /// What the driver wrote.
        found: u16,
        /// What the device had processed.
        processed: u16,
    },
    /// An index points outside of the descriptor table.
    DescriptorIndex(u16),
    /// A buffer id is not below the queue size, or not one in flight.
    BufferId(u16),
    /// A buffer was made available while the device still had it.
    InFlight(u16),
    /// A chain is longer than the queue (virtio 1.3 §2.7.5.3.1), or loops.
    ChainTooLong,
    /// An indirect table has this length in bytes: zero, not a multiple of 16, or more than a queue can have.
    IndirectLength(u32),
    /// An indirect descriptor within a table, in a list that `NEXT` links (split rings: before others), or not negotiated (virtio
    /// 1.3 §2.7.5.3.1, §2.8.19).
    Indirect,
    /// A device-readable descriptor follows a device-writable one (virtio 1.3 §2.7.4.2).
    Order,
    /// A chain's readable or writable bytes reach 2^32 (virtio 1.3 §2.7.5.2).
    LengthOverflow,
    /// A buffer, table or ring is not in memory that the device may access.
    Memory(MemoryFault),
    /// The queue was declared broken by its owner, and not reset since.
    Broken,
}

impl From<MemoryFault> for QueueError {
    fn from(fault: MemoryFault) -> Self {
        Self::Memory(fault)
    }
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AvailableIndex { found, processed } => {
                write!(f, "available index {found} is more than the queue size ahead of {processed}")
            }
            Self::DescriptorIndex(index) => write!(f, "descriptor index {index} is outside of the table"),
            Self::BufferId(id) => write!(f, "buffer id {id} is out of range or not in flight"),
            Self::InFlight(id) => write!(f, "buffer {id} was made available again while in flight"),
            Self::ChainTooLong => f.write_str("descriptor chain is longer than the queue, or loops"),
            Self::IndirectLength(bytes) => write!(f, "indirect table of {bytes} bytes"),
            Self::Indirect => f.write_str("indirect descriptor where none is allowed"),
            Self::Order => f.write_str("device-readable descriptor after a device-writable one"),
            Self::LengthOverflow => f.write_str("descriptor chain of 2^32 bytes or more"),
            Self::Memory(fault) => fault.fmt(f),
            Self::Broken => f.write_str("queue declared broken; reset it"),
        }
    }
}

impl core::error::Error for QueueError {}
