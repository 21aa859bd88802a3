//! A raw server, for front-ends: answers as it should, but for what a test has it answer otherwise.

use crate::rig::payloads::{inflight, sealed_file};
use crate::rig::peer::*;
use crate::rig::requests::ALL_PROTOCOL;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use tempfile::TempDir;

/// What a server does when it is asked.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// Sends these bytes with so many descriptors.
    Say(Vec<u8>, usize),
    /// Answers with this payload and so many descriptors.
    Answer(Vec<u8>, usize),
    /// Answers as it should, and then says this.
    Append(Vec<u8>),
    /// Says nothing, and keeps the connection.
    Silence,
    /// Sends these bytes, and closes the connection.
    Close(Vec<u8>),
}

/// What a server has been told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) messages: Mutex<VecDeque<(u32, Vec<u8>)>>,
    /// The channel that it was given for requests of its own.
    pub(crate) channel: Mutex<Option<OwnedFd>>,
    /// The pipe that it was given for the device's state.
    pub(crate) pipe: Mutex<Option<OwnedFd>>,
    /// Whether it does not close that.
    pub(crate) keeps_pipes: AtomicBool,
    /// Whether it has eventfds of rings wait for a count, on both sides, and keeps them.
    pub(crate) blocks: AtomicBool,
    /// Those, each with the request that it came with.
    pub(crate) eventfds: Mutex<Vec<(u32, OwnedFd)>>,
}

pub(crate) struct Back {
    pub(crate) path: PathBuf,
    pub(crate) told: Arc<Told>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _folder: TempDir,
}

impl Back {
    /// One that does `deed` for each request `number`.
    pub(crate) fn new(number: u32, deed: Deed) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let (stop, told) = (Arc::new(AtomicBool::new(false)), Arc::new(Told::default()));
        let (stopping, telling) = (stop.clone(), told.clone());
        let thread = thread::spawn(move || {
            for client in listener.incoming() {
                if stopping.load(Ordering::SeqCst) {
                    break;
                }
                Conversation {
                    peer: Peer::over(client.unwrap()),
                    told: &telling,
                    number,
                    deed: &deed,
                    status: 0,
                }
                .run();
            }
        });
        Self { path, told, stop, thread: Some(thread), _folder: folder }
    }

    pub(crate) fn good() -> Self {
        Self::new(0, Deed::Silence)
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(&self.path);
        let end = self.thread.take().unwrap().join();
        assert!(thread::panicking() || end.is_ok(), "the raw server failed");
    }
}

struct Conversation<'b> {
    peer: Peer,
    told: &'b Told,
    number: u32,
    deed: &'b Deed,
    status: u64,
}

impl Conversation<'_> {
    /// Until the front-end has gone, or the deed ends it.
    fn run(mut self) {
        while let Ok(message) = self.peer.receive() {
            self.told.messages.lock().unwrap().push_back((message.request, message.payload.clone()));
            let (request, answered) = (message.request, message.flags & NEED_REPLY != 0);
            let usual = self.answer(message, answered);
            if request != self.number {
                if let Some((payload, files)) = usual {
                    self.say(&self::message(request, VERSION | REPLY, &payload), files);
                }
                continue;
            }
            match self.deed {
                Deed::Say(bytes, files) => self.say(bytes, *files),
                Deed::Answer(payload, files) => {
                    self.say(&self::message(request, VERSION | REPLY, payload), *files);
                }
                Deed::Append(more) => {
                    let (payload, files) = usual.unwrap();
                    let first = self::message(request, VERSION | REPLY, &payload);
                    self.say(&[first, more.clone()].concat(), files);
                }
                Deed::Silence => {}
                Deed::Close(bytes) => return self.say(bytes, 0),
            }
        }
    }

    /// The front-end may have gone.
    fn say(&self, bytes: &[u8], files: usize) {
        let files: Vec<OwnedFd> = (0..files).map(|_| sealed_file(0x1000)).collect();
        let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        let _ = match bytes.is_empty() {
            true => Ok(()),
            false => self.peer.try_send_bytes(bytes, &files),
        };
    }

    /// As it should be: payload and number of descriptors, if there is an answer.
    fn answer(&mut self, message: Incoming, answered: bool) -> Option<(Vec<u8>, usize)> {
        let long = |value: u64| Some((longs(&[value]), 0));
        match message.request {
            GET_FEATURES => long(1 << 32 | 1 << 30 | 1 << 34),
            GET_PROTOCOL_FEATURES => long(ALL_PROTOCOL),
            GET_QUEUE_NUM => long(1),
            GET_MAX_MEM_SLOTS => long(8),
            GET_STATUS => long(self.status),
            CHECK_DEVICE_STATE => long(0),
            SET_DEVICE_STATE_FD => {
                if self.told.keeps_pipes.load(Ordering::SeqCst) {
                    *self.told.pipe.lock().unwrap() = message.fds.into_iter().next();
                }
                long(1 << 8)
            }
            GET_VRING_BASE => Some((message.payload, 0)),
            GET_CONFIG => Some((message.payload, 0)),
            GET_INFLIGHT_FD => Some(([inflight(0x1000, 0, 1, 16), vec![0; 4]].concat(), 1)),
            SET_BACKEND_REQ_FD => {
                *self.told.channel.lock().unwrap() = message.fds.into_iter().next();
                answered.then(|| (longs(&[0]), 0))
            }
            SET_STATUS => {
                self.status = u64::from_ne_bytes(message.payload.try_into().unwrap());
                answered.then(|| (longs(&[0]), 0))
            }
            SET_VRING_CALL | SET_VRING_ERR if self.told.blocks.load(Ordering::SeqCst) => {
                for fd in message.fds {
                    rustix::io::ioctl_fionbio(&fd, false).unwrap();
                    self.told.eventfds.lock().unwrap().push((message.request, fd));
                }
                answered.then(|| (longs(&[0]), 0))
            }
            _ => answered.then(|| (longs(&[0]), 0)),
        }
    }
}
