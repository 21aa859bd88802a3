//! Anything that serves virtqueues: [`Backend`], what it is given ([`Host`], [`QueueSetup`]) and what it answers.
//!
//! [`Inline`](crate::Inline) and [`Workers`](crate::Workers) serve a [`DeviceModel`](crate::DeviceModel) in this process; a
//! kernel vhost device and a vhost-user front-end are back-ends too. [`Endpoint`](crate::Endpoint) and a vhost-user server
//! are what drives one.

use crate::model::{DeviceInfo, StateError};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, ReadWriteFlags, preadv2, read};
use std::fmt::Display;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use vioduct_spec::Features;
use vioduct_virtqueue::{InFlightArea, Memory, QueuePosition, RingLayout, SetupError};

/// Something that serves the virtqueues of one device.
///
/// Calls come in this order: [`connect`](Self::connect) once (and again, with all queues stopped, when the memory changes),
/// [`set_features`](Self::set_features), then queues start and stop one at a time, then [`reset`](Self::reset), and again
/// from `set_features`.
pub trait Backend: Send {
    /// What the device is; the same whenever it is asked.
    fn info(&self) -> &DeviceInfo;

    /// The features on offer: those of the device type and the reserved ones that this back-end's queues implement.
    fn features(&self) -> Features;

    /// Fills `out` with configuration bytes from `offset` on, all within [`config_len`](DeviceInfo::config_len).
    fn read_config(&self, offset: usize, out: &mut [u8]);

    /// The driver wrote `data` at `offset`, all within the configuration space.
    fn write_config(&mut self, offset: usize, data: &[u8]);

    /// Gives the memory that queues lie in, and where events go. No queue is running.
    fn connect(&mut self, host: Host);

    /// Negotiation has ended with these features.
    ///
    /// # Errors
    /// If the back-end cannot serve them; the driver then sees negotiation fail.
    fn set_features(&mut self, negotiated: Features) -> Result<(), BackendError>;

    /// Starts to serve queue `q`. Buffers may be available already: no kick is needed to begin with them.
    ///
    /// # Errors
    /// If there is no such queue, it is running, or its layout or position is not usable.
    fn start_queue(&mut self, q: u16, setup: QueueSetup) -> Result<(), BackendError>;

    /// Stops queue `q` and returns where it stood, once every buffer that the device had taken is used. After this the
    /// device touches neither the queue's memory nor its `call`. `None` if it was not running, or had met a fault.
    ///
    /// # Errors
    /// If buffers stay with the device beyond the back-end's limit. The queue then still counts as running.
    fn stop_queue(&mut self, q: u16) -> Result<Option<QueuePosition>, BackendError>;

    /// The driver has notified queue `q` by an access that was trapped. A kick of a queue that is not running is ignored.
    fn kick(&mut self, q: u16);

    /// Stops what is running and forgets features and device state.
    ///
    /// # Errors
    /// If a queue cannot be stopped.
    fn reset(&mut self) -> Result<(), BackendError>;

    /// The device's own state, for another to go on from; see [`DeviceModel::save`](crate::DeviceModel::save). No queue is
    /// running.
    ///
    /// # Errors
    /// If the state cannot be had.
    fn save_state(&mut self) -> Result<Vec<u8>, BackendError> {
        Ok(Vec::new())
    }

    /// Takes over a state that was saved; see [`DeviceModel::restore`](crate::DeviceModel::restore). No queue is running.
    ///
    /// # Errors
    /// If the state does not suit the device.
    fn restore_state(&mut self, state: &[u8]) -> Result<(), BackendError> {
        if state.is_empty() { Ok(()) } else { Err(StateError::none_expected().into()) }
    }
}

impl<B: Backend + ?Sized> Backend for Box<B> {
    fn info(&self) -> &DeviceInfo {
        (**self).info()
    }
    fn features(&self) -> Features {
        (**self).features()
    }
    fn read_config(&self, offset: usize, out: &mut [u8]) {
        (**self).read_config(offset, out);
    }
    fn write_config(&mut self, offset: usize, data: &[u8]) {
        (**self).write_config(offset, data);
    }
    fn connect(&mut self, host: Host) {
        (**self).connect(host);
    }
    fn set_features(&mut self, negotiated: Features) -> Result<(), BackendError> {
        (**self).set_features(negotiated)
    }
    fn start_queue(&mut self, q: u16, setup: QueueSetup) -> Result<(), BackendError> {
        (**self).start_queue(q, setup)
    }
    fn stop_queue(&mut self, q: u16) -> Result<Option<QueuePosition>, BackendError> {
        (**self).stop_queue(q)
    }
    fn kick(&mut self, q: u16) {
        (**self).kick(q);
    }
    fn reset(&mut self) -> Result<(), BackendError> {
        (**self).reset()
    }
    fn save_state(&mut self) -> Result<Vec<u8>, BackendError> {
        (**self).save_state()
    }
    fn restore_state(&mut self, state: &[u8]) -> Result<(), BackendError> {
        (**self).restore_state(state)
    }
}

