//! [`Burst`]: buffers of one piece each, on loan together. What a [`Chain`](crate::Chain) keeps for each of them, a burst keeps once.
//!
//! This module holds `unsafe` to say that a piece may travel to another thread: it is a description.
#![allow(unsafe_code)]

use crate::memory::{Access, IoAddr, Memory};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ptr::NonNull;

/// A buffer of one piece, which is mapped: most packets are in such.
#[derive(Clone, Copy)]
pub struct Single {
    pub(crate) host: NonNull<u8>,
    pub(crate) at: IoAddr,
    pub(crate) len: u32,
    pub(crate) written: u32,
    pub(crate) id: u16,
    pub(crate) access: Access,
}

// SAFETY: it is a description; what dereferences it relies on the burst that keeps its memory alive.
unsafe impl Send for Single {}

impl Single {
    /// Where it is mapped in this process. Valid while the burst holds it, for reading or writing as
    /// [`is_writable`](Self::is_writable) says; a peer may change it at any moment.
    #[must_use]
    #[inline]
    pub const fn host(&self) -> NonNull<u8> {
        self.host
    }

    /// Head index (split) or buffer id (packed): unique among the buffers in flight.
    #[must_use]
    pub const fn id(&self) -> u16 {
        self.id
    }

    /// Address as the driver wrote it.
    #[must_use]
    pub const fn addr(&self) -> IoAddr {
        self.at
    }

    /// Length in bytes, never 0.
    #[must_use]
    #[inline]
    #[allow(clippy::len_without_is_empty)]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether it is device-writable; it is device-readable otherwise.
    #[must_use]
    #[inline]
    pub const fn is_writable(&self) -> bool {
        matches!(self.access, Access::Write)
    }

    /// Says that its first `len` bytes were written. More than there are counts as all, and what is device-readable has none.
    #[inline]
    pub fn mark_written(&mut self, len: u32) {
        let most = if self.is_writable() { self.len } else { 0 };
        self.written = len.min(most);
    }

    /// Whether a driver that is told nothing of it knows what was written: all (virtio 1.3 §2.7.9, §2.8.8).
    pub(crate) const fn is_full(&self) -> bool {
        self.written == self.len || !self.is_writable()
    }
}

impl fmt::Debug for Single {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}+{:#x}", self.id, self.at, self.len)
    }
}

/// Buffers on loan from one queue, in the order in which they were made available: filled by
/// [`Queue::pop_burst`](crate::Queue::pop_burst), given back from the front by [`Queue::complete_burst`](crate::Queue::complete_burst).
/// Losing one with buffers in it is a bug of the device, as losing a [`Chain`](crate::Chain) is: a debug build panics.
#[must_use = "its buffers must be completed, or the driver waits for ever"]
pub struct Burst {
    pub(crate) singles: Vec<Single>,
    /// Which buffer of its queue the first one is, counted in the order of availability, with `IN_ORDER`.
    pub(crate) sequence: u16,
    /// The queue that it is of, and the memory, which stays mapped as long as this holds it.
    pub(crate) owner: Option<(u64, Arc<dyn Memory>)>,
}

impl Burst {
    /// An empty one, which holds up to `room` buffers of any queue without allocating.
    pub fn new(room: usize) -> Self {
        Self { singles: Vec::with_capacity(room), sequence: 0, owner: None }
    }

    /// What it holds, in order.
    #[must_use]
    #[inline]
    pub fn singles(&self) -> &[Single] {
        &self.singles
    }

    /// The same, to say what was written.
    #[must_use]
    #[inline]
    pub fn singles_mut(&mut self) -> &mut [Single] {
        &mut self.singles
    }

    /// How many it holds.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.singles.len()
    }

    /// Whether it holds none.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.singles.is_empty()
    }

    /// Lets go of all: their queue has been, or is being, reset, and the driver takes them back.
    pub fn discard(&mut self) {
        self.singles.clear();
    }

    /// Whether a queue may add to it: it is empty, or holds this queue's.
    pub(crate) fn take_for(&mut self, queue: u64, memory: &Arc<dyn Memory>) -> bool {
        match &self.owner {
            Some((owner, _)) if *owner == queue => true,
            _ if self.is_empty() => {
                self.owner = Some((queue, Arc::clone(memory)));
                true
            }
            _ => false,
        }
    }

    pub(crate) fn is_of(&self, queue: u64) -> bool {
        self.owner.as_ref().is_some_and(|(owner, _)| *owner == queue)
    }
}

/// What a queue has next, as far as a look for bursts tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// The burst holds as many as it was to: there may be more.
    Unknown,
    /// No buffer is available for now.
    Nothing,
    /// What comes next, if anything does, is not for bursts: [`Queue::pop`](crate::Queue::pop) gives it.
    Other,
}

impl fmt::Debug for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.singles).finish()
    }
}

impl Drop for Burst {
    #[allow(clippy::panic)]
    fn drop(&mut self) {
        #[cfg(feature = "std")]
        if std::thread::panicking() {
            return;
        }
        // A bug of this process's own device code: no peer reaches this.
        if cfg!(debug_assertions) && !self.is_empty() {
            panic!("a burst was dropped without its buffers being completed or discarded");
        }
    }
}
