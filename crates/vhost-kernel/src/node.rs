//! [`Node`]: an open device node of vhost's.
//!
//! This module holds `unsafe` to make the requests, which no library makes.
#![allow(unsafe_code)]

use crate::request::Request;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Takes requests: the kernel, or a test in its place.
///
/// The kernel accesses the memory of which it is told by addresses until the node is closed, so whoever makes requests keeps that until
/// then.
pub(crate) trait Vhost: Send {
    /// Makes a request; its answer, 0 if there is none.
    fn ask(&self, request: Request<'_>) -> io::Result<u64>;
}

#[derive(Debug)]
pub(crate) struct Node(OwnedFd);

impl Node {
    pub(crate) fn open(path: &str) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).open(path).map(|file| Self(file.into()))
    }
}

impl Vhost for Node {
    fn ask(&self, request: Request<'_>) -> io::Result<u64> {
        let mut argument = request.argument();
        // SAFETY: the kernel reads and writes as many bytes of the argument as its number and its counts say, and those are there.
        // The memory that it is told of is the guest's, to which there are no references, and a log of atomics; `Unit` keeps both
        // for longer than this file.
        let result = unsafe {
            libc::syscall(
                libc::SYS_ioctl,
                self.0.as_raw_fd(),
                libc::c_long::from(request.number()),
                argument.as_mut_ptr(),
            )
        };
        match result {
            0.. => Ok(request.answer(&argument)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
