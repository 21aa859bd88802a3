//! [`News`]: the system's announcements of devices, interfaces among them, that come and go.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::read;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Becomes readable with each announcement. Nothing can be asked for by this socket.
pub(super) struct News(OwnedFd);

/// What the kernel itself announces.
const BY_THE_KERNEL: u32 = 1;

impl News {
    pub(super) fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(KOBJECT_UEVENT))?;
        bind(&socket, &SocketAddrNetlink::new(0, BY_THE_KERNEL))?;
        Ok(Self(socket))
    }

    /// Forgets what was announced: an interface is looked at, whatever it was.
    pub(super) fn take(&self) {
        let mut ignored = [0; 1];
        // What is lost for want of room is announced by an error, once.
        while read(&self.0, &mut ignored).is_ok_and(|len| len > 0) {}
    }
}

impl AsFd for News {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether the interface of this queue is no more.
pub(super) fn is_gone(queue: &OwnedFd) -> bool {
    let mut events = [PollFd::new(queue, PollFlags::empty())];
    let polled = poll(&mut events, Some(&Timespec::default()));
    polled.is_ok() && events.iter().any(|event| event.revents().contains(PollFlags::ERR))
}
