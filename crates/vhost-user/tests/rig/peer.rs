//! A raw peer: sends any bytes, in any pieces, with any descriptors. Numbers are written out here once more, so that the
//! server's own table is tested and not repeated.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub(crate) const GET_FEATURES: u32 = 1;
pub(crate) const SET_FEATURES: u32 = 2;
pub(crate) const SET_OWNER: u32 = 3;
pub(crate) const RESET_OWNER: u32 = 4;
pub(crate) const SET_MEM_TABLE: u32 = 5;
pub(crate) const SET_LOG_BASE: u32 = 6;
pub(crate) const SET_LOG_FD: u32 = 7;
pub(crate) const SET_VRING_NUM: u32 = 8;
pub(crate) const SET_VRING_ADDR: u32 = 9;
pub(crate) const SET_VRING_BASE: u32 = 10;
pub(crate) const GET_VRING_BASE: u32 = 11;
pub(crate) const SET_VRING_KICK: u32 = 12;
pub(crate) const SET_VRING_CALL: u32 = 13;
pub(crate) const SET_VRING_ERR: u32 = 14;
pub(crate) const GET_PROTOCOL_FEATURES: u32 = 15;
pub(crate) const SET_PROTOCOL_FEATURES: u32 = 16;
pub(crate) const GET_QUEUE_NUM: u32 = 17;
pub(crate) const SET_VRING_ENABLE: u32 = 18;
pub(crate) const SET_BACKEND_REQ_FD: u32 = 21;
pub(crate) const GET_CONFIG: u32 = 24;
pub(crate) const SET_CONFIG: u32 = 25;
pub(crate) const GET_INFLIGHT_FD: u32 = 31;
pub(crate) const SET_INFLIGHT_FD: u32 = 32;
pub(crate) const RESET_DEVICE: u32 = 34;
pub(crate) const VRING_KICK: u32 = 35;
pub(crate) const GET_MAX_MEM_SLOTS: u32 = 36;
pub(crate) const ADD_MEM_REG: u32 = 37;
pub(crate) const REM_MEM_REG: u32 = 38;
pub(crate) const SET_STATUS: u32 = 39;
pub(crate) const GET_STATUS: u32 = 40;
pub(crate) const SET_DEVICE_STATE_FD: u32 = 42;
pub(crate) const CHECK_DEVICE_STATE: u32 = 43;

pub(crate) const MQ: u64 = 1 << 0;
pub(crate) const LOG_SHMFD: u64 = 1 << 1;
pub(crate) const REPLY_ACK: u64 = 1 << 3;
pub(crate) const BACKEND_REQ: u64 = 1 << 5;
pub(crate) const CONFIG: u64 = 1 << 9;
pub(crate) const INFLIGHT_SHMFD: u64 = 1 << 12;
pub(crate) const RESET_DEVICE_FEATURE: u64 = 1 << 13;
pub(crate) const IN_BAND: u64 = 1 << 14;
pub(crate) const MEM_SLOTS: u64 = 1 << 15;
pub(crate) const STATUS: u64 = 1 << 16;
pub(crate) const DEVICE_STATE: u64 = 1 << 19;

pub(crate) const VERSION: u32 = 1;
pub(crate) const REPLY: u32 = 4;
pub(crate) const NEED_REPLY: u32 = 8;

/// Longer than anything takes, shorter than a person waits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of a message.
pub(crate) fn message(request: u32, flags: u32, payload: &[u8]) -> Vec<u8> {
    let header = words(&[request, flags, payload.len() as u32]);
    [&header, payload].concat()
}

pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

pub(crate) fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

/// A message as it came.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) request: u32,
    pub(crate) flags: u32,
    pub(crate) payload: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Incoming {
    pub(crate) fn long(&self) -> u64 {
        u64::from_ne_bytes(self.payload.as_slice().try_into().expect("a payload of one long"))
    }
}

pub(crate) struct Peer {
    pub(crate) socket: UnixStream,
}

impl Peer {
    pub(crate) fn connect(path: &Path) -> Self {
        Self::over(UnixStream::connect(path).unwrap())
    }

    pub(crate) fn over(socket: UnixStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { socket }
    }

    /// Sends bytes as they are. The peer may have closed already.
    pub(crate) fn try_send_bytes(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let count = sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
        assert_eq!(count, bytes.len(), "messages of a test are small");
        Ok(())
    }

    pub(crate) fn send_bytes(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        self.try_send_bytes(bytes, fds).unwrap();
    }

    pub(crate) fn send(&self, request: u32, payload: &[u8], fds: &[BorrowedFd<'_>]) {
        self.send_bytes(&message(request, VERSION, payload), fds);
    }

    pub(crate) fn receive(&self) -> io::Result<Incoming> {
        let mut fds = Vec::new();
        let header = self.receive_exactly(12, &mut fds)?;
        let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        let payload = self.receive_exactly(word(8) as usize, &mut fds)?;
        Ok(Incoming { request: word(0), flags: word(4), payload, fds })
    }

    fn receive_exactly(&self, len: usize, fds: &mut Vec<OwnedFd>) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let mut done = 0;
        while done < len {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut into = [IoSliceMut::new(&mut bytes[done..])];
            let count = recvmsg(&self.socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(more) = message {
                    fds.extend(more);
                }
            }
            done += count;
        }
        Ok(bytes)
    }

    /// A request with a reply of its own.
    pub(crate) fn ask(&self, request: u32, payload: &[u8], fds: &[BorrowedFd<'_>]) -> Vec<u8> {
        self.send(request, payload, fds);
        self.expect_reply(request).payload
    }

    pub(crate) fn ask_long(&self, request: u32) -> u64 {
        self.send(request, &[], &[]);
        self.expect_reply(request).long()
    }

    pub(crate) fn expect_reply(&self, request: u32) -> Incoming {
        let reply = self.receive().unwrap();
        assert_eq!((reply.request, reply.flags), (request, VERSION | REPLY));
        reply
    }

    /// A request that asks for an answer: 0 says that it was done.
    pub(crate) fn status(&self, request: u32, payload: &[u8], fds: &[BorrowedFd<'_>]) -> u64 {
        self.send_bytes(&message(request, VERSION | NEED_REPLY, payload), fds);
        self.expect_reply(request).long()
    }

    /// A request that must succeed.
    pub(crate) fn must(&self, request: u32, payload: &[u8], fds: &[BorrowedFd<'_>]) {
        assert_eq!(self.status(request, payload, fds), 0, "request {request}");
    }

    /// Waits for the server to close the connection, whatever it says before that.
    pub(crate) fn expect_end(&self) {
        loop {
            match self.receive() {
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) =>
                {
                    return;
                }
                Err(error) => panic!("the server does not close the connection: {error}"),
            }
        }
    }

    /// A round trip after which everything that was sent before has been obeyed.
    pub(crate) fn barrier(&self) -> u64 {
        self.ask_long(GET_FEATURES)
    }

    /// Agrees on protocol features, `REPLY_ACK` among them.
    pub(crate) fn agree(&self, protocol: u64) {
        self.must(SET_PROTOCOL_FEATURES, &longs(&[protocol | REPLY_ACK]), &[]);
    }
}

pub(crate) fn fds<'f>(fds: &'f [&'f dyn AsFd]) -> Vec<BorrowedFd<'f>> {
    fds.iter().map(|fd| fd.as_fd()).collect()
}
