//! Eventfds as KVM's calls take them.
//!
//! This module holds `unsafe` because a descriptor becomes an owned one of another crate's type.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd};
use vmm_sys_util::eventfd::EventFd;

/// Another descriptor of the same eventfd.
pub(super) fn same_event(event: BorrowedFd<'_>) -> io::Result<EventFd> {
    let copy = event.try_clone_to_owned()?;
    // SAFETY: the descriptor is open and was owned by `copy`, which gave it up.
    Ok(unsafe { EventFd::from_raw_fd(copy.into_raw_fd()) })
}
