//! One connection, of a server or of a client: commands in, replies out, and calls the other way while both go on.
//!
//! At the server, the serving thread takes commands; any thread of the device, it too, may call the client meanwhile, for memory
//! that it did not share. At the client, any thread calls, and one takes the server's commands. There is no thread for receiving. Whoever waits for something first receives for all: replies go to their callers,
//! commands to a queue, and when the receiver has what it came for, another of those who wait goes on. So a command costs no
//! hand-over between threads, a call made while a command is served cannot wait for itself, and commands are not taken out of
//! turn. What is queued meanwhile is bounded; a peer that sends more than that loses the connection.
//!
//! A client may ask for a socket of its own for calls, which is a link of its own on which no commands come: then whoever calls
//! there receives replies, and nobody receives for the serving thread.
//!
//! Nothing here waits for ever: calls and sending have the link's [`Patience`], and everything ends when this end is stopped.

use crate::assembly::{Assembly, Received};
use crate::wire::{Command, Header, Kind, Message};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
    sendmsg, shutdown, socketpair,
};
use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use vioduct_virtio_device::{BusyPoll, EventFd, PollWindow};

/// How long a waiting thread sleeps at most before it looks again whether anybody receives.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Commands that may wait while something else is received.
const MAX_QUEUED: usize = 4096;
/// Bytes of them.
const MAX_QUEUED_LEN: usize = 16 << 20;

/// Why a connection ends that this end has been told to end.
pub(crate) const STOPPED: &str = "it is stopped";
/// Messages received before looking whether this end is to stop, from a peer that never pauses.
const MESSAGES_PER_LOOK: u32 = 64;

/// How long the other end may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Patience {
    /// To answer a call.
    pub(crate) call: Duration,
    /// To take what is sent.
    pub(crate) send: Duration,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Link {
    socket: OwnedFd,
    patience: Patience,
    stop: Arc<EventFd>,
    inbox: Mutex<Inbox>,
    sending: Mutex<()>,
    state: Mutex<State>,
    changed: Condvar,
}

/// What receiving needs; one thread has it at a time.
#[derive(Debug)]
struct Inbox {
    assembly: Assembly,
    poll: PollWindow,
    received: u32,
}

#[derive(Default, Debug)]
struct State {
    receiving: bool,
    commands: VecDeque<Message>,
    commands_len: usize,
    calls: HashMap<u16, Call>,
    next_call: u16,
    end: Option<&'static str>,
}

#[derive(Debug)]
enum Call {
    Waiting,
    Answered(Message),
}

impl State {
    fn accept(&mut self, received: Received) {
        match received {
            Received::Message(message) if message.header.kind() == Kind::Reply => {
                // A reply to nobody, or a late one, says nothing.
                if let Some(call) = self.calls.get_mut(&message.header.id) {
                    *call = Call::Answered(message);
                }
            }
            Received::Message(message) => {
                self.commands_len += message.payload.len();
                self.commands.push_back(message);
                if self.commands.len() > MAX_QUEUED || self.commands_len > MAX_QUEUED_LEN {
                    self.finish("more commands at once than are kept");
                }
            }
            Received::Nothing => {}
            Received::End(why) => self.finish(why),
        }
    }

    fn finish(&mut self, why: &'static str) {
        self.end.get_or_insert(why);
    }

    fn next_command(&mut self) -> Option<Message> {
        let message = self.commands.pop_front()?;
        self.commands_len -= message.payload.len();
        Some(message)
    }

    /// The message that answers call `id`, which is then over.
    fn take_answer(&mut self, id: u16) -> Option<Message> {
        match self.calls.remove(&id)? {
            Call::Answered(message) => Some(message),
            Call::Waiting => {
                self.calls.insert(id, Call::Waiting);
                None
            }
        }
    }

    fn begin_call(&mut self) -> Option<u16> {
        let free = (0..=u16::MAX).map(|step| self.next_call.wrapping_add(step));
        let id = free.into_iter().find(|id| !self.calls.contains_key(id))?;
        self.next_call = id.wrapping_add(1);
        self.calls.insert(id, Call::Waiting);
        Some(id)
    }
}

impl Link {
    pub(crate) fn new(socket: OwnedFd, patience: Patience, stop: Arc<EventFd>) -> Self {
        // The next message is looked for before a sleep: accesses to registers come in bursts, each of them waited for by a processor of
        // the guest's, and a sleep and a wake cost more than what is to be done.
        let poll = PollWindow::new(BusyPoll::default());
        let inbox = Inbox { assembly: Assembly::default(), poll, received: 0 };
        Self {
            socket,
            patience,
            stop,
            inbox: Mutex::new(inbox),
            sending: Mutex::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// A connection beside this one, for calls only, and the client's end of it. `None` if there are no descriptors left.
    pub(crate) fn twin(&self) -> Option<(Self, OwnedFd)> {
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).ok()?;
        let (ours, theirs) = pair;
        Some((self.beside(ours), theirs))
    }

    /// Another connection to the same peer.
    pub(crate) fn beside(&self, socket: OwnedFd) -> Self {
        Self::new(socket, self.patience, self.stop.clone())
    }

    /// The next command, or why there is none any more.
    pub(crate) fn next_command(&self) -> Result<Message, &'static str> {
        self.wait(None, State::next_command).ok_or_else(|| self.end().unwrap_or(STOPPED))
    }

