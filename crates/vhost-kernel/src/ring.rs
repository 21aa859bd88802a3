//! [`Ring`]: a queue that the kernel has, with all that it takes to give it to another.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use vioduct_virtio_device::{EventFd, QueueSetup, Signal};
use vioduct_virtqueue::{QueuePosition, RingIndex, RingLayout};

pub(crate) struct Ring {
    pub(crate) layout: RingLayout,
    /// Where it begins; once it has stopped, where it stands.
    pub(crate) position: QueuePosition,
    pub(crate) kick: Arc<EventFd>,
    pub(crate) call: Arc<dyn Signal>,
    /// What the kernel signals where the driver's own notification is no descriptor.
    pub(crate) heard: Arc<EventFd>,
    pub(crate) error: Arc<EventFd>,
    pub(crate) progress: Progress,
}

/// How far the kernel has come with a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// It may have been told of it.
    Given,
    /// It has served it, so that it knows where it stands.
    Served,
}

impl Ring {
    pub(crate) fn new(setup: QueueSetup) -> io::Result<Self> {
        // The kernel keeps no record of what is in flight: all of it is used before a queue has stopped.
        let QueueSetup { layout, position, kick, call, in_flight: _ } = setup;
        let event = || EventFd::new().map(Arc::new);
        let kick = kick.map_or_else(event, Ok)?;
        Ok(Self { layout, position, kick, call, heard: event()?, error: event()?, progress: Progress::Given })
    }

    /// What the kernel is to signal: the driver's own descriptor, so that nothing is in between, or ours.
    pub(crate) fn call_fd(&self) -> BorrowedFd<'_> {
        self.call.eventfd().unwrap_or_else(|| self.heard.as_fd())
    }

    /// The kernel has stopped at `base`. All that it had taken is used then, so both sides of a split ring stand there.
    pub(crate) fn stopped_at(&mut self, base: u64) {
        let index = RingIndex { index: base as u16, ..RingIndex::START };
        self.position = QueuePosition { available: index, used: index };
    }

    /// For whoever serves it from now on.
    pub(crate) fn into_setup(self) -> QueueSetup {
        let Self { layout, position, kick, call, heard: _, error: _, progress: _ } = self;
        QueueSetup { layout, position, kick: Some(kick), call, in_flight: None }
    }
}
