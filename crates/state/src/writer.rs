//! Writing a state.

use crate::Kind;

/// A state in the making.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Adds a number.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Adds a number.
    pub fn u16(&mut self, value: u16) {
        self.0.extend(value.to_le_bytes());
    }

    /// Adds a number.
    pub fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    /// Adds a number.
    pub fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    /// Adds bytes and their number, which has 64 bits: no state is too long to be written.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.0.extend(bytes);
    }

    /// Adds what `fill` writes, as a block. `version` counts the forms that blocks of this kind have had.
    pub fn block<T>(&mut self, kind: Kind, version: u16, fill: impl FnOnce(&mut Self) -> T) -> T {
        let mut within = Self::default();
        let outcome = fill(&mut within);
        self.0.extend(kind.0);
        self.u16(version);
        self.bytes(&within.0);
        outcome
    }

    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}
