// SPDX-License-Identifier: GPL-2.0

//! A chain of descriptors: what the driver lets be read and written.
//!
//! Unsafe code has the core translate the chain into pieces of the owner's memory, which are kept in the queue, and lends
//! them as the kernel's iterators.
#![allow(unsafe_code)]

use super::bindings as c;
use super::queue::Queue;
use core::marker::PhantomData;
use core::ptr::null_mut;
use kernel::bindings;
use kernel::error::to_result;
use kernel::iov::{IovIterDest, IovIterSource};
use kernel::prelude::*;
use kernel::types::Opaque;

/// A chain that was taken from its queue.
///
/// # Invariants
///
/// The queue's lock is held for `'q`, and the iterators are over the queue's own array of pieces, which changes only when
/// the next chain is taken: not while this one borrows the queue.
pub(crate) struct Chain<'q> {
    ring: *mut c::vhost_virtqueue,
    head: u32,
    readable: Pieces,
    writable: Pieces,
    /// How many entries of the queue's log are the chain's, where dirty memory is logged.
    logged: Option<u32>,
    _queue: PhantomData<&'q mut ()>,
}

/// One half of a chain.
struct Pieces {
    rest: Opaque<bindings::iov_iter>,
    len: usize,
}

impl<'q> Chain<'q> {
    /// The next chain that is available, if there is one.
    ///
    /// # Safety
    ///
    /// The core has switched the queue's kicks off since it was last asked to switch them on.
    pub(super) unsafe fn next(queue: &'q mut Queue<'_>) -> Result<Option<Self>> {
        let ring = queue.ring();
        let logs = queue.features() & 1 << c::VHOST_F_LOG_ALL != 0;
        let (mut readable, mut writable, mut logged) = (0, 0, 0);
        // SAFETY: the queue's lock is held, and kicks are off. The array has as many elements as is said, and so has the
        // log, which exists for as long as the device has an owner: a queue that runs has one.
        let (head, pieces, size) = unsafe {
            let pieces: *mut bindings::iovec = (&raw mut (*ring).iov).cast();
            let log = if logs { (*ring).log } else { null_mut() };
            let (outs, ins) = (&raw mut readable, &raw mut writable);
            let head = c::vhost_get_vq_desc(ring, pieces, bindings::UIO_MAXIOV, outs, ins, log, &raw mut logged);
            (head, pieces, (*ring).num)
        };
        to_result(head)?;
        let head = head as u32;
        if head == size {
            return Ok(None);
        }
        // SAFETY: the core has filled in so many pieces, first those to be read, then those to be written.
        let (readable, writable) = unsafe {
            let ins = pieces.add(readable as usize);
            (Pieces::new(bindings::ITER_SOURCE, pieces, readable), Pieces::new(bindings::ITER_DEST, ins, writable))
        };
        // INVARIANT: the iterators are over the queue's pieces, and the queue is borrowed with its lock.
        let logged = logs.then_some(logged);
        Ok(Some(Self { ring, head, readable, writable, logged, _queue: PhantomData }))
    }

    /// What is left to be read, in however many pieces. Copying stops early at memory that the owner does not have.
    pub(crate) fn readable(&mut self) -> &mut IovIterSource<'_> {
        // SAFETY: by the type's invariant the pieces are there, in this very worker's address space.
        unsafe { IovIterSource::from_raw(self.readable.rest.get()) }
    }

    /// What is left to be written.
    pub(crate) fn writable(&mut self) -> &mut IovIterDest<'_> {
        // SAFETY: as above.
        unsafe { IovIterDest::from_raw(self.writable.rest.get()) }
    }

    /// Gives the chain back with what was written, and says how many bytes were moved.
    pub(super) fn complete(mut self) -> Result<i32> {
        let read = self.readable.len - self.readable().len();
        let written = self.writable.len - self.writable().len();
        if let Some(logged) = self.logged {
            // SAFETY: the queue's lock is held; the log's entries are this chain's. The program that asked for a log must
            // know that it is not there, and the driver must have its chain all the same.
            unsafe {
                if c::vhost_log_write(self.ring, (*self.ring).log, logged, written as u64, null_mut(), 0) < 0 {
                    c::vioduct_vhost_report_error(self.ring);
                }
            }
        }
        // SAFETY: the queue's lock is held, and the head is of a chain that was taken and not completed yet.
        to_result(unsafe { c::vhost_add_used(self.ring, self.head, clamped(written)) })?;
        Ok(clamped(read.saturating_add(written)))
    }
}

impl Pieces {
    /// # Safety
    ///
    /// There are so many pieces, which stay as they are for as long as this is used.
    unsafe fn new(direction: u32, first: *const bindings::iovec, count: u32) -> Self {
        // SAFETY: by the caller's promise.
        let pieces = unsafe { core::slice::from_raw_parts(first, count as usize) };
        let len = pieces.iter().map(|piece| piece.iov_len as usize).sum();
        let rest = Opaque::uninit();
        // SAFETY: the iterator is ours to write; the pieces are there.
        unsafe { bindings::iov_iter_init(rest.get(), direction, first, count as usize, len) };
        Self { rest, len }
    }
}

/// The core counts in `int`.
fn clamped(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}
