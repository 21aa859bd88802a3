//! [`Node`]: an open device node of vhost's.
//!
//! This module holds `unsafe` to make the requests, which no library makes.
#![allow(unsafe_code)]

use crate::request::Request;
use crate::translation::{Message, miss};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use vioduct_spec::vhost::translation;

/// Takes requests: the kernel, or a test in its place.
///
/// The kernel accesses the memory of which it is told by addresses until the node is closed, so whoever makes requests keeps that until
/// then.
pub(crate) trait Vhost: Send + Sync {
    /// Makes a request; its answer, 0 if there is none.
    fn ask(&self, request: Request<'_>) -> io::Result<u64>;

    /// Tells it of translations.
    fn tell(&self, message: Message) -> io::Result<()>;

    /// The next address that it has no translation for; `None` if there is none now.
    fn missed(&self) -> io::Result<Option<u64>>;

    /// Readable when there is one.
    fn misses(&self) -> BorrowedFd<'_>;
}

#[derive(Debug)]
pub(crate) struct Node(OwnedFd);

impl Node {
    pub(crate) fn open(path: &str) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
        options.open(path).map(|file| Self(file.into()))
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

    fn tell(&self, message: Message) -> io::Result<()> {
        // It takes a message whole.
        rustix::io::write(&self.0, &message.bytes()).map(drop).map_err(io::Error::from)
    }

    fn missed(&self) -> io::Result<Option<u64>> {
        let mut message = [0; translation::LEN];
        match rustix::io::read(&self.0, &mut message) {
            Ok(0) | Err(rustix::io::Errno::AGAIN) => Ok(None),
            Ok(_) => Ok(miss(&message)),
            Err(error) => Err(error.into()),
        }
    }

    fn misses(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
