// SPDX-License-Identifier: GPL-2.0

//! The memory of one request.

use kernel::prelude::*;

/// What the device reads and what it writes, in one piece, and what the driver remembers of it.
///
/// The bytes are kmalloc's, whose physical address follows from the virtual one: neither stacks nor statics nor
/// vmalloc's memory could be given to a device like this.
pub(crate) struct Message<C> {
    bytes: KVec<u8>,
    readable_len: usize,
    /// What belongs to the request on the driver's side, such as who waits for it.
    pub(crate) context: C,
}

impl<C> Message<C> {
    /// A message of these device-readable bytes, then `writable_len` device-writable ones, which are zero at first.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a message of no bytes at all, which a ring cannot hold, and `ENOMEM`.
    pub(crate) fn new(readable: &[u8], writable_len: usize, context: C) -> Result<KBox<Self>> {
        if readable.is_empty() && writable_len == 0 {
            return Err(EINVAL);
        }
        let mut bytes = KVec::with_capacity(readable.len() + writable_len, GFP_KERNEL)?;
        bytes.extend_from_slice(readable, GFP_KERNEL)?;
        bytes.extend_with(writable_len, 0, GFP_KERNEL)?;
        Ok(KBox::new(Self { bytes, readable_len: readable.len(), context }, GFP_KERNEL)?)
    }

    /// What the device wrote, by its own account of how many bytes that were; it can claim no more than there are.
    pub(crate) fn written(&self, len: u32) -> &[u8] {
        let writable = self.bytes.get(self.readable_len..).unwrap_or_default();
        writable.get(..len as usize).unwrap_or(writable)
    }

    /// Both halves, for a scatter list.
    pub(super) fn halves(&mut self) -> (&mut [u8], &mut [u8]) {
        self.bytes.split_at_mut(self.readable_len)
    }
}
