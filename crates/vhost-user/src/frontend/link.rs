//! [`Link`]: requests and their answers over one connection, none of which is waited for without end.

use super::Trouble;
use crate::socket::{Connection, Received, Sent, send_some, wait};
use crate::wire::{self, Answer, AnswerHeader, Answered, Command, WireError};
use rustix::event::{PollFd, PollFlags};
use rustix::net::{Shutdown, shutdown};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// A connection to a server. Dropped, it is shut down, whoever else holds the socket.
#[derive(Debug)]
pub(super) struct Link {
    connection: Connection<AnswerHeader>,
    /// How long one answer may take.
    limit: Duration,
}

impl Link {
    pub(super) fn new(socket: OwnedFd, limit: Duration) -> Self {
        Self { connection: Connection::new(socket), limit }
    }

    /// Another handle to the socket.
    pub(super) fn socket(&self) -> io::Result<OwnedFd> {
        self.connection.as_fd().try_clone_to_owned()
    }

    /// Sends a request, and waits for the answer that it has, or is asked to have.
    pub(super) fn ask(&mut self, command: &Command, answer: Answer) -> Result<Answered, Trouble> {
        let deadline = Instant::now() + self.limit;
        let asked = self.send(command, answer, deadline)?;
        loop {
            match self.connection.receive()? {
                Received::Message(message) => return Ok(Answered::decode(asked, message)?),
                Received::End => return Err(Trouble::closed()),
                Received::Nothing => self.wait(PollFlags::IN, deadline)?,
            }
        }
    }

    /// Sends a request that has no answer.
    pub(super) fn tell(&mut self, command: &Command) -> Result<(), Trouble> {
        self.send(command, Answer::Unwanted, Instant::now() + self.limit).map(drop)
    }

    fn send(
        &mut self,
        command: &Command,
        answer: Answer,
        deadline: Instant,
    ) -> Result<wire::Request, Trouble> {
        // Nothing is due now: what is there nobody asked for.
        match self.connection.receive()? {
            Received::Nothing => {}
            Received::Message(_) => return Err(WireError::Unasked.into()),
            Received::End => return Err(Trouble::closed()),
        }
        let (request, payload, fds) = command.encode();
        let message = wire::request(request, answer, &payload);
        let (mut rest, mut fds) = (message.as_slice(), fds.as_slice());
        while !rest.is_empty() {
            match send_some(self.connection.as_fd(), rest, fds)? {
                Sent::Bytes(count) => (rest, fds) = (rest.get(count..).unwrap_or_default(), &[]),
                Sent::Nothing => self.wait(PollFlags::OUT, deadline)?,
            }
        }
        Ok(request)
    }

    fn wait(&self, interest: PollFlags, deadline: Instant) -> Result<(), Trouble> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Trouble::late(self.limit));
        }
        Ok(wait(&mut [PollFd::new(&self.connection, interest)], Some(left))?)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // It fails where the server was first.
        let _ = shutdown(&self.connection, Shutdown::Both);
    }
}
