//! A buffer on loan from the driver: [`Chain`], and cursors over its two parts.
//!
//! This module holds `unsafe` copies between this process and memory that a peer may change at any moment: they go through raw
//! pointers that [`Memory::region`] vouches for, never through references.
#![allow(unsafe_code)]

use crate::memory::{Access, IoAddr, Memory, MemoryFault};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};

/// One contiguous piece of a buffer. A descriptor gives several where it crosses regions, none where it is empty.
#[derive(Clone, Copy)]
pub struct Segment {
    host: *mut u8,
    at: IoAddr,
    len: u32,
}

// SAFETY: a segment is a description; what dereferences it relies on the chain that keeps its memory alive.
unsafe impl Send for Segment {}

impl Segment {
    #[inline(always)]
    pub(crate) fn new(host: Option<NonNull<u8>>, at: IoAddr, len: u32) -> Self {
        Self { host: host.map_or(ptr::null_mut(), NonNull::as_ptr), at, len }
    }

    /// Address as the driver wrote it.
    #[must_use]
    pub const fn addr(&self) -> IoAddr {
        self.at
    }

    /// Length in bytes, never 0.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Where it is mapped in this process, for zero-copy input and output; `None` if it is reached by messages only. Valid while
    /// the chain lives, for reading or writing as the part of the chain says; a peer may change it at any moment.
    #[must_use]
    pub const fn host(&self) -> Option<NonNull<u8>> {
        NonNull::new(self.host)
    }

    fn read(&self, memory: &dyn Memory, offset: u32, out: &mut [u8]) -> Result<(), MemoryFault> {
        debug_assert!(u64::from(offset) + out.len() as u64 <= u64::from(self.len));
        if self.host.is_null() {
            return memory.read(IoAddr(self.at.0 + u64::from(offset)), out);
        }
        // SAFETY: `host .. host + len` was within a region of `memory` when the chain was popped, and stays mapped while the
        // chain holds the memory; the cursor keeps `offset + out.len()` within `len`.
        unsafe { ptr::copy_nonoverlapping(self.host.add(offset as usize), out.as_mut_ptr(), out.len()) };
        Ok(())
    }

    fn write(&self, memory: &dyn Memory, offset: u32, data: &[u8]) -> Result<(), MemoryFault> {
        debug_assert!(u64::from(offset) + data.len() as u64 <= u64::from(self.len));
        if self.host.is_null() {
            return memory.write(IoAddr(self.at.0 + u64::from(offset)), data);
        }
        // SAFETY: as in `read`; the region was checked to be writable for this part of the chain.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), self.host.add(offset as usize), data.len()) };
        Ok(())
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:#x}", self.at, self.len)
    }
}

/// What a chain carries; recycled by its queue, so that no chain allocates.
#[repr(align(64))]
pub(crate) struct Body {
    pub(crate) segments: Vec<Segment>,
    /// How many of `segments` are device-readable; the others are device-writable.
    pub(crate) readable: usize,
    pub(crate) readable_len: u64,
    pub(crate) writable_len: u64,
    /// End of what was written, counted from the start of the writable part.
    pub(crate) written: Cell<u64>,
    /// Head index (split) or buffer id (packed).
    pub(crate) id: u16,
    /// Descriptors that the chain takes in the ring.
    pub(crate) descriptors: u16,
    /// Which buffer of the queue this is, counted in the order of availability; modulo 2^16.
    pub(crate) sequence: u16,
    pub(crate) queue: u64,
    pub(crate) memory: Arc<dyn Memory>,
}

impl Body {
    pub(crate) fn new(memory: Arc<dyn Memory>, queue: u64) -> Self {
        Self {
            segments: Vec::with_capacity(8),
            readable: 0,
            readable_len: 0,
            writable_len: 0,
            written: Cell::new(0),
            id: 0,
            descriptors: 0,
            sequence: 0,
            queue,
            memory,
        }
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        self.segments.clear();
        self.readable = 0;
        self.readable_len = 0;
        self.writable_len = 0;
        self.written.set(0);
        self.descriptors = 0;
    }

