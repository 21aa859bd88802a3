//! [`Ring`]: operations by io_uring, submitted once per wake.
//!
//! This module holds `unsafe` because the kernel transfers to and from memory behind raw pointers, after the calls have returned.
#![allow(unsafe_code)]

use super::perform::{PUNCH, ZERO, write_flags};
use super::{Done, Op, Pieces};
use io_uring::types::{Fixed, FsyncFlags};
use io_uring::{IoUring, Probe, opcode, squeue};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Entries of the submission queue; there are twice as many completions, and as many operations in flight as a queue of the
/// device has descriptors.
const ENTRIES: u32 = crate::device::QUEUE_SIZE as u32;
/// The one registered file.
const FILE: Fixed = Fixed(0);
/// Submissions that the kernel has no memory for, before the device gives up.
const TRIES: usize = 1000;

pub(crate) struct Ring {
    ring: IoUring,
    /// Operations that the kernel has not been told of.
    staged: usize,
}

/// Whether this system permits io_uring, with all that the device needs of it; containers often do not.
///
/// # Errors
/// The system's reason.
pub fn io_uring_works() -> io::Result<()> {
    Ring::new(&File::open("/dev/null")?).map(drop)
}

impl Ring {
    pub(super) fn new(file: &File) -> io::Result<Self> {
        // Completions need not interrupt a thread that will enter the kernel anyway; systems before Linux 5.19 do not know that.
        let ring = IoUring::builder()
            .setup_coop_taskrun()
            .build(ENTRIES)
            .or_else(|_| IoUring::builder().build(ENTRIES))?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let needed =
            [opcode::Readv::CODE, opcode::Writev::CODE, opcode::Fsync::CODE, opcode::Fallocate::CODE];
        if !needed.into_iter().all(|code| probe.is_supported(code)) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        ring.submitter().register_files(&[file.as_raw_fd()])?;
        Ok(Self { ring, staged: 0 })
    }

    /// The ring itself can be waited for, and is ready while there are completions.
    pub(super) fn source(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the ring's own, and open as long as the ring is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }

    /// # Safety
    /// As for `Engine::push`.
    pub(super) unsafe fn push(&mut self, token: u32, op: Op) -> io::Result<()> {
        let entry = entry(op).user_data(token.into());
        // SAFETY: the pieces and their memory stay until the operation is reaped, as the caller says; the file is registered.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.submit()?;
        }
        self.staged += 1;
        Ok(())
    }

    pub(super) fn submit(&mut self) -> io::Result<()> {
        let mut tries = 0;
        while self.staged > 0 {
            match self.ring.submit() {
                Ok(taken) => self.staged = self.staged.saturating_sub(taken),
                Err(error) => {
                    tries += 1;
                    pause(error, tries)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn reap(&mut self, out: &mut Vec<Done>) {
        for entry in self.ring.completion() {
            let result = match u64::try_from(entry.result()) {
                Ok(bytes) => Ok(bytes),
                Err(_) => Err(io::Error::from_raw_os_error(-entry.result())),
            };
            out.push(Done { token: entry.user_data() as u32, result });
        }
    }

    pub(super) fn wait(&mut self) -> io::Result<()> {
        self.submit()?;
        let mut tries = 0;
        while let Err(error) = self.ring.submit_and_wait(1) {
            tries += 1;
            pause(error, tries)?;
        }
        Ok(())
    }
}

/// Lets the kernel catch up, if that is what it asks for.
fn pause(error: io::Error, tries: usize) -> io::Result<()> {
    match error.raw_os_error() {
        Some(libc::EINTR) => Ok(()),
        Some(libc::EAGAIN | libc::EBUSY) if tries < TRIES => {
            std::thread::yield_now();
            Ok(())
        }
        _ => Err(error),
    }
}

fn entry(op: Op) -> squeue::Entry {
    match op {
        Op::Read { at, into: Pieces { first, count } } => {
            opcode::Readv::new(FILE, first, count).offset(at).build()
        }
        Op::Write { at, from: Pieces { first, count }, durability } => {
            opcode::Writev::new(FILE, first, count).offset(at).rw_flags(write_flags(durability)).build()
        }
        Op::Sync => opcode::Fsync::new(FILE).flags(FsyncFlags::DATASYNC).build(),
        Op::Punch { at, len } => opcode::Fallocate::new(FILE, len).offset(at).mode(PUNCH).build(),
        Op::Zero { at, len } => opcode::Fallocate::new(FILE, len).offset(at).mode(ZERO).build(),
    }
}
