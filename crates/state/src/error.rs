//! Why a state is refused.

use std::fmt;

/// What a block is of: four letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Kind(pub [u8; 4]);

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

/// Why a saved state is not taken over.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It does not begin as one does.
    #[error("this is no saved state: give what a device was saved as")]
    Magic,
    /// It is cut short.
    #[error("the saved state ends too early: save it again, and pass on all of it")]
    Truncated,
    /// More follows.
    #[error("the saved state has {0} bytes more than it should: pass on nothing but the state")]
    Trailing(u64),
    /// It says that it is longer than any is.
    #[error("the saved state says that it has {0} bytes, more than any has: it is damaged")]
    TooLong(u64),
    /// What was saved is not what came.
    #[error("the saved state is damaged on its way: its checksum is another")]
    Checksum,
    /// It has another part than expected.
    #[error(
        "the saved state has a part {found} where {expected} should be: restore on the same kind of device"
    )]
    Kind {
        /// What this device has there.
        expected: Kind,
        /// What the state has.
        found: Kind,
    },
    /// A part of it has another form.
    #[error(
        "part {kind} of the saved state has version {found}, and {known} is known here: use programs of one version"
    )]
    Version {
        /// Which part.
        kind: Kind,
        /// In the state.
        found: u16,
        /// What can be read.
        known: u16,
    },
    /// A value that cannot be.
    #[error("the saved state is damaged: {0}")]
    Value(&'static str),
    /// It is sound, and of another device.
    #[error("the saved state is of another device: {0}")]
    OtherDevice(String),
}
