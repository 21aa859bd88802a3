//! [`Script`]: an engine whose results a test has written, and which lists the operations that it was given.
//!
//! This module holds `unsafe` because it reads lists of pieces, which are raw pointers.
#![allow(unsafe_code)]

use super::{Done, Durability, Op, Pieces};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

/// An operation with the number of bytes in its pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    Read { at: u64, len: u64 },
    Write { at: u64, len: u64, durability: Durability },
    Sync,
    Punch { at: u64, len: u64 },
    Zero { at: u64, len: u64 },
}

pub(crate) struct Script {
    pub(crate) results: VecDeque<io::Result<u64>>,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    done: Vec<Done>,
}

impl Script {
    /// Gives these results in turn, and then full success.
    pub(crate) fn new(results: Vec<io::Result<u64>>) -> Self {
        Self { results: results.into(), seen: Arc::default(), done: Vec::new() }
    }

    /// # Safety
    /// As for `Engine::push`.
    pub(super) unsafe fn push(&mut self, token: u32, op: Op) {
        let len = |Pieces { first, count }| {
            // SAFETY: `first` is a list of `count` pieces, as the caller says.
            let list = unsafe { std::slice::from_raw_parts(first, count as usize) };
            list.iter().map(|piece| piece.iov_len as u64).sum::<u64>()
        };
        let (seen, full) = match op {
            Op::Read { at, into } => (Seen::Read { at, len: len(into) }, len(into)),
            Op::Write { at, from, durability } => (Seen::Write { at, len: len(from), durability }, len(from)),
            Op::Sync => (Seen::Sync, 0),
            Op::Punch { at, len } => (Seen::Punch { at, len }, 0),
            Op::Zero { at, len } => (Seen::Zero { at, len }, 0),
        };
        self.seen.lock().unwrap().push(seen);
        let result = self.results.pop_front().unwrap_or(Ok(full));
        self.done.push(Done { token, result });
    }

    pub(super) fn reap(&mut self, out: &mut Vec<Done>) {
        out.append(&mut self.done);
    }
}
