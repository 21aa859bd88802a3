//! System calls as a program with faults makes them: with addresses that are none, and waits that a signal ends. And ioctls.
//!
//! This module holds `unsafe` because such calls have no safe form.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::Error;
use std::os::fd::AsRawFd;
use std::ptr;

/// An address that no process has anything at.
const NOWHERE: usize = 8;
const LEN: usize = 4;

/// Has the kernel write what it reads to an address that is none.
pub(crate) fn read_to_nowhere(file: &File) -> Result<(), Error> {
    // SAFETY: the kernel checks the address and answers EFAULT; this process has nothing there that could change.
    outcome(unsafe { libc::read(file.as_raw_fd(), ptr::without_provenance_mut(NOWHERE), LEN) })
}

/// Has the kernel read what it writes from an address that is none.
pub(crate) fn write_from_nowhere(file: &File) -> Result<(), Error> {
    // SAFETY: as above; the kernel reads only.
    outcome(unsafe { libc::write(file.as_raw_fd(), ptr::without_provenance(NOWHERE), LEN) })
}

fn outcome(length: isize) -> Result<(), Error> {
    if length < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

/// An ioctl without an argument, whose result is a number.
pub(crate) fn number_of(file: &File, request: u32) -> Result<u32, Error> {
    // SAFETY: the kernel is given no address.
    let number = unsafe { libc::ioctl(file.as_raw_fd(), request.into()) };
    u32::try_from(number).map_err(|_| Error::last_os_error())
}

/// Has a signal come in so many seconds, which ends system calls and does nothing else.
pub(crate) fn interrupt_in(seconds: u32) {
    extern "C" fn nothing(_signal: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = nothing;
    // SAFETY: the handler touches nothing. `sigaction` is a plain struct, whose zeros mean an empty mask and no flags: without
    // SA_RESTART, so that the call is ended. Its address is good for the call.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        libc::sigaction(libc::SIGALRM, &raw const action, ptr::null_mut());
        libc::alarm(seconds);
    }
}
