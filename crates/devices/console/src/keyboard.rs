//! [`Keyboard`]: input that waits for the driver's buffers.

use crate::wire::{Got, Wire};
use std::io;

/// Bytes of input that are taken from their source before the driver has buffers for them; the source keeps the rest.
pub const MAX_UNREAD_BYTES: usize = 4096;

/// Where input comes from, and what has come and is not the driver's yet. It outlasts resets: they are the driver's, not the user's.
#[derive(Debug)]
pub(crate) struct Keyboard {
    pub(crate) wire: Option<Wire>,
    unread: Vec<u8>,
}

impl Keyboard {
    pub(crate) fn new(wire: Option<Wire>) -> Self {
        Self { wire, unread: Vec::new() }
    }

    /// What is to go to the driver next: empty if nothing has come. The source is read only once the driver has taken what was read
    /// before.
    ///
    /// # Errors
    /// If the source has failed, or [`io::ErrorKind::UnexpectedEof`] if it has ended: nothing will come any more.
    pub(crate) fn typed(&mut self) -> io::Result<&[u8]> {
        if let (true, Some(wire)) = (self.unread.is_empty(), &self.wire) {
            self.unread.resize(MAX_UNREAD_BYTES, 0);
            let got = wire.read(&mut self.unread);
            self.unread.truncate(if let Ok(Got::Bytes(count)) = got { count } else { 0 });
            if got? == Got::End {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(&self.unread)
    }

    /// The driver has the first `count` bytes.
    pub(crate) fn taken(&mut self, count: usize) {
        self.unread.drain(..count.min(self.unread.len()));
    }

    /// What the driver does not have yet.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// Puts what another device has not handed over before what comes here.
    pub(crate) fn put(&mut self, unread: &[u8]) {
        self.unread = unread.to_vec();
    }
}
