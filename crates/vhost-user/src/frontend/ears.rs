//! [`Ears`]: what a server says without being asked: used buffers, errors, changes of its configuration, and that it goes.
//!
//! No request is waited for while these are looked at: a server may want to be heard before it answers.

use super::ring::Ring;
use crate::socket::{Connection, Received, Sent, send_some};
use crate::wire::{Answer, BackendRequest, NoticeHeader, WireError};
use rustix::event::{PollFd, PollFlags};
use rustix::net::{Shutdown, shutdown};
use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use vioduct_virtio_device::{EventFd, HostEvents, Signal};

/// Requests of a server that are taken in one go.
const NOTICES_PER_LOOK: usize = 64;

pub(super) struct Ears {
    heard: Mutex<Heard>,
    /// Says that there is something else to listen to.
    pub(super) bell: EventFd,
}

struct Heard {
    events: Option<Arc<dyn HostEvents>>,
    /// The connection, for its end only.
    socket: Option<Arc<OwnedFd>>,
    channel: Option<Channel>,
    queues: Vec<Option<Ear>>,
    /// When to look for a server, if there is none.
    seek: Option<Instant>,
}

struct Channel {
    connection: Connection<NoticeHeader>,
    socket: Arc<OwnedFd>,
}

/// One ring.
struct Ear {
    call: Arc<dyn Signal>,
    heard: Arc<EventFd>,
    error: Arc<EventFd>,
    health: Health,
}

/// Whether the server has reported an error of a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Health {
    Good,
    Failed,
}

impl Ear {
    fn pass_on(&self) {
        if self.heard.take() > 0 {
            self.call.signal();
        }
    }

    fn report_error(&mut self, q: u16, events: Option<&dyn HostEvents>) {
        if self.error.take() == 0 {
            return;
        }
        self.health = Health::Failed;
        if let Some(events) = events {
            events.needs_reset(&format_args!("the vhost-user server reports an error of queue {q}"));
        }
    }
}

/// Everything that is listened to at one time.
#[derive(Default)]
pub(super) struct Sources {
    socket: Option<Arc<OwnedFd>>,
    channel: Option<Arc<OwnedFd>>,
    events: Vec<Arc<EventFd>>,
    /// When to do something else than to listen.
    pub(super) seek: Option<Instant>,
}

impl Sources {
    /// The connection's end is first, if there is a connection.
    pub(super) fn poll_fds<'s>(&'s self, bell: &'s EventFd) -> Vec<PollFd<'s>> {
        let mut fds = vec![PollFd::new(bell, PollFlags::IN)];
        fds.extend(self.socket.iter().map(|socket| PollFd::new(&**socket, PollFlags::RDHUP)));
        fds.extend(self.channel.iter().map(|socket| PollFd::new(&**socket, PollFlags::IN)));
        fds.extend(self.events.iter().map(|event| PollFd::new(&**event, PollFlags::IN)));
        fds
    }

    /// The connection whose end `fds`, which are those of this, have shown.
    pub(super) fn ended(&self, fds: &[PollFd<'_>]) -> Option<Arc<OwnedFd>> {
        let ended = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        self.socket.clone().filter(|_| ended)
    }
}

impl Ears {
    pub(super) fn new(queues: usize) -> io::Result<Self> {
        let queues = (0..queues).map(|_| None).collect();
        let heard = Heard { events: None, socket: None, channel: None, queues, seek: None };
        Ok(Self { heard: Mutex::new(heard), bell: EventFd::new()? })
    }

    pub(super) fn report_to(&self, events: Arc<dyn HostEvents>) {
        self.heard().events = Some(events);
    }

    /// There is a server, at `socket` and `channel`.
    pub(super) fn open(&self, socket: OwnedFd, channel: Option<OwnedFd>) -> io::Result<()> {
        let channel = channel.map(|ours| {
            let socket = Arc::new(ours.try_clone()?);
            io::Result::Ok(Channel { connection: Connection::new(ours), socket })
        });
        let mut heard = self.heard();
        (heard.socket, heard.channel) = (Some(Arc::new(socket)), channel.transpose()?);
        self.bell.signal();
        Ok(())
    }

    /// The server is gone.
    pub(super) fn close(&self) {
        let mut heard = self.heard();
        (heard.socket, heard.channel) = (None, None);
        self.bell.signal();
    }

    /// Whoever listens is to look for a server then.
    pub(super) fn seek(&self, when: Option<Instant>) {
        self.heard().seek = when;
        self.bell.signal();
    }