    /// Makes `segment` all there is.
    #[inline(always)]
    pub(crate) fn set_only(&mut self, segment: Segment, access: Access) {
        let len = u64::from(segment.len);
        self.segments.clear();
        self.segments.push(segment);
        self.written.set(0);
        (self.readable, self.readable_len, self.writable_len) =
            if access == Access::Read { (1, len, 0) } else { (0, 0, len) };
    }
}

/// Never called; a call is a branch, which costs less than the selection of an empty slice.
#[cold]
fn nothing<'s>() -> &'s [Segment] {
    &[]
}

/// A buffer on loan from the driver: a token to be given back by [`Queue::complete`](crate::Queue::complete), or, when the queue
/// is reset, by [`discard`](Chain::discard). Losing one is a bug of the device: the driver would wait for ever. A debug build
/// panics.
#[must_use = "a chain must be completed, or the driver waits for ever"]
pub struct Chain {
    body: ManuallyDrop<Box<Body>>,
}

impl Chain {
    #[inline]
    pub(crate) fn new(body: Box<Body>) -> Self {
        Self { body: ManuallyDrop::new(body) }
    }

    #[inline]
    pub(crate) fn into_body(self) -> Box<Body> {
        let mut chain = ManuallyDrop::new(self);
        // SAFETY: `chain` is not used again, nor dropped.
        unsafe { ManuallyDrop::take(&mut chain.body) }
    }

    /// Head index (split) or buffer id (packed): unique among the buffers in flight.
    #[must_use]
    pub fn id(&self) -> u16 {
        self.body.id
    }

    /// The number of the queue that it was popped from.
    #[inline]
    pub(crate) fn queue(&self) -> u64 {
        self.body.queue
    }

    /// Length in bytes of the device-readable part, below 2^32.
    #[must_use]
    pub fn readable_len(&self) -> u64 {
        self.body.readable_len
    }

    /// Length in bytes of the device-writable part, below 2^32.
    #[must_use]
    pub fn writable_len(&self) -> u64 {
        self.body.writable_len
    }

    /// The device-readable part, piece by piece.
    #[must_use]
    #[inline]
    pub fn readable(&self) -> &[Segment] {
        self.body.segments.get(..self.body.readable).unwrap_or_else(nothing)
    }

    /// The device-writable part, piece by piece.
    #[must_use]
    #[inline]
    pub fn writable(&self) -> &[Segment] {
        self.body.segments.get(self.body.readable..).unwrap_or_else(nothing)
    }

    /// A cursor over the device-readable part, from its start.
    #[must_use]
    #[inline]
    pub fn reader(&self) -> Reader<'_> {
        Reader { cursor: Cursor::new(self.readable(), self.body.readable_len), memory: &*self.body.memory }
    }

    /// A cursor over the device-writable part, from its start.
    #[must_use]
    #[inline]
    pub fn writer(&self) -> Writer<'_> {
        Writer {
            cursor: Cursor::new(self.writable(), self.body.writable_len),
            total: self.body.writable_len,
            written: &self.body.written,
            memory: &*self.body.memory,
        }
    }

    /// Says that the first `len` bytes of the writable part were written by other means than [`writer`](Chain::writer). More than
    /// the part's length counts as all of it.
    pub fn mark_written(&self, len: u64) {
        let len = len.min(self.body.writable_len);
        self.body.written.set(self.body.written.get().max(len));
    }

    /// Lets go of a chain whose queue has been, or is being, reset: the driver takes all buffers back then.
    pub fn discard(self) {
        drop(self.into_body());
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
            .field("id", &self.id())
            .field("readable", &self.readable())
            .field("writable", &self.writable())
            .finish()
    }
}

