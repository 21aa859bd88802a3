//! [`Engine`]: what carries out operations on the file while the handler goes on.
//!
//! This module holds `unsafe` because operations transfer to and from memory that is lent by a guest, which is described by raw
//! pointers and never referred to.
#![allow(unsafe_code)]

mod perform;
#[cfg(test)]
pub(crate) mod scripted;
mod threads;
mod uring;

use crate::disk::{Disk, Store};
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use threads::Pool;
use uring::Ring;
pub use uring::io_uring_works;

/// What is to carry out a device's operations on its file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// io_uring where the system permits it, else threads.
    Auto,
    /// io_uring.
    Uring,
    /// A few threads for each queue.
    Threads,
}

/// One contiguous piece of memory that an operation transfers to or from.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Piece(libc::iovec);

// SAFETY: a piece is a description; whoever has it dereferenced answers for the memory, see `Engine::push`.
unsafe impl Send for Piece {}

impl Piece {
    pub(crate) fn new(host: NonNull<u8>, len: usize) -> Self {
        Self(libc::iovec { iov_base: host.as_ptr().cast(), iov_len: len })
    }
}

/// A list of pieces, at most [`Pieces::MAX`], as the system takes it.
#[derive(Clone, Copy)]
pub(crate) struct Pieces {
    first: *const libc::iovec,
    count: u32,
}

// SAFETY: as for `Piece`.
unsafe impl Send for Pieces {}

impl Pieces {
    /// Linux's limit (`UIO_MAXIOV`).
    pub(crate) const MAX: usize = 1024;

    /// The list as it is now: it must neither change nor move while an operation has it.
    pub(crate) fn of(list: &[Piece]) -> Self {
        let list = list.get(..Self::MAX).unwrap_or(list);
        Self { first: list.as_ptr().cast(), count: list.len() as u32 }
    }
}

/// When a write counts as done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Durability {
    /// The system has it: a flush makes it stable.
    Cached,
    /// It is on stable storage.
    Stable,
}

/// One operation on the file, at offsets and of lengths in bytes.
#[derive(Clone, Copy)]
pub(crate) enum Op {
    Read {
        at: u64,
        into: Pieces,
    },
    Write {
        at: u64,
        from: Pieces,
        durability: Durability,
    },
    /// Makes stable what has been written.
    Sync,
    /// Deallocates; what was there reads as zeroes.
    Punch {
        at: u64,
        len: u64,
    },
    /// What was there reads as zeroes, and stays allocated.
    Zero {
        at: u64,
        len: u64,
    },
}

/// An operation that has ended: by whose token, and with how many bytes transferred.
pub(crate) struct Done {
    pub(crate) token: u32,
    pub(crate) result: io::Result<u64>,
}

/// Carries out the operations of one queue, many at a time, in any order.
pub(crate) enum Engine {
    Null {
        done: Vec<Done>,
    },
    Threads(Pool),
    Uring(Box<Ring>),
    #[cfg(test)]
    Scripted(scripted::Script),
}

impl Engine {
    /// Takes `method` at its word as far as the system's resources go: `io_uring_works` was asked before.
    pub(crate) fn new(disk: &Arc<Disk>, method: Method) -> Self {
        let Store::File(file) = &disk.store else { return Self::Null { done: Vec::new() } };
        if method != Method::Threads {
            match Ring::new(file) {
                Ok(ring) => return Self::Uring(Box::new(ring)),
                Err(error) => tracing::warn!("block: no io_uring ({error}): threads do its work"),
            }
        }
        Self::Threads(Pool::new(disk))
    }

    /// What becomes readable when operations have ended; there is none where they end at once.
    pub(crate) fn source(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Null { .. } => None,
            Self::Threads(pool) => pool.source(),
            Self::Uring(ring) => Some(ring.source()),
            #[cfg(test)]
            Self::Scripted(_) => None,
        }
    }

    /// Takes an operation on, to be begun by the next [`submit`](Self::submit) at the latest. At most as many are in flight as a
    /// queue has descriptors.
    ///
    /// # Safety
    /// The operation's list of pieces, and the memory that they describe, stay there until the operation is
    /// [`reap`](Self::reap)ed; no reference into that memory exists.
    pub(crate) unsafe fn push(&mut self, token: u32, op: Op) -> io::Result<()> {
        match self {
            Self::Null { done } => {
                // SAFETY: as the caller says.
                let result = Ok(unsafe { perform::nothing(&op) });
                done.push(Done { token, result });
                Ok(())
            }
            Self::Threads(pool) => {
                pool.push(token, op);
                Ok(())
            }
            // SAFETY: as the caller says.
            Self::Uring(ring) => unsafe { ring.push(token, op) },
            #[cfg(test)]
            Self::Scripted(script) => {
                // SAFETY: as the caller says.
                unsafe { script.push(token, op) };
                Ok(())
            }
        }
    }

    /// Begins what was pushed: once per wake.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
        match self {
            Self::Null { .. } => Ok(()),
            Self::Threads(pool) => {
                pool.submit();
                Ok(())
            }
            Self::Uring(ring) => ring.submit(),
            #[cfg(test)]
            Self::Scripted(_) => Ok(()),
        }
    }

    /// Appends what has ended so far.
    pub(crate) fn reap(&mut self, out: &mut Vec<Done>) {
        match self {
            Self::Null { done } => out.append(done),
            Self::Threads(pool) => pool.reap(out),
            Self::Uring(ring) => ring.reap(out),
            #[cfg(test)]
            Self::Scripted(script) => script.reap(out),
        }
    }

    /// Waits until there is something to [`reap`](Self::reap). Something must be in flight.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        match self {
            Self::Null { .. } => Ok(()),
            Self::Threads(pool) => {
                pool.wait();
                Ok(())
            }
            Self::Uring(ring) => ring.wait(),
            #[cfg(test)]
            Self::Scripted(_) => Ok(()),
        }
    }
}
