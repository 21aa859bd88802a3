//! Why a PCI function cannot be driven.

use super::capability::Structure;
use super::config_access::FunctionAddress;
use core::fmt;

/// What is wrong with a capability list as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListFault {
    /// It comes back to a capability that was there before.
    Loop,
    /// It points into the header.
    IntoHeader,
}

/// What is wrong with one capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CapabilityFault {
    /// It says that it is this many bytes long, or runs beyond configuration space.
    Truncated(u8),
    /// It names a BAR above 5, which is reserved (virtio 1.3 §4.1.4).
    ReservedBar(u8),
    /// It names a BAR that the function does not have, or one in I/O space.
    NoMemoryBar(u8),
    /// The structure lies beyond the end of its BAR.
    BeyondBar {
        /// Offset of the structure in the BAR, in bytes.
        offset: u32,
        /// Length of the structure in bytes.
        len: u32,
        /// Length of the BAR in bytes.
        bar_len: u64,
    },
    /// The structure is this many bytes long, and has to be longer.
    TooShort(u32),
    /// The structure's offset is not aligned as its fields are.
    Misaligned(u32),
    /// The notification multiplier is neither 0 nor an even power of two (virtio 1.3 §4.1.4.4).
    Multiplier(u32),
}

impl fmt::Display for CapabilityFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated(len) => write!(f, "truncated: length {len}"),
            Self::ReservedBar(bar) => write!(f, "names the reserved BAR {bar}"),
            Self::NoMemoryBar(bar) => write!(f, "names BAR {bar}, which is no memory BAR of the function"),
            Self::BeyondBar { offset, len, bar_len } => {
                write!(f, "{len:#x} bytes at {offset:#x} lie beyond a BAR of {bar_len:#x} bytes")
            }
            Self::TooShort(len) => write!(f, "a structure of {len} bytes is too short"),
            Self::Misaligned(offset) => write!(f, "offset {offset:#x} is not aligned"),
            Self::Multiplier(multiplier) => {
                write!(f, "notification multiplier {multiplier} is neither 0 nor an even power of two")
            }
        }
    }
}

/// Why a PCI function cannot be driven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PciError {
    /// There is no function at the address.
    Absent(FunctionAddress),
    /// Not a function of the kind that the driver drives.
    Foreign {
        /// Vendor id found.
        vendor: u16,
        /// Device id found.
        device: u16,
    },
    /// A transitional virtio device (virtio 1.3 §4.1.2.1), recognized by this device id.
    Transitional(u16),
    /// The header is not of type 0.
    HeaderType(u8),
    /// The BAR's size bits read as this, which is no size.
    BarSize {
        /// Number of the BAR.
        bar: u8,
        /// What it reads as after all ones were written.
        mask: u64,
    },
    /// The last BAR says that it is the lower half of a 64-bit one.
    BarPair(u8),
    /// There are no free addresses for the BAR.
    NoAddresses {
        /// Number of the BAR.
        bar: u8,
        /// Its length in bytes.
        len: u64,
    },
    /// The BAR, or a part of it, could not be mapped.
    Unmapped(u8),
    /// The capability list is not one; the offset is where it was left.
    List {
        /// Offset in configuration space, in bytes.
        at: u16,
        /// What is wrong.
        fault: ListFault,
    },
    /// A capability that the driver needs cannot be used.
    Capability {
        /// What it locates.
        structure: Structure,
        /// Its offset in configuration space, in bytes.
        at: u16,
        /// What is wrong.
        fault: CapabilityFault,
    },
    /// The function has no such capability.
    Missing(Structure),
}

impl fmt::Display for PciError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(at) => write!(f, "no function at {at}"),
            Self::Foreign { vendor, device } => {
                write!(f, "function {vendor:04x}:{device:04x} is not one that this driver drives")
            }
            Self::Transitional(device) => write!(
                f,
                "transitional virtio device (id {device:#06x}): only modern devices are driven, so that no legacy \
                 interface is needed; configure the device as modern (ids from 0x1040)"
            ),
            Self::HeaderType(kind) => write!(f, "header type {kind:#x}, not that of a device"),
            Self::BarSize { bar, mask } => write!(f, "BAR {bar} has no valid size: size bits {mask:#x}"),
            Self::BarPair(bar) => write!(f, "BAR {bar} is a 64-bit one with no upper half"),
            Self::NoAddresses { bar, len } => {
                write!(f, "no addresses are free for BAR {bar} of {len:#x} bytes")
            }
            Self::Unmapped(bar) => write!(f, "BAR {bar} could not be mapped"),
            Self::List { at, fault: ListFault::Loop } => {
                write!(f, "the capability list loops at offset {at:#x}")
            }
            Self::List { at, fault: ListFault::IntoHeader } => {
                write!(f, "the capability list points into the header, at offset {at:#x}")
            }
            Self::Capability { structure, at, fault } => {
                write!(f, "{structure} capability at offset {at:#x}: {fault}")
            }
            Self::Missing(structure) => write!(f, "the function has no {structure} capability"),
        }
    }
}

impl core::error::Error for PciError {}
