//! [`Flight`]: a request on its way, as a row of operations; and the memory that they use ([`Slot`]).
//!
//! This module holds `unsafe` because it names a place of its own by address, as places of guest memory are named.
#![allow(unsafe_code)]

use crate::engine::{Durability, Op, Piece, Pieces};
use crate::request::{Fate, Span};
use std::io;
use std::ptr::NonNull;
use vioduct_spec::blk;
use vioduct_virtio_device::{BufferError, Chain};

/// Bytes that go by way of this process at a time, where guest memory is not mapped here.
const BOUNCE_LEN: u64 = 256 << 10;
/// What is written where a file system cannot make zeroes by itself.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];
/// Pieces of [`ZEROES`] in one write: 4 MiB.
const ZEROES_COUNT: u64 = 64;

/// What remains of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Task {
    Read {
        span: Span,
        done: u64,
    },
    Write {
        span: Span,
        done: u64,
        durability: Durability,
    },
    Sync,
    /// The ranges of the slot from number `next` on.
    Ranges {
        next: usize,
        means: Means,
        /// `Stable`: a sync follows the last.
        durability: Durability,
    },
    Finished,
}

/// How zeroes are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Means {
    /// By the file system.
    Allocation,
    /// By writing them: this many bytes of the range are.
    Writing { done: u64 },
}

/// A request on its way.
pub(crate) struct Flight {
    pub(crate) queue: u16,
    pub(crate) chain: Chain,
    pub(crate) task: Task,
    /// Bytes of the writable part that the disk has given.
    pub(crate) filled: u64,
}

/// What a request's operations use, kept from one request to the next so that none allocates. It stays untouched while an
/// operation is in flight.
#[derive(Default)]
pub(crate) struct Slot {
    pub(crate) flight: Option<Flight>,
    pub(crate) ranges: Vec<(Span, Fate)>,
    pieces: Vec<Piece>,
    bounce: Vec<u8>,
}

/// Why a request fails.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The file: `IOERR`.
    File(io::Error),
    /// The guest's memory: no status could tell.
    Memory(BufferError),
}

impl From<BufferError> for Trouble {
    fn from(error: BufferError) -> Self {
        Self::Memory(error)
    }
}

impl Slot {
    /// The next operation of the request here: `None` if it has been carried out. Its pieces are of this slot, and of the memory
    /// of the chain, both of which stay until [`advance`](Self::advance) is told the result.
    pub(crate) fn next_op(&mut self) -> Result<Option<Op>, Trouble> {
        let Some(task) = self.flight.as_ref().map(|flight| flight.task) else { return Ok(None) };
        Ok(match task {
            Task::Read { span, done } if done < span.len => {
                Some(Op::Read { at: span.at + done, into: self.gather(done, span.len - done)? })
            }
            Task::Write { span, done, durability } if done < span.len => {
                Some(Op::Write { at: span.at + done, from: self.gather(done, span.len - done)?, durability })
            }
            Task::Sync => Some(Op::Sync),
            Task::Ranges { next, means, durability } => self.range_op(next, means, durability),
            Task::Read { .. } | Task::Write { .. } | Task::Finished => None,
        })
    }

    /// Takes the result of the operation that [`next_op`](Self::next_op) gave last.
    pub(crate) fn advance(&mut self, result: io::Result<u64>) -> Result<(), Trouble> {
        let Some(flight) = &mut self.flight else { return Ok(()) };
        let result = match result {
            // The system wants it to be tried again.
            Err(error) if is_passing(&error) => return Ok(()),
            other => other,
        };
        match &mut flight.task {
            Task::Ranges { next, means, .. } => {
                let range = self.ranges.get(*next).copied();
                return range.map_or(Ok(()), |range| advance_range(next, means, range, result));
            }
            Task::Read { done, .. } => {
                let count = some(result, io::ErrorKind::UnexpectedEof)?;
                if let Some(data) = self.bounce.get(..count as usize) {
                    let mut writer = flight.chain.writer();
                    writer.skip(*done as usize)?;
                    writer.write_all(data)?;
                }
                *done += count;
                flight.filled = *done;
            }
            Task::Write { done, .. } => *done += some(result, io::ErrorKind::WriteZero)?,
            Task::Sync => {
                result.map_err(Trouble::File)?;
                flight.task = Task::Finished;
            }
            Task::Finished => {}
        }
        Ok(())
    }

