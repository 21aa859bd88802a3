//! Set-up errors: a function or a bus that cannot be as described, or a state that cannot be saved or taken over. Each says
//! what to do.

use vioduct_state::LoadError;

use crate::Slot;

/// Why a function cannot be hosted or plugged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The id that stands for "no function".
    #[error("vendor id 0xffff means that there is no function: use the vendor's own id")]
    VendorId,
    /// Wider than the field.
    #[error(
        "class {class:#x} has more than 24 bits: give base class, sub-class and interface, as in 0x020000"
    )]
    Class {
        /// The class code.
        class: u32,
    },
    /// No such BAR.
    #[error(
        "BAR{bar} cannot be: use indices 0 to 5, and 0 to 4 for a 64-bit BAR, which takes the next one too"
    )]
    BarIndex {
        /// Its index.
        bar: u8,
    },
    /// Two BARs in one place.
    #[error("BAR{bar} is taken: each index is described once, and not after a 64-bit BAR one below it")]
    BarTaken {
        /// Its index.
        bar: u8,
    },
    /// A size that BARs cannot have.
    #[error("BAR{bar} of {len} bytes cannot be: use a power of two from {min} to {max}")]
    BarLen {
        /// Its index.
        bar: u8,
        /// Its size in bytes.
        len: u64,
        /// Least size of this kind of BAR.
        min: u64,
        /// Greatest size of this kind of BAR.
        max: u64,
    },
    /// I/O ports cannot be prefetched.
    #[error("BAR{bar} is of I/O ports and cannot be prefetchable: drop prefetchable()")]
    BarPrefetchable {
        /// Its index.
        bar: u8,
    },
    /// More capabilities than fit.
    #[error("the capabilities need {needed} bytes and there are 192: shorten or drop one")]
    CapabilityRoom {
        /// Bytes needed, with MSI-X.
        needed: u64,
    },
    /// A capability that can be there once.
    #[error("the PCI Express capability is there more than once: keep one")]
    ExpressTwice,
    /// Write mask longer than what it masks.
    #[error("capability {index} has a write mask longer than its body: cut the mask to the body's length")]
    CapabilityMask {
        /// Its index in the declaration.
        index: usize,
    },
    /// No such number of vectors.
    #[error("{vectors} MSI-X vectors cannot be: use 1 to 2048, or declare no MSI-X")]
    MsixVectors {
        /// How many were asked for.
        vectors: u16,
    },
    /// An MSI-X structure that is not inside a memory BAR.
    #[error(
        "the MSI-X {structure} of {len} bytes at {offset:#x} is not inside memory BAR{bar}: enlarge that BAR or move it"
    )]
    MsixPlace {
        /// "table" or "pending bits".
        structure: &'static str,
        /// The BAR named.
        bar: u8,
        /// Offset in that BAR, in bytes.
        offset: u32,
        /// Length of the structure in bytes.
        len: u64,
    },
    /// An MSI-X structure off its alignment.
    #[error("the MSI-X {structure} is at {offset:#x}: use a multiple of 8")]
    MsixAlignment {
        /// "table" or "pending bits".
        structure: &'static str,
        /// Offset in the BAR, in bytes.
        offset: u32,
    },
    /// Table and pending bits in one place.
    #[error("the MSI-X table and its pending bits overlap: move one, or use MsixSpec::in_bar")]
    MsixOverlap,
    /// Not a place on a bus.
    #[error("there is no slot {device:#x}.{function}: use devices 0 to 31 and functions 0 to 7")]
    NoSuchSlot {
        /// Device number.
        device: u8,
        /// Function number.
        function: u8,
    },
    /// A place in use.
    #[error("slot {slot} is taken: plug the function somewhere else")]
    SlotTaken {
        /// The slot.
        slot: Slot,
    },
    /// No room for a BAR.
    #[error("no room for BAR{bar} of {len} bytes of {slot}: enlarge the aperture for that kind of BAR")]
    ApertureFull {
        /// The function's slot.
        slot: Slot,
        /// The BAR's index.
        bar: u8,
        /// Its size in bytes.
        len: u64,
    },
}

/// Why a function cannot be saved, or does not take over a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It has no form to be saved in.
    #[error("this function cannot be saved: keep it where it is, or take it away from the guest first")]
    NotSaveable,
    /// It cannot say now what its state is.
    #[error("the function cannot be saved now: {0}")]
    Unavailable(String),
    /// The state is damaged, or of another function.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The state is sound, and the device behind the function does not take it.
    #[error("{0}")]
    Refused(String),
}