/// What a back-end is given of the machine it serves.
#[derive(Clone)]
pub struct Host {
    /// The memory that rings and buffers lie in.
    pub memory: Arc<dyn Memory>,
    /// Where the back-end reports what concerns the whole device.
    pub events: Arc<dyn HostEvents>,
}

/// What a back-end reports about the whole device, from any thread.
pub trait HostEvents: Send + Sync {
    /// Configuration bytes have changed, other than by the driver's write.
    fn config_changed(&self);

    /// The device serves no more until it is reset: the driver misused it, or it broke.
    fn needs_reset(&self, reason: &dyn Display);
}

/// How one queue is to be served.
pub struct QueueSetup {
    /// Size and place of the rings.
    pub layout: RingLayout,
    /// Where to begin: [`QueuePosition::START`] unless the queue ran before.
    pub position: QueuePosition,
    /// An event that the notifier raises directly (ioeventfd, or a vhost-user peer). [`Backend::kick`] works with and
    /// without it.
    pub kick: Option<Arc<EventFd>>,
    /// How to tell the driver that buffers are used: once per batch, when it wants to know.
    pub call: Arc<dyn Signal>,
    /// Where to record what is in flight, and to resume from what another process has recorded. `None`: nowhere.
    pub in_flight: Option<InFlightArea>,
}

/// A used-buffer notification on its way to the driver (virtio 1.3 §2.3).
pub trait Signal: Send + Sync {
    /// Notifies the driver.
    fn signal(&self);

    /// An eventfd whose increment notifies the driver as well, for back-ends outside of this process.
    fn eventfd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// No offset of a file's (preadv2(2)).
const WHERE_IT_STANDS: u64 = u64::MAX;

/// A Linux eventfd, as kicks and calls use them.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A new one, at zero, non-blocking.
    ///
    /// # Errors
    /// If the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// The count since it was last taken; 0 if nothing was signalled. It never waits, whatever a process does that shares the eventfd:
    /// that it is non-blocking is a property of both sides' descriptors, and QEMU's servers make it a blocking one for a moment.
    #[must_use]
    pub fn take(&self) -> u64 {
        let mut count = [0; 8];
        match self.read_now(&mut count) {
            Ok(8) => u64::from_ne_bytes(count),
            _ => 0,
        }
    }

    fn read_now(&self, count: &mut [u8; 8]) -> io::Result<usize> {
        match preadv2(&self.0, &mut [IoSliceMut::new(count)], WHERE_IT_STANDS, ReadWriteFlags::NOWAIT) {
            // What is no eventfd may not know how. There it is looked first.
            Err(Errno::OPNOTSUPP) => {
                let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
                match poll(&mut fds, Some(&Timespec::default()))? {
                    0 => Ok(0),
                    _ => Ok(read(&self.0, count)?),
                }
            }
            outcome => Ok(outcome?),
        }
    }
}

impl From<OwnedFd> for EventFd {
    /// An eventfd from elsewhere. Nothing is assumed of it: writing to a wrong one fails, and that is ignored.
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Signal for EventFd {
    fn signal(&self) {
        // The one error of an eventfd's write is "already at its maximum", in which case it is signalled.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
    fn eventfd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

/// Why a back-end could not do what the control path asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The queue number is too high.
    #[error("there is no queue {queue}: the device has {count}")]
    NoSuchQueue {
        /// The queue asked for.
        queue: u16,
        /// How many there are.
        count: usize,
    },
    /// No handler of the model serves the queue.
    #[error("no handler serves queue {queue} with the negotiated features: do not enable it")]
    NotServed {
        /// The queue asked for.
        queue: u16,
    },
    /// The model's handlers claim a queue twice, or one that does not exist.
    #[error(
        "the device model's handlers must claim each of its {count} queues at most once; queue {queue} is wrong"
    )]
    HandlerRanges {
        /// The first queue in error.
        queue: u16,
        /// How many queues there are.
        count: usize,
    },
    /// The queue must be stopped first.
    #[error("queue {queue} is running: stop it first")]
    Running {
        /// The queue asked for.
        queue: u16,
    },
    /// A call came out of order.
    #[error("{missing} must be called first")]
    OutOfOrder {
        /// The method that was left out.
        missing: &'static str,
    },
    /// Features that were not on offer.
    #[error("features not on offer: {0}")]
    NotOffered(Features),
    /// The queue's layout or position cannot be used.
    #[error("queue {queue}: {source}")]
    Setup {
        /// The queue asked for.
        queue: u16,
        /// What is wrong with it.
        source: SetupError,
    },
    /// The device did not give back every buffer in time.
    #[error(
        "queue {queue}: {in_flight} buffers are still with the device; reset it again once its I/O has ended"
    )]
    Draining {
        /// The queue asked for.
        queue: u16,
        /// Buffers not yet used.
        in_flight: usize,
    },
    /// The operating system refused something.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// Its reason.
        source: io::Error,
    },
    /// A saved state does not suit the device.
    #[error("{0}")]
    State(#[from] StateError),
    /// A reason of another kind of back-end, in words that say what to do.
    #[error("{0}")]
    Other(String),
}
