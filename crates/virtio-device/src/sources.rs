//! Waiting for file descriptors: kicks, control, and what handlers watch.

use crate::handler::{Interest, SourceId};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// What a descriptor stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Token {
    /// The control path of a worker.
    Control,
    /// The kick of the queue at this place of its lane.
    Kick(u16),
    /// An event source of the handler.
    Source(SourceId),
}

impl Token {
    const KICK: u64 = 1 << 32;
    const SOURCE: u64 = 2 << 32;

    fn encode(self) -> u64 {
        match self {
            Self::Control => 0,
            Self::Kick(place) => Self::KICK | u64::from(place),
            Self::Source(SourceId(id)) => Self::SOURCE | u64::from(id),
        }
    }

    fn decode(data: u64) -> Self {
        match data & !0xffff_ffff {
            Self::KICK => Self::Kick(data as u16),
            Self::SOURCE => Self::Source(SourceId(data as u32)),
            _ => Self::Control,
        }
    }
}

/// A set of descriptors, each reported once per time that it becomes ready.
///
/// Edge-triggered, so that no kick costs a read of its eventfd, and a source that its handler cannot serve yet does not spin.
#[derive(Default)]
pub(crate) struct Sources {
    epoll: Option<OwnedFd>,
}

impl Sources {
    pub(crate) fn watch(&mut self, fd: BorrowedFd<'_>, token: Token, interest: Interest) -> io::Result<()> {
        let direction = match interest {
            Interest::Readable => EventFlags::IN,
            Interest::Writable => EventFlags::OUT,
            Interest::Both => EventFlags::IN | EventFlags::OUT,
        };
        let flags = direction | EventFlags::ET;
        let data = EventData::new_u64(token.encode());
        let epoll = match &self.epoll {
            Some(epoll) => epoll,
            None => self.epoll.insert(epoll::create(CreateFlags::CLOEXEC)?),
        };
        match epoll::add(epoll, fd, data, flags) {
            Err(Errno::EXIST) => Ok(epoll::modify(epoll, fd, data, flags)?),
            outcome => Ok(outcome?),
        }
    }

    pub(crate) fn unwatch(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        match &self.epoll {
            Some(epoll) => Ok(epoll::delete(epoll, fd)?),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.epoll.is_none()
    }

    /// Passes on what is ready, waiting for at most `timeout`, or without limit. Nothing is watched: nothing is waited for.
    pub(crate) fn wait(&self, timeout: Option<Duration>, mut ready: impl FnMut(Token)) {
        const EVENTS: usize = 32;
        let Some(epoll) = &self.epoll else { return };
        let timeout = timeout.map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let mut events = [const { std::mem::MaybeUninit::uninit() }; EVENTS];
        // The one error that can occur is an interruption: the caller comes back anyway.
        if let Ok((events, _)) = epoll::wait(epoll, &mut events, timeout.as_ref()) {
            for event in events {
                ready(Token::decode(event.data.u64()));
            }
        }
    }
}
