//! [`Client`]: the thread of one connection: waits, receives, obeys, answers.

use super::{Outcome, Session};
use crate::error::Refusal;
use crate::socket::{Connection, Received, Sent, send_some, wait};
use crate::wire::{self, Answer, Command, Header, Message, ProtocolFeatures, Reply, Request, WireError};
use rustix::event::{PollFd, PollFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vioduct_virtio_device::{Backend, EventFd};

/// How often a ring without kicks is looked at.
const POLL_INTERVAL: Duration = Duration::from_micros(100);
/// Messages taken in one go, before looking whether the server is to stop.
const MESSAGES_PER_LOOK: usize = 64;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("the front-end has gone")]
    Left,
    #[error("the server stops")]
    Stopped,
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("{request:?} is refused: {reason}")]
    Refused { request: Request, reason: Refusal },
}

/// A connection and its session.
pub(crate) struct Client<B> {
    connection: Connection<Header>,
    session: Session<B>,
    /// Readable once the server is to stop.
    stop: Arc<EventFd>,
    transfer_limit: Duration,
}

impl<B: Backend> Client<B> {
    pub(crate) fn new(
        socket: OwnedFd,
        session: Session<B>,
        stop: Arc<EventFd>,
        transfer_limit: Duration,
    ) -> Self {
        Self { connection: Connection::new(socket), session, stop, transfer_limit }
    }

    pub(crate) fn device(&mut self) -> &mut B {
        &mut self.session.device
    }

    /// Serves until the front-end has gone, or the server is to stop.
    pub(crate) fn run(mut self) -> End {
        let end = loop {
            if let Err(end) = self.wait().and_then(|()| self.turn()) {
                break end;
            }
        };
        self.close();
        end
    }

    /// Stops the rings, so that what was taken is used.
    pub(crate) fn close(&mut self) {
        self.session.channel.close();
        if let Err(error) = self.session.halt_all() {
            tracing::warn!(device = self.session.device.info().name, "a ring was left behind: {error}");
        }
    }

    /// Does what there is to be done.
    pub(crate) fn turn(&mut self) -> Result<(), End> {
        self.session.poll_rings();
        for _ in 0..MESSAGES_PER_LOOK {
            match self.connection.receive()? {
                Received::Message(message) => self.handle(message)?,
                Received::Nothing => break,
                Received::End => return Err(End::Left),
            }
        }
        self.session.channel.serve();
        self.session.advance_transfer();
        Ok(())
    }

    /// Waits for any of: the server's end, a message, an answer or room on the channel, progress of a transfer.
    fn wait(&self) -> Result<(), End> {
        let channel = self.session.channel.socket();
        let room =
            if self.session.channel.is_waiting_for_room() { PollFlags::OUT } else { PollFlags::empty() };
        let mut fds = vec![
            PollFd::new(&*self.stop, PollFlags::IN),
            PollFd::new(self.session.channel.bell(), PollFlags::IN),
            PollFd::new(&self.connection, PollFlags::IN),
        ];
        if let Some(socket) = &channel {
            fds.push(PollFd::new(&**socket, PollFlags::IN | room));
        }
        if let Some((fd, interest)) = self.session.transfer_interest() {
            fds.push(PollFd::from_borrowed_fd(fd, interest));
        }
        wait_for(&mut fds, self.session.polls().then_some(POLL_INTERVAL))
    }

    fn handle(&mut self, message: Message) -> Result<(), End> {
        let Header { request, answer, .. } = message.header;
        let rule = request.rule();
        let command = Command::decode(message)?;
        if let Command::CheckDeviceState = command {
            self.finish_transfer()?;
        }
        let outcome = self.session.check_agreed(rule.needs).and_then(|()| self.session.obey(command));
        // Looked at now: the very message that agrees on REPLY_ACK may ask for an answer.
        let answered = answer == Answer::Wanted
            && rule.reply == Reply::Status
            && self.session.has_agreed_on(ProtocolFeatures::REPLY_ACK);
        match outcome {
            Ok(Outcome::Reply(payload)) => self.send(&wire::reply(request, &payload), &[]),
            Ok(Outcome::ReplyWith(payload, fd)) => self.send(&wire::reply(request, &payload), &[fd.as_fd()]),
            Ok(Outcome::Done) if answered => self.send_status(request, 0),
            Ok(Outcome::Done) => Ok(()),
            Ok(Outcome::Ignored(reason)) => {
                tracing::debug!("{request:?} is ignored: {reason}");
                if answered { self.send_status(request, 1) } else { Ok(()) }
            }
            Err(reason) if answered => {
                tracing::warn!("{request:?} is refused: {reason}");
                self.send_status(request, 1)
            }
            // A front-end that cannot be told must not go on as if all were well.
            Err(reason) => Err(End::Refused { request, reason }),
        }
    }

    fn send_status(&mut self, request: Request, status: u64) -> Result<(), End> {
        self.send(&wire::reply(request, &status.to_ne_bytes()), &[])
    }

    /// Sends all of `bytes`, `fds` with the first, however slowly the front-end reads, unless the server is to stop.
    fn send(&self, mut bytes: &[u8], mut fds: &[BorrowedFd<'_>]) -> Result<(), End> {
        while !bytes.is_empty() {
            match send_some(self.connection.as_fd(), bytes, fds)? {
                Sent::Bytes(count) => (bytes, fds) = (bytes.get(count..).unwrap_or_default(), &[]),
                Sent::Nothing => {
                    let stop = PollFd::new(&*self.stop, PollFlags::IN);
                    wait_for(&mut [stop, PollFd::new(&self.connection, PollFlags::OUT)], None)?;
                }
            }
        }
        Ok(())
    }

    /// The front-end asks how a transfer went: it has closed its end, or seen ours closed, so the rest takes no time.
    fn finish_transfer(&mut self) -> Result<(), End> {
        let deadline = Instant::now() + self.transfer_limit;
        loop {
            self.session.advance_transfer();
            let left = deadline.saturating_duration_since(Instant::now());
            let Some((fd, interest)) = self.session.transfer_interest().filter(|_| !left.is_zero()) else {
                return Ok(());
            };
            let stop = PollFd::new(&*self.stop, PollFlags::IN);
            wait_for(&mut [stop, PollFd::from_borrowed_fd(fd, interest)], Some(left))?;
        }
    }
}

/// Waits for any of `fds`, of which the first says that the server is to stop.
fn wait_for(fds: &mut [PollFd<'_>], limit: Option<Duration>) -> Result<(), End> {
    wait(fds, limit)?;
    match fds.first().is_some_and(|stop| !stop.revents().is_empty()) {
        true => Err(End::Stopped),
        false => Ok(()),
    }
}
