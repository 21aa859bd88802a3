//! [`Channel`]: what the device says to the front-end by itself, on a socket of its own.
//!
//! The threads that serve queues post notices here and never wait: not for room in the socket, and not for the front-end to
//! answer. A notice that cannot be sent now is remembered, and one that is remembered already is not remembered twice: each
//! says "look", and one look finds all. With `REPLY_ACK` a notice is sent only when the one before has been answered, as
//! in-band notifications ask for. The session's thread comes by when the socket, or this channel, has something for it.

use crate::socket::{Sent, send_some};
use crate::wire::{Answer, BACKEND_ANSWER_LEN, BackendRequest, Record, WireError, answers, backend_request};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vioduct_virtio_device::{EventFd, Signal};

/// What a front-end is told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Notice {
    /// Read the configuration space again.
    ConfigChange,
    /// This ring has used buffers.
    Call(u16),
    /// This ring met an error.
    Error(u16),
}

impl Notice {
    fn request(self) -> BackendRequest {
        match self {
            Self::ConfigChange => BackendRequest::ConfigChange,
            Self::Call(_) => BackendRequest::RingCall,
            Self::Error(_) => BackendRequest::RingError,
        }
    }

    fn payload(self) -> Vec<u8> {
        match self {
            Self::ConfigChange => Vec::new(),
            Self::Call(ring) | Self::Error(ring) => Record::new().u32(ring.into()).u32(0).done(),
        }
    }
}

/// Which notices the negotiated protocol features allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Terms {
    pub(crate) config: bool,
    pub(crate) in_band: bool,
    pub(crate) answer: Answer,
}

/// The channel to a front-end, open or not.
pub(crate) struct Channel {
    line: Mutex<Line>,
    /// Tells the session's thread that something is left to be sent.
    bell: EventFd,
}

struct Line {
    socket: Option<Arc<OwnedFd>>,
    terms: Terms,
    /// What is on its way.
    sending: Outgoing,
    queued: BTreeSet<Notice>,
}

#[derive(Debug)]
enum Outgoing {
    Nothing,
    /// The rest of a message that had no room.
    Bytes(Vec<u8>, BackendRequest),
    /// A message that is to be answered, and as much of the answer as has come.
    Unanswered(BackendRequest, Vec<u8>),
}

impl Channel {
    pub(crate) fn new() -> io::Result<Self> {
        let terms = Terms { config: false, in_band: false, answer: Answer::Unwanted };
        let line = Line { socket: None, terms, sending: Outgoing::Nothing, queued: BTreeSet::new() };
        Ok(Self { line: Mutex::new(line), bell: EventFd::new()? })
    }

    pub(crate) fn bell(&self) -> &EventFd {
        &self.bell
    }

    pub(crate) fn socket(&self) -> Option<Arc<OwnedFd>> {
        self.line().socket.clone()
    }

    /// Whether there is something to be sent once the socket has room.
    pub(crate) fn is_waiting_for_room(&self) -> bool {
        matches!(self.line().sending, Outgoing::Bytes(..))
    }

    pub(crate) fn agree(&self, terms: Terms) {
        self.line().terms = terms;
    }

    /// The front-end listens at `socket`.
    pub(crate) fn open(&self, socket: OwnedFd) {
        let mut line = self.line();
        line.socket = Some(Arc::new(socket));
        line.sending = Outgoing::Nothing;
        self.advance(&mut line);
    }

    pub(crate) fn close(&self) {
        let mut line = self.line();
        line.socket = None;
        line.sending = Outgoing::Nothing;
        line.queued.clear();
    }

    /// Tells the front-end, now or as soon as it listens. Whether it is ever told: not without a channel, nor against the terms.
    pub(crate) fn post(&self, notice: Notice) -> bool {
        let mut line = self.line();
        let allowed = match notice {
            Notice::ConfigChange => line.terms.config,
            Notice::Call(_) | Notice::Error(_) => line.terms.in_band,
        };
        if !allowed || line.socket.is_none() {
            return false;
        }
        line.queued.insert(notice);
        self.advance(&mut line);
        if let Outgoing::Bytes(..) = line.sending {
            self.bell.signal();
        }
        true
    }

    /// The socket is readable, or has room: goes on. A front-end that answers wrongly is listened to no more.
    pub(crate) fn serve(&self) {
        let _ = self.bell.take();
        let mut line = self.line();
        if let Err(error) = line.read_answer() {
            tracing::debug!("the front-end's channel for requests is closed: {error}");
            line.socket = None;
            line.sending = Outgoing::Nothing;
        }
        self.advance(&mut line);
    }

    fn advance(&self, line: &mut Line) {
        if let Err(error) = line.advance() {
            tracing::debug!("the front-end's channel for requests is closed: {error}");
            line.socket = None;
            line.sending = Outgoing::Nothing;
            line.queued.clear();
            // Whoever waits for the socket is to look again.
            self.bell.signal();
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Sends as much as can be.
    fn advance(&mut self) -> Result<(), WireError> {
        let Some(socket) = self.socket.clone() else { return Ok(()) };
        loop {
            match &mut self.sending {
                Outgoing::Unanswered(..) => return Ok(()),
                Outgoing::Nothing => {
                    let Some(notice) = self.queued.pop_first() else { return Ok(()) };
                    let bytes = backend_request(notice.request(), self.terms.answer, &notice.payload());
                    self.sending = Outgoing::Bytes(bytes, notice.request());
                }
                Outgoing::Bytes(bytes, request) => match send_some(socket.as_fd(), bytes, &[])? {
                    Sent::Nothing => return Ok(()),
                    Sent::Bytes(count) if count < bytes.len() => {
                        bytes.drain(..count);
                    }
                    Sent::Bytes(_) if self.terms.answer == Answer::Wanted => {
                        self.sending = Outgoing::Unanswered(*request, Vec::new());
                    }
                    Sent::Bytes(_) => self.sending = Outgoing::Nothing,
                },
            }
        }
    }

    fn read_answer(&mut self) -> Result<(), WireError> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let mut piece = [0; BACKEND_ANSWER_LEN];
        let received = match &self.sending {
            Outgoing::Unanswered(_, so_far) => so_far.len(),
            _ => 0,
        };
        let room = piece.get_mut(..BACKEND_ANSWER_LEN - received).unwrap_or_default();
        // Descriptors that come with an answer are dropped by the kernel: no room is given for them.
        let count = match recv(socket, room, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => return Ok(()),
            outcome => outcome?.0,
        };
        let unexpected = || io::Error::from(io::ErrorKind::InvalidData).into();
        let Outgoing::Unanswered(request, so_far) = &mut self.sending else {
            return Err(if count == 0 {
                io::Error::from(io::ErrorKind::UnexpectedEof).into()
            } else {
                unexpected()
            });
        };
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        so_far.extend(piece.iter().take(count));
        if let Ok(answer) = so_far.as_slice().try_into() {
            if !answers(answer, *request) {
                return Err(unexpected());
            }
            self.sending = Outgoing::Nothing;
        }
        Ok(())
    }
}
