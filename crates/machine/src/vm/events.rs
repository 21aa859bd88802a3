//! Eventfds, and the same as KVM's calls take them.
//!
//! This module holds `unsafe` because a descriptor becomes an owned one of another crate's type.
#![allow(unsafe_code)]

use crate::error::MachineError;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd};
use vioduct_virtio_device::EventFd;
use vmm_sys_util::eventfd::EventFd as KvmEvent;

/// An eventfd of the machine's.
pub(crate) fn new_event() -> Result<EventFd, MachineError> {
    EventFd::new().map_err(MachineError::system("make an eventfd (raise the limit of open files)"))
}

/// An eventfd, and the same for KVM's calls.
pub(super) fn new_event_pair() -> Result<(EventFd, KvmEvent), MachineError> {
    let event = new_event()?;
    let kvm_event = same_event(event.as_fd())?;
    Ok((event, kvm_event))
}

/// Another descriptor of the same eventfd.
pub(super) fn same_event(event: BorrowedFd<'_>) -> Result<KvmEvent, MachineError> {
    duplicate(event).map_err(MachineError::system("copy a descriptor (raise the limit of open files)"))
}

fn duplicate(event: BorrowedFd<'_>) -> io::Result<KvmEvent> {
    let copy = event.try_clone_to_owned()?;
    // SAFETY: the descriptor is open and was owned by `copy`, which gave it up.
    Ok(unsafe { KvmEvent::from_raw_fd(copy.into_raw_fd()) })
}
