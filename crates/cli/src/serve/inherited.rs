//! Descriptors that this process was started with.
//!
//! This module holds `unsafe` because a number on the command line becomes an owned descriptor.
#![allow(unsafe_code)]

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

/// Takes an inherited descriptor over; programs that this one starts do not get it.
pub(super) fn take(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: the number is above 2 (the command line's grammar), so it is not -1; the borrow ends before anything can close it.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(borrowed, fcntl_getfd(borrowed)? | FdFlags::CLOEXEC)?;
    // SAFETY: it is open, as the calls above have found. It was open before `main` and nothing in this program has opened or owns a
    // descriptor by that number: this runs once, before the server opens any.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