    /// The memory of up to `len` bytes of the request's data, from `done` on: the guest's own, or a copy of it.
    fn gather(&mut self, done: u64, len: u64) -> Result<Pieces, Trouble> {
        self.pieces.clear();
        self.bounce.clear();
        let Some(flight) = &self.flight else { return Ok(Pieces::of(&self.pieces)) };
        let (segments, skipped) = match flight.task {
            Task::Write { .. } => (flight.chain.readable(), blk::HEADER_LEN as u64),
            _ => (flight.chain.writable(), 0),
        };
        let (mut skip, mut left) = (skipped + done, len);
        for segment in segments {
            let here = u64::from(segment.len());
            if skip >= here {
                skip -= here;
                continue;
            }
            let count = (here - skip).min(left);
            let Some(host) = segment.host() else { return self.gather_copy(done, len) };
            // SAFETY: `skip` is less than the segment's length, which is one mapped object.
            self.pieces.push(Piece::new(unsafe { host.add(skip as usize) }, count as usize));
            (skip, left) = (0, left - count);
            if left == 0 || self.pieces.len() == Pieces::MAX {
                break;
            }
        }
        Ok(Pieces::of(&self.pieces))
    }

    /// The same in memory of this process, for a guest's that is reached by messages only.
    fn gather_copy(&mut self, done: u64, len: u64) -> Result<Pieces, Trouble> {
        self.pieces.clear();
        self.bounce.resize(len.min(BOUNCE_LEN) as usize, 0);
        if let Some(Flight { chain, task: Task::Write { .. }, .. }) = &self.flight {
            let mut reader = chain.reader();
            reader.skip(blk::HEADER_LEN + done as usize)?;
            reader.read_exact(&mut self.bounce)?;
        }
        if let Some(host) = NonNull::new(self.bounce.as_mut_ptr()) {
            self.pieces.push(Piece::new(host, self.bounce.len()));
        }
        Ok(Pieces::of(&self.pieces))
    }

    fn range_op(&mut self, next: usize, means: Means, durability: Durability) -> Option<Op> {
        let Some((span, fate)) = self.ranges.get(next).copied() else {
            return self.after_ranges(durability);
        };
        Some(match (means, fate) {
            (Means::Writing { done }, _) => self.zeroes_op(span.at + done, span.len - done),
            (Means::Allocation, Fate::Zeroed) => Op::Zero { at: span.at, len: span.len },
            (Means::Allocation, Fate::Discarded | Fate::Unmapped) => Op::Punch { at: span.at, len: span.len },
        })
    }

    fn after_ranges(&mut self, durability: Durability) -> Option<Op> {
        let flight = self.flight.as_mut()?;
        let (task, op) = match durability {
            Durability::Cached => (Task::Finished, None),
            Durability::Stable => (Task::Sync, Some(Op::Sync)),
        };
        flight.task = task;
        op
    }

    fn zeroes_op(&mut self, at: u64, len: u64) -> Op {
        let piece_len = ZEROES.len() as u64;
        self.pieces.clear();
        for number in 0..len.div_ceil(piece_len).min(ZEROES_COUNT) {
            let count = piece_len.min(len - number * piece_len);
            self.pieces.push(Piece::new(NonNull::from(&ZEROES).cast(), count as usize));
        }
        Op::Write { at, from: Pieces::of(&self.pieces), durability: Durability::Cached }
    }
}

fn advance_range(
    next: &mut usize,
    means: &mut Means,
    (span, fate): (Span, Fate),
    result: io::Result<u64>,
) -> Result<(), Trouble> {
    match (&mut *means, result) {
        (Means::Allocation, Ok(_)) => *next += 1,
        (Means::Allocation, Err(error)) if is_unsupported(&error) => match fate {
            // virtio 1.3 §5.2.6.2: a device may deallocate, or not.
            Fate::Discarded => *next += 1,
            Fate::Zeroed | Fate::Unmapped => *means = Means::Writing { done: 0 },
        },
        (Means::Writing { done }, result) => {
            *done += some(result, io::ErrorKind::WriteZero)?;
            if *done >= span.len {
                *next += 1;
                *means = Means::Allocation;
            }
        }
        (Means::Allocation, Err(error)) => return Err(Trouble::File(error)),
    }
    Ok(())
}

/// A transfer of nothing would go on for ever: the file is shorter than it was.
fn some(result: io::Result<u64>, otherwise: io::ErrorKind) -> Result<u64, Trouble> {
    match result {
        Ok(0) => Err(Trouble::File(otherwise.into())),
        Ok(count) => Ok(count),
        Err(error) => Err(Trouble::File(error)),
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::ENODEV))
}
