//! The messages of vhost-user: bytes, rules and typed commands. All numbers are in the machine's own byte order.
//!
//! | module | part |
//! |---|---|
//! | `rules` | every request that is understood: its payload, its descriptors, its reply, as one table |
//! | `payload` | reading fields from bytes, and writing replies |
//! | `command` | a checked message as an enum |
//! | `encode` | the enum as a message |
//! | `answer` | what a server answers, and what it asks for by itself |

mod answer;
mod command;
mod encode;
mod payload;
mod rules;

pub(crate) use answer::{AnswerHeader, Answered, NoticeHeader};
pub(crate) use command::{
    Command, ConfigSpan, ConfigWrite, Direction, InflightArea, RingAddress, RingFd, RingState,
};
pub(crate) use payload::{Fields, Record};
pub(crate) use rules::{ProtocolFeatures, Reply, Request};

use std::io;
use std::os::fd::OwnedFd;

/// Length of a header: request, flags, payload length.
pub(crate) const HEADER_LEN: usize = 12;
/// File descriptors that one message may carry.
pub(crate) const MAX_FDS: usize = 8;
/// Bytes of configuration space that one message may carry.
pub(crate) const MAX_CONFIG_LEN: usize = 4096;

/// The most that is taken of a device's state: its registers are, not its data.
pub(crate) const MAX_STATE_LEN: usize = 16 << 20;

const VERSION: u32 = 1;
const VERSION_MASK: u32 = 3;
const FLAG_REPLY: u32 = 1 << 2;
const FLAG_NEED_REPLY: u32 = 1 << 3;

/// Requests of the back-end, on its own channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum BackendRequest {
    ConfigChange = 2,
    RingCall = 4,
    RingError = 5,
}

/// Why a connection cannot go on: the peer does not speak the protocol, or has gone.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("header with flags {0:#x}, which are not those of version 1, or of the other direction")]
    Flags(u32),
    #[error("request {0} is not known")]
    Unknown(u32),
    #[error("{request:?} with a payload of {len} bytes")]
    PayloadLen { request: Request, len: usize },
    #[error("{request:?} with {found} file descriptors")]
    Descriptors { request: Request, found: usize },
    #[error("{request:?} with a field of {value:#x}")]
    Field { request: Request, value: u64 },
    #[error("{asked:?} is answered as if it were {found:?}")]
    WrongAnswer { asked: Request, found: Request },
    #[error("request {number} of the back-end, with a payload of {len} bytes")]
    NoticeLen { number: u32, len: usize },
    #[error("something is said that nobody asked for")]
    Unasked,
    #[error("file descriptors were lost on the way: too many in one message, or too many open here")]
    Lost,
    #[error("{0}")]
    Socket(#[from] io::Error),
}

impl From<rustix::io::Errno> for WireError {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Socket(error.into())
    }
}

/// Whether the sender waits for an answer to a request that has none of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Wanted,
    Unwanted,
}

impl Answer {
    fn flag(self) -> u32 {
        match self {
            Self::Wanted => FLAG_NEED_REPLY,
            Self::Unwanted => 0,
        }
    }

    fn of(flags: u32) -> Self {
        if flags & FLAG_NEED_REPLY == 0 { Self::Unwanted } else { Self::Wanted }
    }
}

/// The header of a request, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) request: Request,
    pub(crate) answer: Answer,
    pub(crate) payload_len: usize,
}

impl Header {
    /// Checks everything that can be checked before the payload has come.
    pub(crate) fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, WireError> {
        let mut fields = Fields::new(bytes);
        let (number, flags, len) = (fields.u32(), fields.u32(), fields.u32() as usize);
        if flags & !FLAG_NEED_REPLY != VERSION {
            return Err(WireError::Flags(flags));
        }
        let request = Request::from_number(number).ok_or(WireError::Unknown(number))?;
        if !request.rule().payload.accepts(len) {
            return Err(WireError::PayloadLen { request, len });
        }
        Ok(Self { request, answer: Answer::of(flags), payload_len: len })
    }
}

impl MessageHeader for Header {
    fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, WireError> {
        Self::decode(bytes)
    }
    fn payload_len(&self) -> usize {
        self.payload_len
    }
}

/// The header of a message of one kind: requests of a front-end, answers to them, or requests of a back-end.
pub(crate) trait MessageHeader: Copy {
    /// Checks everything that can be checked before the payload has come.
    fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, WireError>;
    fn payload_len(&self) -> usize;
}

/// A whole message.
#[derive(Debug)]
pub(crate) struct Message<H = Header> {
    pub(crate) header: H,
    pub(crate) payload: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

/// A request of the front-end, header and payload.
pub(crate) fn request(request: Request, answer: Answer, payload: &[u8]) -> Vec<u8> {
    frame(request as u32, VERSION | answer.flag(), payload)
}

/// A reply to `request`, header and payload.
pub(crate) fn reply(request: Request, payload: &[u8]) -> Vec<u8> {
    frame(request as u32, VERSION | FLAG_REPLY, payload)
}

/// A request of the back-end, header and payload.
pub(crate) fn backend_request(request: BackendRequest, answer: Answer, payload: &[u8]) -> Vec<u8> {
    frame(request as u32, VERSION | answer.flag(), payload)
}

/// Length of the front-end's answer to a request of the back-end.
pub(crate) const BACKEND_ANSWER_LEN: usize = HEADER_LEN + 8;

/// Whether `bytes` are the answer to `request`; what it says is not of interest.
pub(crate) fn answers(bytes: &[u8; BACKEND_ANSWER_LEN], request: BackendRequest) -> bool {
    let mut fields = Fields::new(bytes);
    let (number, flags, len) = (fields.u32(), fields.u32(), fields.u32());
    number == request as u32 && flags & (VERSION_MASK | FLAG_REPLY) == VERSION | FLAG_REPLY && len == 8
}

fn frame(number: u32, flags: u32, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u32;
    Record::new().u32(number).u32(flags).u32(len).bytes(payload).done()
}

#[cfg(test)]
mod tests;
