//! [`Way`]: how a program reaches those of the other side.
//!
//! This module holds `unsafe` because an `AF_VSOCK` address goes to the kernel as bytes.
#![allow(unsafe_code)]

use std::io::{self, Error, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use libc::{AF_VSOCK, VMADDR_CID_ANY, VMADDR_CID_HOST, setsockopt, sockaddr_vm, socklen_t, timeval};
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with};

use crate::verdict::must_hold;

/// The device's socket, beside which the host's ports are, unless another is named.
pub(super) const PATH: &str = "/run/guest3/vsock";
/// The guest's context identifier.
const GUEST_CID: u32 = 3;
/// Callers that may wait.
const BACKLOG: i32 = 128;
/// `linux/vm_sockets.h`: how long `connect` tries.
const SO_VM_SOCKETS_CONNECT_TIMEOUT: libc::c_int = 6;
static PATIENCE: timeval = timeval { tv_sec: 60, tv_usec: 0 };

/// How the other side is reached, and reaches this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// A guest by its device's Unix sockets, of which this is the first: `path` of `--device vsock,cid=3,path=…`.
    Unix(String),
    /// By `AF_VSOCK`, at this context identifier.
    Vsock(u32),
}

impl Way {
    pub(super) const HOST: Self = Self::Vsock(VMADDR_CID_HOST);
    pub(super) const GUEST: Self = Self::Vsock(GUEST_CID);

    /// Has the other side's programs call this port.
    pub(super) fn listen(&self, port: u32) -> io::Result<OwnedFd> {
        match self {
            Self::Unix(path) => {
                Path::new(path).parent().map_or(Ok(()), std::fs::create_dir_all)?;
                Ok(UnixListener::bind(format!("{path}_{port}"))?.into())
            }
            Self::Vsock(_) => {
                let socket = stream_socket()?;
                bind(&socket, &Address { cid: VMADDR_CID_ANY, port })?;
                listen(&socket, BACKLOG)?;
                Ok(socket)
            }
        }
    }

    /// Calls a port of the other side's.
    pub(super) fn connect(&self, port: u32) -> io::Result<UnixStream> {
        match *self {
            Self::Unix(ref path) => call(UnixStream::connect(path)?, port),
            Self::Vsock(cid) => {
                let socket = stream_socket()?;
                be_patient(&socket)?;
                connect(&socket, &Address { cid, port })?;
                Ok(socket.into())
            }
        }
    }
}

fn stream_socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::VSOCK, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// Linux gives up after two seconds, in which a machine that is emulated within another may not come to it.
fn be_patient(socket: &OwnedFd) -> io::Result<()> {
    let (value, len) = ((&raw const PATIENCE).cast(), size_of::<timeval>() as socklen_t);
    // SAFETY: the kernel reads so many bytes, which are there.
    let outcome =
        unsafe { setsockopt(socket.as_raw_fd(), AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, value, len) };
    if outcome == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Says whom it wants, and hears that it has been accepted.
fn call(mut stream: UnixStream, port: u32) -> io::Result<UnixStream> {
    writeln!(stream, "CONNECT {port}")?;
    let mut answer = Vec::new();
    // What comes behind the line is the other program's.
    while !answer.ends_with(b"\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).map_err(|error| Error::new(error.kind(), format!("no OK: {error}")))?;
        answer.extend(byte);
    }
    must_hold(answer.starts_with(b"OK "), "the device does not say OK")?;
    Ok(stream)
}

struct Address {
    cid: u32,
    port: u32,
}

// SAFETY: the pointer is to a `sockaddr_vm` that is there for the call, with its length and the family that it is of.
unsafe impl SocketAddrArg for Address {
    unsafe fn with_sockaddr<R>(&self, f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R) -> R {
        let address = sockaddr_vm {
            svm_family: AF_VSOCK as libc::sa_family_t,
            svm_reserved1: 0,
            svm_port: self.port,
            svm_cid: self.cid,
            svm_zero: [0; 4],
        };
        f((&raw const address).cast(), size_of::<sockaddr_vm>() as SocketAddrLen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_answered_before_anything_else_is_heard() {
        let (host, mut device) = UnixStream::pair().unwrap();
        device.write_all(b"OK 1024\nhello").unwrap();
        let mut stream = call(host, 7).unwrap();
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
        let mut asked = [0; 10];
        device.read_exact(&mut asked).unwrap();
        assert_eq!(&asked, b"CONNECT 7\n");
    }

    #[test]
    fn a_call_that_nobody_answers_is_an_error() {
        let (host, device) = UnixStream::pair().unwrap();
        drop(device);
        assert!(call(host, 7).is_err());
    }
}
