//! A place on a bus.

use std::fmt;

use crate::SetupError;

const DEVICES: u8 = 32;
const FUNCTIONS: u8 = 8;

/// Device and function number on bus 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    device: u8,
    function: u8,
}

impl Slot {
    /// Device 0 to 31, function 0 to 7.
    pub fn new(device: u8, function: u8) -> Result<Self, SetupError> {
        if device >= DEVICES || function >= FUNCTIONS {
            return Err(SetupError::NoSuchSlot { device, function });
        }
        Ok(Self { device, function })
    }

    /// Device number.
    pub fn device(self) -> u8 {
        self.device
    }

    /// Function number.
    pub fn function(self) -> u8 {
        self.function
    }

    /// Offset of the function's configuration space in an ECAM window (PCI Express 5.0 §7.2.2).
    pub fn ecam_offset(self) -> u64 {
        u64::from(self.device) << 15 | u64::from(self.function) << 12
    }

    /// The slot whose configuration space is the `index`th in an ECAM window; `None` beyond bus 0.
    pub(super) fn from_ecam(index: u64) -> Option<Self> {
        let index = u8::try_from(index).ok()?;
        Some(Self { device: index / FUNCTIONS, function: index % FUNCTIONS })
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00:{:02x}.{}", self.device, self.function)
    }
}
