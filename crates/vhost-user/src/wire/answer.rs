//! What a server says: answers to a front-end's requests, and requests of its own, on the channel for them.

use super::command::{ConfigSpan, ConfigWrite, InflightArea, RingState};
use super::payload::CONFIG_HEADER_LEN;
use super::rules::Payload;
use super::{
    Answer, FLAG_NEED_REPLY, FLAG_REPLY, Fields, HEADER_LEN, Message, MessageHeader, Request, VERSION,
    WireError,
};
use std::os::fd::OwnedFd;

/// The header of an answer, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AnswerHeader {
    request: Request,
    payload_len: usize,
}

impl MessageHeader for AnswerHeader {
    fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, WireError> {
        let mut fields = Fields::new(bytes);
        let (number, flags, payload_len) = (fields.u32(), fields.u32(), fields.u32() as usize);
        // Some servers send the flag back by which they were asked to answer.
        if flags & !FLAG_NEED_REPLY != VERSION | FLAG_REPLY {
            return Err(WireError::Flags(flags));
        }
        let request = Request::from_number(number).ok_or(WireError::Unknown(number))?;
        if !accepts(request, payload_len) {
            return Err(WireError::PayloadLen { request, len: payload_len });
        }
        Ok(Self { request, payload_len })
    }

    fn payload_len(&self) -> usize {
        self.payload_len
    }
}

/// A number, of success or of what was asked for, but for two. An answer without bytes says that there is no such configuration.
fn accepts(request: Request, len: usize) -> bool {
    match request {
        Request::GetConfig => len == 0 || Payload::Config.accepts(len),
        Request::GetInflightFd => Payload::Either(20, 24).accepts(len),
        _ => len == 8,
    }
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) enum Answered {
    Number(u64),
    Base(RingState),
    Config(ConfigWrite),
    /// There is no such configuration.
    NoConfig,
    Inflight(InflightArea, OwnedFd),
    /// Whether a transfer of state begins, and through which descriptor if not through the one that was sent.
    Transfer(u64, Option<OwnedFd>),
}

impl Answered {
    /// Takes the answer to `asked` apart. Descriptors that it has no place for are closed here.
    pub(crate) fn decode(asked: Request, message: Message<AnswerHeader>) -> Result<Self, WireError> {
        let Message { header, payload, mut fds } = message;
        let found = header.request;
        if found != asked {
            return Err(WireError::WrongAnswer { asked, found });
        }
        let most = match asked {
            Request::GetInflightFd | Request::SetDeviceStateFd => 1,
            _ => 0,
        };
        if fds.len() > most {
            return Err(WireError::Descriptors { request: asked, found: fds.len() });
        }
        let mut fields = Fields::new(&payload);
        Ok(match asked {
            Request::GetConfig if payload.is_empty() => Self::NoConfig,
            Request::GetConfig => Self::Config(config(&payload)?),
            Request::GetVringBase => Self::Base(RingState { ring: fields.u32(), value: fields.u32() }),
            Request::SetDeviceStateFd => Self::Transfer(fields.u64(), fds.pop()),
            Request::GetInflightFd => {
                let file = fds.pop().ok_or(WireError::Descriptors { request: asked, found: 0 })?;
                Self::Inflight(InflightArea::decode(&mut fields, payload.len()), file)
            }
            _ => Self::Number(fields.u64()),
        })
    }
}

fn config(payload: &[u8]) -> Result<ConfigWrite, WireError> {
    let mut fields = Fields::new(payload);
    let span = ConfigSpan { offset: fields.u32(), len: fields.u32(), flags: fields.u32() };
    let data = fields.rest().to_vec();
    debug_assert_eq!(data.len() + CONFIG_HEADER_LEN, payload.len());
    if data.len() != span.len as usize {
        return Err(WireError::Field { request: Request::GetConfig, value: span.len.into() });
    }
    Ok(ConfigWrite { span, data })
}

/// The header of a request of the back-end. Any number is well-formed: what is not known is refused by its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoticeHeader {
    pub(crate) number: u32,
    pub(crate) answer: Answer,
    payload_len: usize,
}

impl MessageHeader for NoticeHeader {
    fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, WireError> {
        /// More than any request of a back-end has.
        const MAX_LEN: usize = 256;
        let mut fields = Fields::new(bytes);
        let (number, flags, len) = (fields.u32(), fields.u32(), fields.u32() as usize);
        if flags & !FLAG_NEED_REPLY != VERSION {
            return Err(WireError::Flags(flags));
        }
        if len > MAX_LEN {
            return Err(WireError::NoticeLen { number, len });
        }
        Ok(Self { number, answer: Answer::of(flags), payload_len: len })
    }

    fn payload_len(&self) -> usize {
        self.payload_len
    }
}

impl NoticeHeader {
    /// The front-end's answer, header and payload: 0 is success.
    pub(crate) fn answered(&self, status: u64) -> Vec<u8> {
        super::frame(self.number, VERSION | FLAG_REPLY, &status.to_ne_bytes())
    }
}
