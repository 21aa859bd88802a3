//! Operations by blocking system calls.
//!
//! This module holds `unsafe` because the calls transfer to and from memory behind raw pointers.
#![allow(unsafe_code)]

use super::{Durability, Op, Pieces};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `fallocate` modes (`linux/falloc.h`); the length of the file stays.
pub(super) const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
pub(super) const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;

pub(super) fn write_flags(durability: Durability) -> i32 {
    match durability {
        Durability::Cached => 0,
        Durability::Stable => libc::RWF_DSYNC,
    }
}

/// Carries out `op`, and returns how many bytes were transferred.
///
/// # Safety
/// The operation's pieces and their memory stay there meanwhile.
pub(super) unsafe fn perform(file: BorrowedFd<'_>, op: &Op) -> io::Result<u64> {
    let fd = file.as_raw_fd();
    loop {
        let result = match *op {
            Op::Read { at, into: Pieces { first, count } } => {
                // SAFETY: `first` is a list of `count` pieces, as the caller says; the kernel checks their memory itself.
                unsafe { libc::preadv(fd, first, count as i32, at as i64) }
            }
            Op::Write { at, from: Pieces { first, count }, durability } => {
                // SAFETY: as above.
                unsafe { libc::pwritev2(fd, first, count as i32, at as i64, write_flags(durability)) }
            }
            // SAFETY: it takes no memory.
            Op::Sync => unsafe { libc::fdatasync(fd) as isize },
            // SAFETY: as above.
            Op::Punch { at, len } => unsafe { libc::fallocate(fd, PUNCH, at as i64, len as i64) as isize },
            // SAFETY: as above.
            Op::Zero { at, len } => unsafe { libc::fallocate(fd, ZERO, at as i64, len as i64) as isize },
        };
        match u64::try_from(result) {
            Ok(bytes) => return Ok(bytes),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// Does as if `op` had been carried out on a file of zeroes.
///
/// # Safety
/// As for [`perform`].
pub(super) unsafe fn nothing(op: &Op) -> u64 {
    // SAFETY: `first` is a list of `count` pieces, as the caller says.
    let list = |pieces: &Pieces| unsafe { std::slice::from_raw_parts(pieces.first, pieces.count as usize) };
    let mut transferred = 0;
    match op {
        Op::Read { into, .. } => {
            for piece in list(into) {
                // SAFETY: the piece is memory that may be written to, as the caller says.
                unsafe { piece.iov_base.cast::<u8>().write_bytes(0, piece.iov_len) };
                transferred += piece.iov_len;
            }
        }
        Op::Write { from, .. } => transferred = list(from).iter().map(|piece| piece.iov_len).sum(),
        Op::Sync | Op::Punch { .. } | Op::Zero { .. } => {}
    }
    transferred as u64
}
