//! [`Wire`]: one direction of a line. Reads and writes do what can be done now, and never wait.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, write};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What one write to a pipe that can be written to takes without waiting (`PIPE_BUF`).
const PIECE_BYTES: usize = 4096;

/// How a descriptor is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// It is ours, and does not block.
    Own,
    /// Other processes have it too, and may rely on its blocking: it is asked before each use.
    Shared,
    /// It is ours, does not block, and is the near end of a terminal, which others open and close.
    Terminal,
}

/// What reading gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Got {
    /// So many bytes, not 0.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// Nothing ever again.
    End,
}

/// What has become of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sent {
    /// So many bytes have been taken.
    Bytes(usize),
    /// It would have to wait.
    Blocked,
}

#[derive(Debug)]
pub(crate) struct Wire {
    fd: OwnedFd,
    kind: Kind,
}

impl Wire {
    pub(crate) fn new(fd: OwnedFd, kind: Kind) -> Self {
        Self { fd, kind }
    }

    /// Reads up to `out.len()` bytes.
    pub(crate) fn read(&self, out: &mut [u8]) -> io::Result<Got> {
        if self.kind == Kind::Shared && self.poll(PollFlags::IN)?.is_empty() {
            return Ok(Got::Nothing);
        }
        loop {
            match read(&self.fd, &mut *out) {
                Ok(0) => return Ok(Got::End),
                Ok(count) => return Ok(Got::Bytes(count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Got::Nothing),
                // Nobody has the terminal open; somebody may later.
                Err(Errno::IO) if self.kind == Kind::Terminal => return Ok(Got::Nothing),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes some of `data`, which is not empty.
    pub(crate) fn write(&self, data: &[u8]) -> io::Result<Sent> {
        let piece = match self.kind {
            Kind::Own => data,
            Kind::Shared if self.poll(PollFlags::OUT)?.is_empty() => return Ok(Sent::Blocked),
            Kind::Shared => data.get(..PIECE_BYTES).unwrap_or(data),
            // Nobody has the terminal open: as with a terminal that is switched off, a guest is not to wait for it.
            Kind::Terminal if self.poll(PollFlags::OUT)?.contains(PollFlags::HUP) => {
                return Ok(Sent::Bytes(data.len()));
            }
            Kind::Terminal => data,
        };
        loop {
            match write(&self.fd, piece) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => return Ok(Sent::Bytes(count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Sent::Blocked),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What can be done now, of `wanted`; and what is wrong.
    fn poll(&self, wanted: PollFlags) -> io::Result<PollFlags> {
        const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.fd, wanted)];
        loop {
            match poll(&mut fds, Some(&NOW)) {
                Ok(_) => return Ok(fds.iter().fold(PollFlags::empty(), |all, fd| all | fd.revents())),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
