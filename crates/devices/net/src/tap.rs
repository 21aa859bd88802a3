//! [`Tap`]: an interface of the host's, by `/dev/net/tun`.

mod interface;
mod news;

use crate::port::{Pair, Port, Presence};
use interface::{Interface, Queues};
use news::News;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use vioduct_virtio_device::{Features, QueueHandler};

/// Where interfaces are made.
const CONTROL: &str = "/dev/net/tun";
/// The kernel puts a number in.
const AUTOMATIC: &str = "vioduct%d";

/// A TAP interface, with a queue for each pair of the card's. Packets are read and written whole, behind the header of virtio 1.3
/// §5.1.6 (`IFF_VNET_HDR`), and do not block. One that this made goes when it does.
pub struct Tap {
    name: String,
    queues: Vec<Arc<OwnedFd>>,
    /// How many of them get packets.
    attached: Mutex<u16>,
    features: Features,
    /// Once the queues are lent.
    news: OnceLock<News>,
}

/// Why there is no interface, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// The system has no TAP interfaces.
    #[error("{CONTROL} is not there: load the module tun, or give the container the device")]
    NoTun,
    /// It may not be used.
    #[error("{CONTROL} cannot be opened: you need read and write permission for it")]
    Closed,
    /// An interface cannot be made.
    #[error(
        "making an interface needs CAP_NET_ADMIN: have one made for you by `ip tuntap add NAME mode tap user $USER`, and name it"
    )]
    NotPermitted,
    /// An interface cannot be used.
    #[error(
        "it is not yours, which needs CAP_NET_ADMIN: make one that is by `ip tuntap add NAME mode tap user $USER`"
    )]
    NotYours,
    /// There is none of that name.
    #[error("there is no such interface: `ip tuntap add NAME mode tap user $USER`, or tap=auto")]
    Missing,
    /// An interface that somebody else holds.
    #[error("it is in use by another program")]
    Busy,
    /// An interface of one queue, or none of TAP's.
    #[error(
        "it is no TAP interface for {pairs} pairs of queues: make it with `ip tuntap add NAME mode tap multi_queue`"
    )]
    Unsuitable {
        /// Pairs of queues that were wanted.
        pairs: u16,
    },
    /// A name that no interface can have.
    #[error("an interface's name has 1 to 15 bytes, and none of them is `/` or `%`")]
    Name,
    /// Anything else.
    #[error("the system refuses: {0}")]
    System(io::Error),
}

impl Tap {
    /// Opens the interface `name`, which is there, with so many queues.
    ///
    /// # Errors
    /// [`TapError`].
    pub fn open(name: &str, pairs: u16) -> Result<Self, TapError> {
        if name.is_empty() || name.len() > 15 || name.contains(['/', '%', '\0']) {
            return Err(TapError::Name);
        }
        match interface::index(name) {
            Ok(_) => Self::with_queues(name, pairs),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Err(TapError::Missing),
            Err(error) => Err(TapError::System(error)),
        }
        .map_err(|error| match error {
            TapError::NotPermitted => TapError::NotYours,
            other => other,
        })
    }

    /// Makes an interface, up and of the given MTU, which goes with this object.
    ///
    /// # Errors
    /// [`TapError`].
    pub fn create(pairs: u16, mtu_bytes: Option<u16>) -> Result<Self, TapError> {
        let tap = Self::with_queues(AUTOMATIC, pairs)?;
        if let Some(mtu_bytes) = mtu_bytes {
            interface::set_mtu(&tap.name, mtu_bytes).map_err(TapError::System)?;
        }
        interface::set_up(&tap.name).map_err(TapError::System)?;
        Ok(tap)
    }

    fn with_queues(name: &str, pairs: u16) -> Result<Self, TapError> {
        let first = match pairs {
            // An interface of one queue is one of many only if it was made so.
            1 => match Interface::open(CONTROL, name, Queues::One) {
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    Interface::open(CONTROL, name, Queues::Many)
                }
                other => other,
            },
            _ => Interface::open(CONTROL, name, Queues::Many),
        };
        let explained = |error: io::Error| match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => TapError::NoTun,
            Some(libc::EACCES) => TapError::Closed,
            Some(libc::EPERM) => TapError::NotPermitted,
            Some(libc::EBUSY) => TapError::Busy,
            Some(libc::EINVAL | libc::E2BIG) => TapError::Unsuitable { pairs },
            _ => TapError::System(error),
        };
        let first = first.map_err(explained)?;
        let (name, features) = (first.name.clone(), first.probe().map_err(TapError::System)?);
        let mut queues = vec![first];
        for _ in 1..pairs {
            queues.push(Interface::open(CONTROL, &name, Queues::Many).map_err(explained)?);
        }
        let queues = queues.into_iter().map(|queue| Arc::new(queue.fd)).collect();
        Ok(Self { name, queues, attached: Mutex::new(pairs), features, news: OnceLock::new() })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A descriptor for each pair of queues: for a kernel that serves these in our place. The header's length is set, and it does not
    /// block. Nobody takes packets here then, who would find out that the interface is gone: the card listens to the system for that.
    ///
    /// # Errors
    /// Of the system.
    pub fn lend(&self) -> io::Result<Vec<OwnedFd>> {
        if self.news.get().is_none() {
            // Somebody else may have been faster.
            let _ = self.news.set(News::new()?);
        }
        self.queues.iter().map(|queue| queue.try_clone()).collect()
    }
}

impl Port for Tap {
    fn features(&self) -> Features {
        self.features
    }

    fn pairs(&self) -> u16 {
        self.queues.len() as u16
    }

    fn handler(&self, pair: Pair) -> Box<dyn QueueHandler> {
        // A device asks for no more pairs than there are, and there is at least one.
        let at = usize::from(pair.number) % self.queues.len();
        let queue = self.queues.get(at).expect("invariant: a remainder is below its divisor");
        pair.serve(queue.clone())
    }

    fn news(&self) -> Option<BorrowedFd<'_>> {
        self.news.get().map(AsFd::as_fd)
    }

    fn hear(&self) -> Presence {
        if let Some(news) = self.news.get() {
            news.take();
        }
        match self.queues.first() {
            Some(queue) if news::is_gone(queue) => Presence::Gone,
            _ => Presence::There,
        }
    }

    fn set_offloads(&self, taken: Features) -> io::Result<()> {
        self.queues.first().map_or(Ok(()), |queue| interface::set_offloads(queue, taken))
    }

    fn set_pairs(&self, count: u16) -> io::Result<()> {
        let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        while *attached < count.min(self.queues.len() as u16) {
            if let Some(queue) = self.queues.get(usize::from(*attached)) {
                interface::attach(queue)?;
            }
            *attached += 1;
        }
        while *attached > count.max(1) {
            if let Some(queue) = self.queues.get(usize::from(*attached - 1)) {
                interface::detach(queue)?;
            }
            *attached -= 1;
        }
        Ok(())
    }
}
