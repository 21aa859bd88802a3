//! Messages from the pieces in which they come.
//!
//! Bytes are never read beyond the end of a message, for the descriptors of the next would come with them.

use crate::wire::{HEADER_LEN, Header, MAX_FDS, Message};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use std::io::IoSliceMut;
use std::mem::{self, MaybeUninit};
use std::os::fd::{BorrowedFd, OwnedFd};

/// A message of which some has come.
#[derive(Default, Debug)]
pub(crate) struct Assembly {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
    header: Option<Header>,
}

/// What [`Assembly::receive`] found.
#[derive(Debug)]
pub(crate) enum Received {
    Message(Message),
    /// No whole message is there yet.
    Nothing,
    /// The peer has gone, or what it sends cannot be told apart any more.
    End(&'static str),
}

impl Assembly {
    /// Takes what there is, without waiting, up to the end of one message.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> Received {
        loop {
            let wanted = HEADER_LEN + self.header.map_or(0, |header| header.payload_len);
            if let Some(missing) = wanted.checked_sub(self.bytes.len()).filter(|missing| *missing > 0) {
                match self.receive_some(socket, missing) {
                    Ok(0) => return Received::End("the other end has closed the connection"),
                    Ok(_) => continue,
                    Err(Errno::AGAIN) => return Received::Nothing,
                    Err(Errno::INTR) => continue,
                    Err(Errno::TOOBIG) => return Received::End("more descriptors than a message has"),
                    Err(_) => return Received::End("the connection has failed"),
                }
            }
            match self.header {
                Some(header) => return Received::Message(self.take(header)),
                None => match self.bytes.first_chunk().and_then(Header::decode) {
                    Some(header) => self.header = Some(header),
                    None => return Received::End("a message of a length that none has"),
                },
            }
        }
    }

    fn take(&mut self, header: Header) -> Message {
        self.header = None;
        let mut payload = mem::take(&mut self.bytes);
        payload.drain(..HEADER_LEN);
        Message { header, payload, fds: mem::take(&mut self.fds) }
    }

    /// Receives up to `limit` bytes, and the descriptors that come with them.
    fn receive_some(&mut self, socket: BorrowedFd<'_>, limit: usize) -> Result<usize, Errno> {
        let start = self.bytes.len();
        self.bytes.resize(start + limit, 0);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let into = self.bytes.get_mut(start..).unwrap_or_default();
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(socket, &mut [IoSliceMut::new(into)], &mut control, flags);
        // Taken first: whatever happens next, each of them is owned, and closed in the end.
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        self.bytes.truncate(start + received.as_ref().map_or(0, |received| received.bytes));
        let received = received?;
        if received.flags.contains(ReturnFlags::CTRUNC) || self.fds.len() > MAX_FDS {
            return Err(Errno::TOOBIG);
        }
        Ok(received.bytes)
    }
}
