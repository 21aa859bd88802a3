//! Kicks and calls: the descriptors that front-ends send for them, and what becomes of a notification.

use crate::channel::{Channel, Notice};
use crate::error::Refusal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::net::{SendFlags, send};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use vioduct_virtio_device::{EventFd, Signal};

/// Where the available-buffer notifications of a ring come from.
#[derive(Clone)]
pub(crate) enum Kick {
    /// Messages.
    InBand,
    /// Nowhere: the ring is looked at every now and then.
    Polled,
    Descriptor(Arc<EventFd>),
}

impl Kick {
    /// What the front-end asks for with this descriptor. Eventfds only: others cannot be waited for, or fill up.
    pub(crate) fn new(fd: Option<OwnedFd>) -> Result<Self, Refusal> {
        match fd.map(Signaller::new).transpose()? {
            None => Ok(Self::Polled),
            Some(Signaller::Event(fd)) => Ok(Self::Descriptor(Arc::new(EventFd::from(fd)))),
            Some(Signaller::Stream(_)) => Err(Refusal::Rule("a kick must be an eventfd")),
        }
    }

    pub(crate) fn descriptor(&self) -> Option<Arc<EventFd>> {
        match self {
            Self::Descriptor(event) => Some(event.clone()),
            Self::InBand | Self::Polled => None,
        }
    }
}

/// A descriptor that can be told something eight bytes at a time.
#[derive(Debug)]
pub(crate) enum Signaller {
    /// An eventfd, or what looks like one.
    Event(OwnedFd),
    /// One end of a stream socket pair, which user-mode Linux sends.
    Stream(OwnedFd),
}

impl Signaller {
    /// Refuses what a write could block on for long, or change: files, pipes, devices.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, Refusal> {
        let status = fstat(&fd).map_err(Refusal::system("look at a descriptor"))?;
        match FileType::from_raw_mode(status.st_mode) {
            // Eventfds are anonymous inodes, which have no type.
            FileType::Unknown => Ok(Self::Event(fd)),
            FileType::Socket => Ok(Self::Stream(fd)),
            _ => Err(Refusal::Rule("a notification descriptor is neither an eventfd nor a socket")),
        }
    }

    /// Never waits: a front-end that has filled its descriptor has been told already.
    pub(crate) fn signal(&self) {
        let one = 1u64.to_ne_bytes();
        // Errors mean that the peer has gone, or never meant to be told; neither is ours to mend.
        match self {
            Self::Event(fd) => {
                // Its flags are the front-end's to choose, so a write might wait: for room, which there is but for 2^64 signals.
                let mut room = [PollFd::new(fd, PollFlags::OUT)];
                let now = Timespec { tv_sec: 0, tv_nsec: 0 };
                if poll(&mut room, Some(&now)).is_ok_and(|ready| ready == 1) {
                    let _ = rustix::io::write(fd, &one);
                }
            }
            Self::Stream(fd) => {
                let _ = send(fd, &one, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            }
        }
    }
}

/// Where the used-buffer notifications of a ring go.
#[derive(Debug)]
enum Target {
    /// Nothing was set. Without in-band notifications, what is missed is made up for.
    Unset {
        missed: bool,
    },
    /// The front-end polls.
    Silent,
    Descriptor(Signaller),
}

/// The call of one ring; the front-end may change it while the ring runs.
pub(crate) struct Call {
    ring: u16,
    target: Mutex<Target>,
    channel: Arc<Channel>,
}

impl Call {
    pub(crate) fn new(ring: u16, channel: Arc<Channel>) -> Self {
        Self { ring, target: Mutex::new(Target::Unset { missed: false }), channel }
    }

    /// From now on `fd` is signalled; with none, nothing.
    pub(crate) fn set(&self, fd: Option<Signaller>) {
        let mut target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        let missed = matches!(*target, Target::Unset { missed: true });
        *target = fd.map_or(Target::Silent, Target::Descriptor);
        if let (true, Target::Descriptor(fd)) = (missed, &*target) {
            fd.signal();
        }
    }
}

impl Signal for Call {
    fn signal(&self) {
        let mut target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *target {
            Target::Descriptor(fd) => fd.signal(),
            Target::Silent => {}
            Target::Unset { missed } => *missed = !self.channel.post(Notice::Call(self.ring)),
        }
    }
}
