//! One end of a vhost-user connection: messages in, as they trickle; replies out.
//!
//! A message is assembled from whatever pieces the peer sends, without waiting: a client that stops in the middle of one keeps
//! nobody else. The descriptors that come with any byte of a message belong to it. Bytes are never read beyond the end of a
//! message, for the descriptors of the next would come with them.

use crate::wire::{HEADER_LEN, MAX_FDS, Message, MessageHeader, WireError};
use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// A connected stream socket, from which messages of one kind come.
#[derive(Debug)]
pub(crate) struct Connection<H> {
    socket: OwnedFd,
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
    header: Option<H>,
}

/// What [`Connection::receive`] found.
#[derive(Debug)]
pub(crate) enum Received<H> {
    Message(Message<H>),
    /// No whole message is there yet.
    Nothing,
    /// The peer has gone.
    End,
}

/// What [`send_some`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sent {
    Bytes(usize),
    /// The peer does not read: later.
    Nothing,
}

impl<H: MessageHeader> Connection<H> {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, bytes: Vec::new(), fds: Vec::new(), header: None }
    }

    /// Takes what there is, up to the end of one message.
    pub(crate) fn receive(&mut self) -> Result<Received<H>, WireError> {
        loop {
            let wanted = HEADER_LEN + self.header.map_or(0, |header| header.payload_len());
            if self.bytes.len() < wanted {
                match self.receive_some(wanted - self.bytes.len()) {
                    Ok(0) => return Ok(Received::End),
                    Ok(_) => continue,
                    Err(WireError::Socket(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        return Ok(Received::Nothing);
                    }
                    Err(error) => return Err(error),
                }
            }
            match self.header {
                Some(header) => return Ok(Received::Message(self.take(header))),
                None => self.header = Some(self.decode_header()?),
            }
        }
    }

    fn decode_header(&self) -> Result<H, WireError> {
        let header = self.bytes.first_chunk().expect("invariant: a whole header has been received");
        H::decode(header)
    }

    fn take(&mut self, header: H) -> Message<H> {
        self.header = None;
        let mut payload = mem::take(&mut self.bytes);
        payload.drain(..HEADER_LEN);
        Message { header, payload, fds: mem::take(&mut self.fds) }
    }

    /// Receives up to `limit` bytes, and the descriptors that come with them.
    fn receive_some(&mut self, limit: usize) -> Result<usize, WireError> {
        let start = self.bytes.len();
        self.bytes.resize(start + limit, 0);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let into = self.bytes.get_mut(start..).unwrap_or_default();
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(&self.socket, &mut [IoSliceMut::new(into)], &mut control, flags);
        // Taken first: whatever happens next, each of them is owned, and closed in the end.
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        self.bytes.truncate(start + received.as_ref().map_or(0, |received| received.bytes));
        let received = received?;
        let lost = received.flags.intersects(ReturnFlags::CTRUNC | ReturnFlags::TRUNC);
        if lost || self.fds.len() > MAX_FDS {
            return Err(WireError::Lost);
        }
        Ok(received.bytes)
    }
}

impl<H> AsFd for Connection<H> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sends the first of `bytes`, with `fds`, as far as the peer takes them now.
pub(crate) fn send_some(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> Result<Sent, WireError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags) {
        Ok(count) => Ok(Sent::Bytes(count)),
        Err(Errno::AGAIN) => Ok(Sent::Nothing),
        Err(error) => Err(error.into()),
    }
}

/// Waits for any of `fds`, for `limit` at most, or until a signal comes.
pub(crate) fn wait(fds: &mut [PollFd<'_>], limit: Option<Duration>) -> Result<(), WireError> {
    let limit = limit.map(|limit| Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    });
    match poll(fds, limit.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