    /// Whether `socket` is that of the server that there is.
    pub(super) fn is_current(&self, socket: &Arc<OwnedFd>) -> bool {
        self.heard().socket.as_ref().is_some_and(|current| Arc::ptr_eq(current, socket))
    }

    pub(super) fn add(&self, q: u16, ring: &Ring) {
        if let Some(place) = self.heard().queues.get_mut(usize::from(q)) {
            let (call, heard, error) = (ring.call.clone(), ring.heard.clone(), ring.error.clone());
            *place = Some(Ear { call, heard, error, health: Health::Good });
        }
        self.bell.signal();
    }

    /// Listens to ring `q` for the last time, and no more: after this its notification is not touched.
    pub(super) fn remove(&self, q: u16) -> Health {
        let ear = self.heard().queues.get_mut(usize::from(q)).and_then(Option::take);
        self.bell.signal();
        ear.map_or(Health::Good, |ear| {
            ear.pass_on();
            ear.health
        })
    }

    /// Has every driver look: a server that is gone may have used buffers and said nothing.
    pub(super) fn call_all(&self) {
        self.heard().queues.iter().flatten().for_each(|ear| ear.call.signal());
    }

    pub(super) fn config_changed(&self) {
        if let Some(events) = &self.heard().events {
            events.config_changed();
        }
    }

    pub(super) fn needs_reset(&self, reason: &dyn Display) {
        if let Some(events) = &self.heard().events {
            events.needs_reset(reason);
        }
    }

    pub(super) fn sources(&self) -> Sources {
        let heard = self.heard();
        let mut events = Vec::new();
        for ear in heard.queues.iter().flatten() {
            events.extend([ear.heard.clone(), ear.error.clone()]);
        }
        let channel = heard.channel.as_ref().map(|channel| channel.socket.clone());
        Sources { socket: heard.socket.clone(), channel, events, seek: heard.seek }
    }

    /// Passes on all that has been said by now, and returns when it has been.
    ///
    /// # Errors
    /// If the server does not speak the protocol on its channel.
    pub(super) fn listen(&self) -> Result<(), WireError> {
        let mut heard = self.heard();
        let Heard { events, socket: _, channel, queues, seek: _ } = &mut *heard;
        for (q, ear) in (0..).zip(queues) {
            if let Some(ear) = ear {
                ear.pass_on();
                ear.report_error(q, events.as_deref());
            }
        }
        let Some(open) = channel else { return Ok(()) };
        let Talk { config_changed, over } = open.hear()?;
        if over {
            *channel = None;
            self.bell.signal();
        }
        if let (true, Some(events)) = (config_changed, events) {
            events.config_changed();
        }
        Ok(())
    }

    /// The server has said what it may not: its connection ends, and whoever holds the other handle to it sees that.
    pub(super) fn give_up(&self, reason: &WireError) {
        let mut heard = self.heard();
        heard.channel = None;
        if let Some(socket) = &heard.socket {
            tracing::warn!("the vhost-user server is disconnected: on its channel, {reason}");
            let _ = shutdown(&**socket, Shutdown::Both);
        }
        self.bell.signal();
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of a look at the channel.
struct Talk {
    config_changed: bool,
    over: bool,
}

impl Channel {
    /// Takes the server's requests. All but one would have this side map memory or signal rings for it, which was never agreed
    /// on: their answer is an error, and their descriptors are closed.
    fn hear(&mut self) -> Result<Talk, WireError> {
        let mut talk = Talk { config_changed: false, over: false };
        for _ in 0..NOTICES_PER_LOOK {
            let message = match self.connection.receive()? {
                Received::Message(message) => message,
                Received::Nothing => break,
                Received::End => {
                    talk.over = true;
                    break;
                }
            };
            let header = message.header;
            let known = header.number == BackendRequest::ConfigChange as u32;
            if known {
                talk.config_changed = true;
            } else {
                tracing::debug!("request {} of the vhost-user server is refused", header.number);
            }
            if header.answer == Answer::Wanted {
                self.answer(&header.answered(u64::from(!known)))?;
            }
        }
        Ok(talk)
    }

    /// An answer is short: a server that leaves no room for it does not read.
    fn answer(&self, bytes: &[u8]) -> Result<(), WireError> {
        match send_some(self.connection.as_fd(), bytes, &[])? {
            Sent::Bytes(count) if count == bytes.len() => Ok(()),
            _ => Err(io::Error::from(io::ErrorKind::WouldBlock).into()),
        }
    }
}
