//! The host's sockets: [`Listener`] for its programs, connections to them, and reads and writes that never wait.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, connect, recv,
    send, socket_with,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

const OURS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// The socket on which host programs reach the guest, and the name by which the guest reaches them.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

/// Why there is no socket for host programs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Somebody listens there.
    #[error("another program listens there: end it, or choose another path")]
    InUse,
    /// The system does not let one be made.
    #[error("{0}: name a socket in a folder in which files can be made")]
    System(#[from] io::Error),
}

impl Listener {
    /// Makes a socket at `path`. One that is there already, and on which nobody listens any more, is replaced.
    ///
    /// # Errors
    /// If somebody listens there, or it cannot be made.
    pub fn bind(path: &Path) -> Result<Self, ListenError> {
        let there = std::fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket());
        if there {
            match UnixStream::connect(path) {
                Ok(_) => return Err(ListenError::InUse),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
                Err(error) => return Err(error.into()),
            }
        }
        let socket = UnixListener::bind(path)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// The next host program that wants to be connected, if there is one.
    pub(crate) fn accept(&self) -> io::Result<Option<Stream>> {
        loop {
            match accept_with(&self.socket, OURS) {
                Ok(stream) => return Ok(Some(Stream(stream))),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A connection to the host program that listens on `port`. A program with more connections waiting than it takes is as good as
    /// none: nothing waits for it.
    pub(crate) fn reach(&self, port: u32) -> io::Result<Stream> {
        let mut path = self.path.clone().into_os_string();
        path.push(format!("_{port}"));
        let address = SocketAddrUnix::new(PathBuf::from(path))?;
        let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, OURS, None)?;
        connect(&stream, &address)?;
        Ok(Stream(stream))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A connection with a host program.
#[derive(Debug)]
pub(crate) struct Stream(OwnedFd);

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
    /// Nobody reads it any more.
    Closed,
}

impl Stream {
    /// Reads up to `out.len()` bytes, which is not 0. A failed connection has ended.
    pub(crate) fn read(&self, out: &mut [u8]) -> Got {
        loop {
            match recv(&self.0, &mut *out, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Got::End,
                Ok((count, _)) => return Got::Bytes(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Got::Nothing,
                Err(_) => return Got::End,
            }
        }
    }

    /// Writes some of `data`, which is not empty.
    pub(crate) fn write(&self, data: &[u8]) -> Sent {
        loop {
            match send(&self.0, data, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => return Sent::Bytes(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Sent::Blocked,
                Err(_) => return Sent::Closed,
            }
        }
    }

    /// Ends one direction, as the host program sees it.
    pub(crate) fn shutdown(&self, how: rustix::net::Shutdown) {
        // It fails where the program has gone, which is seen elsewhere.
        let _ = rustix::net::shutdown(&self.0, how);
    }

    /// Whether the host program neither reads nor writes any more.
    pub(crate) fn is_gone(&self) -> bool {
        const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.0, PollFlags::empty())];
        // An interruption leaves no events: whoever has gone is found so at the next look.
        let _ = poll(&mut fds, Some(&NOW));
        fds.iter().any(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR))
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
