//! Reading a state.

use crate::{Kind, LoadError};

/// What is left to read of a state, or of a block of one.
#[derive(Clone, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads what a [`Writer`](crate::Writer) has written.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Takes a number.
    ///
    /// # Errors
    /// If the state ends before.
    pub fn u8(&mut self) -> Result<u8, LoadError> {
        self.take().map(u8::from_le_bytes)
    }

    /// Takes a number.
    ///
    /// # Errors
    /// If the state ends before.
    pub fn u16(&mut self) -> Result<u16, LoadError> {
        self.take().map(u16::from_le_bytes)
    }

    /// Takes a number.
    ///
    /// # Errors
    /// If the state ends before.
    pub fn u32(&mut self) -> Result<u32, LoadError> {
        self.take().map(u32::from_le_bytes)
    }

    /// Takes a number.
    ///
    /// # Errors
    /// If the state ends before.
    pub fn u64(&mut self) -> Result<u64, LoadError> {
        self.take().map(u64::from_le_bytes)
    }

    /// Takes bytes, as many as their number says.
    ///
    /// # Errors
    /// If the state ends before.
    pub fn bytes(&mut self) -> Result<&'a [u8], LoadError> {
        let len = usize::try_from(self.u64()?).map_err(|_| LoadError::Truncated)?;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(LoadError::Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Takes a block, which is to be of this kind and version.
    ///
    /// # Errors
    /// If it is of another, or the state ends before.
    pub fn block(&mut self, expected: Kind, known: u16) -> Result<Self, LoadError> {
        let found = Kind(self.take()?);
        if found != expected {
            return Err(LoadError::Kind { expected, found });
        }
        match self.u16()? {
            version if version == known => Ok(Self(self.bytes()?)),
            found => Err(LoadError::Version { kind: expected, found, known }),
        }
    }

    /// Everything was read.
    ///
    /// # Errors
    /// If something is left.
    pub fn finish(self) -> Result<(), LoadError> {
        if self.0.is_empty() { Ok(()) } else { Err(LoadError::Trailing(self.0.len() as u64)) }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], LoadError> {
        let (first, rest) = self.0.split_first_chunk().ok_or(LoadError::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }
}