impl Drop for Chain {
    #[allow(clippy::panic)]
    fn drop(&mut self) {
        // SAFETY: `self` is being dropped; `body` is not used again.
        unsafe { ManuallyDrop::drop(&mut self.body) };
        #[cfg(feature = "std")]
        if std::thread::panicking() {
            return;
        }
        // A bug of this process's own device code: no peer reaches this.
        if cfg!(debug_assertions) {
            panic!("a chain was dropped without being completed or discarded");
        }
    }
}

/// A read or a write that the chain cannot serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BufferError {
    /// The part of the chain is too short: a failure of the request, not of the queue.
    Short {
        /// Bytes asked for.
        wanted: usize,
        /// Bytes that are left.
        remaining: u64,
    },
    /// The memory is not accessible after all.
    Memory(MemoryFault),
}

impl From<MemoryFault> for BufferError {
    fn from(fault: MemoryFault) -> Self {
        Self::Memory(fault)
    }
}

impl fmt::Display for BufferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { wanted, remaining } => {
                write!(f, "buffer has {remaining} bytes left where {wanted} are needed")
            }
            Self::Memory(fault) => fault.fmt(f),
        }
    }
}

impl core::error::Error for BufferError {}

/// Where a reader or writer stands: the pieces not yet passed, the first of them from `offset`.
#[derive(Clone)]
struct Cursor<'c> {
    segments: &'c [Segment],
    offset: u32,
    remaining: u64,
}

impl<'c> Cursor<'c> {
    fn new(segments: &'c [Segment], remaining: u64) -> Self {
        Self { segments, offset: 0, remaining }
    }

    /// The next piece of at most `len` bytes: segment, offset in it, and length; and passes it.
    #[inline]
    fn take(&mut self, len: usize) -> Option<(&'c Segment, u32, usize)> {
        let (segment, rest) = self.segments.split_first()?;
        let offset = self.offset;
        let left = segment.len - offset;
        let taken = left.min(u32::try_from(len).unwrap_or(u32::MAX));
        if taken == left {
            self.segments = rest;
            self.offset = 0;
        } else {
            self.offset += taken;
        }
        self.remaining -= u64::from(taken);
        Some((segment, offset, taken as usize))
    }

    fn check(&self, wanted: usize) -> Result<(), BufferError> {
        if wanted as u64 > self.remaining {
            return Err(BufferError::Short { wanted, remaining: self.remaining });
        }
        Ok(())
    }

    fn skip(&mut self, mut len: usize) -> Result<(), BufferError> {
        self.check(len)?;
        while len > 0 {
            let Some((_, _, taken)) = self.take(len) else { break };
            len -= taken;
        }
        Ok(())
    }
}

/// Reads the device-readable part of a chain in order, across any descriptor boundary (virtio 1.3 §2.7.4.1: a device makes no
/// assumption about framing).
#[derive(Clone)]
pub struct Reader<'c> {
    cursor: Cursor<'c>,
    memory: &'c dyn Memory,
}

