//! [`Cable`]: the state of the link (virtio 1.3 §5.1.4, `status`), for whoever pulls it, and announcements.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use vioduct_spec::net::{STATUS_ANNOUNCE, STATUS_LINK_UP};
use vioduct_virtio_device::{EventFd, Signal};

/// Whether there is a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// There is.
    Up,
    /// The cable is out, or what it went to is gone.
    Down,
}

/// The card's cable: a handle to it, which any thread may hold.
#[derive(Clone, Debug)]
pub struct Cable(Arc<State>);

#[derive(Debug)]
struct State {
    status: AtomicU16,
    changed: EventFd,
}

impl Cable {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(State { status: AtomicU16::new(STATUS_LINK_UP), changed: EventFd::new()? })))
    }

    /// What the driver is shown.
    #[must_use]
    pub fn link(&self) -> Link {
        if self.status() & STATUS_LINK_UP == 0 { Link::Down } else { Link::Up }
    }

    /// Shows the driver that the cable is in or out, and tells it so.
    pub fn set_link(&self, link: Link) {
        match link {
            Link::Up => self.0.status.fetch_or(STATUS_LINK_UP, Ordering::AcqRel),
            Link::Down => self.0.status.fetch_and(!STATUS_LINK_UP, Ordering::AcqRel),
        };
        self.0.changed.signal();
    }

    /// Asks the driver to announce itself to the network, where it knows of that: after it has moved to another host, say
    /// (virtio 1.3 §5.1.6.5.4).
    pub fn announce(&self) {
        self.0.status.fetch_or(STATUS_ANNOUNCE, Ordering::AcqRel);
        self.0.changed.signal();
    }

    /// The driver will.
    pub(crate) fn acknowledge(&self) {
        self.0.status.fetch_and(!STATUS_ANNOUNCE, Ordering::AcqRel);
    }

    pub(crate) fn status(&self) -> u16 {
        self.0.status.load(Ordering::Acquire)
    }

    /// Becomes readable with each change.
    pub(crate) fn changed(&self) -> &EventFd {
        &self.0.changed
    }

    /// Calls `tell` if there was a change since the last time.
    pub(crate) fn tell(&self, tell: impl FnOnce()) {
        if self.0.changed.take() > 0 {
            tell();
        }
    }
}