    /// The same, but `None` when nothing has come for so long.
    pub(crate) fn next_command_within(&self, quiet: Duration) -> Result<Option<Message>, &'static str> {
        let message = self.wait(Some(Instant::now() + quiet), State::next_command);
        match self.end() {
            Some(why) if message.is_none() => Err(why),
            _ => Ok(message),
        }
    }

    /// Why the connection has ended, if it has.
    pub(crate) fn end(&self) -> Option<&'static str> {
        self.lock().end
    }

    /// Asks the other end, and returns its reply: `None` if none came in time, or it was an error.
    pub(crate) fn call(&self, command: Command, payload: &[&[u8]]) -> Option<Message> {
        let reply = self.ask(command, payload, &[])?;
        Some(reply).filter(|reply| reply.header.command == command as u16 && !reply.header.is_error())
    }

    /// Asks the other end, and returns its reply, whatever it says: `None` if none came in time.
    pub(crate) fn ask(&self, command: Command, payload: &[&[u8]], fds: &[BorrowedFd<'_>]) -> Option<Message> {
        let id = self.lock().begin_call()?;
        self.send(Header::command(id, command, len_of(payload)), payload, fds);
        let deadline = Instant::now() + self.patience.call;
        let reply = self.wait(Some(deadline), |state| state.take_answer(id));
        self.lock().calls.remove(&id);
        reply
    }

    /// Tells the other end, which does not reply.
    pub(crate) fn tell(&self, command: Command, payload: &[&[u8]]) {
        // A number that no call has: should a reply come all the same, it is nobody's.
        let Some(id) = self.lock().begin_call() else { return };
        self.lock().calls.remove(&id);
        self.send(Header::command(id, command, len_of(payload)).without_reply(), payload, &[]);
    }

    /// Sends a whole message. If that cannot be done the connection ends.
    pub(crate) fn send(&self, header: Header, payload: &[&[u8]], fds: &[BorrowedFd<'_>]) {
        let message = [&[&header.encode()[..]], payload].concat().concat();
        let sent = {
            let _turn = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
            self.send_all(&message, fds)
        };
        if sent.is_none() {
            self.close("the other end takes no messages");
        }
    }

    /// Ends the connection, and with it what anyone waits for.
    pub(crate) fn close(&self, why: &'static str) {
        self.lock().finish(why);
        // Whoever receives sees the end; an error says that it is there already.
        let _ = shutdown(&self.socket, Shutdown::Both);
        self.changed.notify_all();
    }

    fn send_all(&self, mut message: &[u8], mut fds: &[BorrowedFd<'_>]) -> Option<()> {
        let deadline = Instant::now() + self.patience.send;
        while !message.is_empty() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(crate::wire::MAX_FDS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(fds));
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(&self.socket, &[IoSlice::new(message)], &mut control, flags) {
                Ok(count) => {
                    message = message.get(count..)?;
                    fds = &[];
                }
                Err(Errno::AGAIN) => self.ready(PollFlags::OUT, Some(deadline))?,
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
        Some(())
    }

    /// Waits until `found` finds something, and receives for all who wait when nobody else does.
    fn wait<T>(
        &self,
        deadline: Option<Instant>,
        mut found: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(found) = found(&mut state) {
                return Some(found);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if state.end.is_some() || left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            if state.receiving {
                let patience = left.unwrap_or(LOOK_AGAIN);
                let woken = self.changed.wait_timeout(state, patience);
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            state.receiving = true;
            drop(state);
            let received = self.receive(deadline);
            state = self.lock();
            state.receiving = false;
            state.accept(received);
            self.changed.notify_all();
        }
    }

    /// One message, or [`Received::Nothing`] at the deadline.
    fn receive(&self, deadline: Option<Instant>) -> Received {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let Inbox { assembly, poll, received } = &mut *inbox;
        *received = received.wrapping_add(1);
        if received.is_multiple_of(MESSAGES_PER_LOOK) && is_ready(&*self.stop) {
            return Received::End(STOPPED);
        }
        let began = Instant::now();
        loop {
            match assembly.receive(self.socket.as_fd()) {
                Received::Nothing if began.elapsed() < poll.window() => continue,
                Received::Nothing => {}
                received => return received,
            }
            let asleep = Instant::now();
            let ready = self.ready(PollFlags::IN, deadline);
            poll.learn(asleep.elapsed());
            if ready.is_none() {
                let stopped = is_ready(&*self.stop);
                return if stopped { Received::End(STOPPED) } else { Received::Nothing };
            }
        }
    }

    /// Waits for the socket. `None` at the deadline, and when this end is to stop.
    fn ready(&self, wanted: PollFlags, deadline: Option<Instant>) -> Option<()> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = left.map(|left| Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            });
            let mut fds = [PollFd::new(&self.socket, wanted), PollFd::new(&*self.stop, PollFlags::IN)];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => return None,
                Ok(_) => {
                    let [socket, stop] = fds;
                    let stopping = !stop.revents().is_empty();
                    return (!stopping && !socket.revents().is_empty()).then_some(());
                }
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn len_of(payload: &[&[u8]]) -> usize {
    payload.iter().map(|part| part.len()).sum()
}

/// Whether there is something to read, now.
fn is_ready(fd: impl AsFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&now)).is_ok_and(|count| count > 0)
}