impl Reader<'_> {
    /// Bytes not yet read.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.cursor.remaining
    }

    /// Reads as much as there is, at most `out.len()`, and says how much.
    ///
    /// # Errors
    /// [`BufferError::Memory`] if remote memory cannot be reached.
    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, BufferError> {
        let mut done = 0;
        while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let Some((segment, offset, len)) = self.cursor.take(rest.len()) else { break };
            segment.read(self.memory, offset, rest.get_mut(..len).unwrap_or_default())?;
            done += len;
        }
        Ok(done)
    }

    /// Reads exactly `out.len()` bytes.
    ///
    /// # Errors
    /// [`BufferError::Short`] if there are fewer, and then nothing is read; [`BufferError::Memory`] as for [`read`](Self::read).
    pub fn read_exact(&mut self, out: &mut [u8]) -> Result<(), BufferError> {
        self.cursor.check(out.len())?;
        self.read(out).map(drop)
    }

    /// Reads `N` bytes.
    ///
    /// # Errors
    /// As for [`read_exact`](Self::read_exact).
    pub fn read_array<const N: usize>(&mut self) -> Result<[u8; N], BufferError> {
        let mut out = [0; N];
        self.read_exact(&mut out)?;
        Ok(out)
    }

    /// Reads a little-endian `u16`.
    ///
    /// # Errors
    /// As for [`read_exact`](Self::read_exact).
    pub fn read_u16(&mut self) -> Result<u16, BufferError> {
        self.read_array().map(u16::from_le_bytes)
    }

    /// Reads a little-endian `u32`.
    ///
    /// # Errors
    /// As for [`read_exact`](Self::read_exact).
    pub fn read_u32(&mut self) -> Result<u32, BufferError> {
        self.read_array().map(u32::from_le_bytes)
    }

    /// Reads a little-endian `u64`.
    ///
    /// # Errors
    /// As for [`read_exact`](Self::read_exact).
    pub fn read_u64(&mut self) -> Result<u64, BufferError> {
        self.read_array().map(u64::from_le_bytes)
    }

    /// Passes `len` bytes.
    ///
    /// # Errors
    /// [`BufferError::Short`] if there are fewer, and then none is passed.
    pub fn skip(&mut self, len: usize) -> Result<(), BufferError> {
        self.cursor.skip(len)
    }
}

/// Writes the device-writable part of a chain in order, across any descriptor boundary.
pub struct Writer<'c> {
    cursor: Cursor<'c>,
    total: u64,
    written: &'c Cell<u64>,
    memory: &'c dyn Memory,
}

impl Writer<'_> {
    /// Bytes of room left.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.cursor.remaining
    }

    /// How far this writer has come from the start of the writable part, in bytes; what was skipped counts.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.total - self.cursor.remaining
    }

    /// Writes as much of `data` as there is room for, and says how much.
    ///
    /// # Errors
    /// [`BufferError::Memory`] if remote memory cannot be reached.
    pub fn write(&mut self, data: &[u8]) -> Result<usize, BufferError> {
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            let Some((segment, offset, len)) = self.cursor.take(rest.len()) else { break };
            segment.write(self.memory, offset, rest.get(..len).unwrap_or_default())?;
            done += len;
            self.written.set(self.written.get().max(self.total - self.cursor.remaining));
        }
        Ok(done)
    }

    /// Writes all of `data`.
    ///
    /// # Errors
    /// [`BufferError::Short`] if there is not room for it all, and then nothing is written; [`BufferError::Memory`] as for
    /// [`write`](Self::write).
    pub fn write_all(&mut self, data: &[u8]) -> Result<(), BufferError> {
        self.cursor.check(data.len())?;
        self.write(data).map(drop)
    }

    /// Writes a little-endian `u16`.
    ///
    /// # Errors
    /// As for [`write_all`](Self::write_all).
    pub fn write_u16(&mut self, value: u16) -> Result<(), BufferError> {
        self.write_all(&value.to_le_bytes())
    }

    /// Writes a little-endian `u32`.
    ///
    /// # Errors
    /// As for [`write_all`](Self::write_all).
    pub fn write_u32(&mut self, value: u32) -> Result<(), BufferError> {
        self.write_all(&value.to_le_bytes())
    }

    /// Writes a little-endian `u64`.
    ///
    /// # Errors
    /// As for [`write_all`](Self::write_all).
    pub fn write_u64(&mut self, value: u64) -> Result<(), BufferError> {
        self.write_all(&value.to_le_bytes())
    }

    /// Leaves `len` bytes as they are, to be written by another writer.
    ///
    /// # Errors
    /// [`BufferError::Short`] if there is not that much room, and then none is passed.
    pub fn skip(&mut self, len: usize) -> Result<(), BufferError> {
        self.cursor.skip(len)
    }
}
