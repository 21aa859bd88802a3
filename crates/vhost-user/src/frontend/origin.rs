//! [`Origin`]: where a server is to be found, and found again.

use super::Trouble;
use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

#[derive(Debug)]
pub(super) enum Origin {
    /// It listens there.
    Path(PathBuf),
    /// It was there; once taken, it cannot be found again.
    Socket(Option<OwnedFd>),
}

impl Origin {
    /// Whether there is anything to try.
    pub(super) fn can_dial(&self) -> bool {
        !matches!(self, Self::Socket(None))
    }

    /// A connection, or at once why there is none: a server that accepts nobody is not waited for here.
    pub(super) fn dial(&mut self) -> Result<OwnedFd, Trouble> {
        let failed = Trouble::system("connect to the vhost-user server (does it run, and listen there?)");
        match self {
            Self::Socket(socket) => socket.take().ok_or_else(|| {
                Trouble::Unsuitable("was reached by a socket that was inherited: restart both".into())
            }),
            Self::Path(path) => {
                let address = SocketAddrUnix::new(&*path).map_err(&failed)?;
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                let socket =
                    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(&failed)?;
                connect(&socket, &address).map_err(&failed)?;
                Ok(socket)
            }
        }
    }
}

/// Whether vhost-user can be spoken over `socket`.
pub(super) fn is_stream(socket: &OwnedFd) -> bool {
    socket_type(socket).is_ok_and(|kind| kind == SocketType::STREAM)
        && socket_domain(socket).is_ok_and(|family| family == AddressFamily::UNIX)
}
