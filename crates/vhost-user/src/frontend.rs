//! [`Frontend`]: a device in another process, as a [`Backend`]: what is behind an `Endpoint` is served by a vhost-user server.
//!
//! | module | part |
//! |---|---|
//! | `options` | limits, and the memory that is shared |
//! | `origin` | where the server is found |
//! | `session` | what the server was told, and telling another |
//! | `remote` | a server, by what it can be asked for |
//! | `state` | the device's own state, saved and loaded |
//! | `ring` | one queue that the server serves |
//! | `log` | what the server writes to memory, where that is logged |
//! | `link` | requests and answers, with time limits |
//! | `ears` | what the server says by itself |
//! | `watch` | the thread that listens, and looks for a server that is gone |
//! | `trouble` | why a server does not do as it is asked |

mod ears;
mod link;
mod log;
mod options;
mod origin;
mod remote;
mod ring;
mod session;
mod state;
mod trouble;
mod watch;

pub use options::{Patience, SharedRegion};

use crate::error::FrontendError;
use crate::wire::{MAX_CONFIG_LEN, ProtocolFeatures};
use origin::Origin;
use ring::Ring;
use session::Session;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use trouble::Trouble;
use vioduct_spec::Features;
use vioduct_virtio_device::{
    Backend, BackendError, ConfigAccess, DeviceInfo, EventFd, Host, QueueSetup, Signal, StateError,
};
use vioduct_virtqueue::QueuePosition;
use watch::{Shared, Watcher};

/// A device that a vhost-user server has.
///
/// vhost-user does not say what a device is: whoever connects declares its type, its queues and the length of its configuration
/// space, and the server is asked for the rest.
///
/// # A server that goes away
/// It is looked for again, with growing pauses, and told all that the one before it knew: features, memory, queues. Requests that
/// were in flight are then done by it. Where the server keeps records of them (`INFLIGHT_SHMFD`), each is done exactly once;
/// where it does not, a split queue whose buffers were used in order has what is not used yet done once more, and any other needs
/// a reset of the device.
/// If the server stays away longer than [`Patience`] has it, the device needs a reset; when its driver does that, the server is
/// looked for again.
///
/// # What it writes
/// Where the memory logs writes (`MemoryMap::start_log`), the server logs its own, and they are in the memory's log when a queue has
/// stopped. One that cannot (`LOG_SHMFD`) may have written everything, and that is what the log says then.
///
/// ```no_run
/// use std::sync::Arc;
/// use vioduct_spec::{blk, device_type, Features};
/// use vioduct_vhost_user::{Frontend, Patience, SharedRegion};
/// use vioduct_virtio_device::{DeviceInfo, Endpoint, MemoryMap, TransportInterrupts};
///
/// # struct Interrupts;
/// # impl TransportInterrupts for Interrupts {
/// #     fn queue(&self, _q: u16) {}
/// #     fn config(&self) {}
/// # }
/// let memory = Arc::new(MemoryMap::shared(64 << 20)?);
/// let info = DeviceInfo {
///     config_len: blk::CONFIG_LEN,
///     ..DeviceInfo::new(device_type::BLOCK, "disk", vec![128])
/// };
/// let regions = SharedRegion::all_of(&memory)?;
/// let disk = Frontend::connect("/run/disk.sock", info, regions, Patience::default())?;
/// // What virtio-mmio and virtio-pci do with any back-end:
/// let endpoint = Endpoint::new(disk, memory, Arc::new(Interrupts), Features::NONE);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Frontend {
    info: DeviceInfo,
    offered: Features,
    /// Of each queue that runs, so that a notification takes no lock.
    kicks: Vec<Option<Arc<EventFd>>>,
    shared: Arc<Shared>,
    _watcher: Watcher,
}

impl Frontend {
    /// Connects to the server that listens at `path`, for a device that is as `info` says: the server must have as many queues,
    /// and as much configuration space. What it offers of the device type's features replaces those in `info`. `regions` is
    /// the guest's memory.
    ///
    /// # Errors
    /// If there is no server, or it does not suit.
    pub fn connect(
        path: impl AsRef<Path>,
        info: DeviceInfo,
        regions: Vec<SharedRegion>,
        patience: Patience,
    ) -> Result<Self, FrontendError> {
        Self::new(Origin::Path(path.as_ref().to_owned()), info, regions, patience)
    }

    /// The same over a connection that someone else has made. A server that is gone is not found again.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect); and if the descriptor is not a Unix stream socket.
    pub fn over(
        socket: OwnedFd,
        info: DeviceInfo,
        regions: Vec<SharedRegion>,
        patience: Patience,
    ) -> Result<Self, FrontendError> {
        if !origin::is_stream(&socket) {
            return Err(FrontendError::NotAStream);
        }
        Self::new(Origin::Socket(Some(socket)), info, regions, patience)
    }

    fn new(
        origin: Origin,
        mut info: DeviceInfo,
        regions: Vec<SharedRegion>,
        patience: Patience,
    ) -> Result<Self, FrontendError> {
        if info.config_len > MAX_CONFIG_LEN {
            return Err(FrontendError::ConfigLength(info.config_len));
        }
        let kicks = info.queue_sizes.iter().map(|_| None).collect();
        let session = Session::new(origin, info.clone(), regions, patience);
        let (shared, offered) = Shared::start(session)?;
        info.features = offered & Features::DEVICE_TYPE;
        let watcher = Watcher::spawn(shared.clone())?;
        Ok(Self { info, offered, kicks, shared, _watcher: watcher })
    }

    /// Offers no features but these, of those that the server has.
    #[must_use]
    pub fn offering(mut self, allowed: Features) -> Self {
        self.offered = self.offered & (allowed | Features::VERSION_1);
        self.info.features = self.offered & Features::DEVICE_TYPE;
        self
    }

    /// Shares this memory from now on, and no other: before the endpoint's memory is replaced. No queue is running.
    ///
    /// # Errors
    /// If the server refuses, has no room, or stays away.
    pub fn share(&mut self, regions: Vec<SharedRegion>) -> Result<(), BackendError> {
        if self.kicks.iter().any(Option::is_some) {
            return Err(BackendError::OutOfOrder { missing: "stop_queue, of every queue," });
        }
        self.shared.session().regions = regions;
        self.shared.tell(|session| {
            let regions = session.regions.clone();
            session.remote()?.share(&regions)
        })
    }

    /// Takes note of all that the server has said by now; the driver has been notified when this returns. A thread does so
    /// anyway: this is for those who cannot wait for it.
    pub fn listen(&self) {
        self.shared.listen();
    }

    fn queue(&mut self, q: u16) -> Result<&mut Option<Arc<EventFd>>, BackendError> {
        let count = self.kicks.len();
        self.kicks.get_mut(usize::from(q)).ok_or(BackendError::NoSuchQueue { queue: q, count })
    }
}

impl Backend for Frontend {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn features(&self) -> Features {
        self.offered
    }

    /// From the server, or as it was last read if there is none: a driver is not kept waiting for one.
    fn read_config(&self, offset: usize, out: &mut [u8]) {
        let config = self.shared.config();
        for (to, from) in out.iter_mut().zip(config.iter().skip(offset)) {
            *to = *from;
        }
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        let outcome = self.shared.tell(|session| session.remote()?.write_config(offset, data));
        if let Err(error) = outcome
            && self.info.config_access != ConfigAccess::ReadOnly
        {
            tracing::warn!(device = self.info.name, "the configuration is not written: {error}");
        }
    }

    fn connect(&mut self, host: Host) {
        self.shared.connect(host);
    }

    fn set_features(&mut self, negotiated: Features) -> Result<(), BackendError> {
        let extra = negotiated.without(self.offered);
        if !extra.is_empty() {
            return Err(BackendError::NotOffered(extra));
        }
        self.shared.set_features(negotiated)
    }

    fn start_queue(&mut self, q: u16, setup: QueueSetup) -> Result<(), BackendError> {
        if self.queue(q)?.is_some() {
            return Err(BackendError::Running { queue: q });
        }
        let failed = |source| BackendError::System { action: "create an eventfd", source };
        let ring = Ring::new(setup).map_err(failed)?;
        let kick = ring.kick.clone();
        self.shared.start_queue(q, ring)?;
        *self.queue(q)? = Some(kick);
        Ok(())
    }

    fn stop_queue(&mut self, q: u16) -> Result<Option<QueuePosition>, BackendError> {
        if !matches!(self.queue(q), Ok(Some(_))) {
            return Ok(None);
        }
        let position = self.shared.stop_queue(q)?;
        *self.queue(q)? = None;
        Ok(position)
    }

    fn kick(&mut self, q: u16) {
        if let Ok(Some(kick)) = self.queue(q) {
            kick.signal();
        }
    }

    fn reset(&mut self) -> Result<(), BackendError> {
        self.kicks.fill(None);
        self.shared.reset()
    }

    fn save_state(&mut self) -> Result<Vec<u8>, BackendError> {
        self.shared.ask(|session| {
            let limit = session.patience.request;
            let remote = session.remote()?;
            match remote.has(ProtocolFeatures::DEVICE_STATE) {
                true => remote.save_state(limit),
                false => Ok(Vec::new()),
            }
        })
    }

    fn restore_state(&mut self, state: &[u8]) -> Result<(), BackendError> {
        let has_state = |session: &mut Session| Ok(session.remote()?.has(ProtocolFeatures::DEVICE_STATE));
        match (self.shared.ask(has_state)?, state) {
            (true, _) => self.shared.tell(|session| {
                let limit = session.patience.request;
                session.remote()?.load_state(state, limit)
            }),
            (false, []) => Ok(()),
            (false, _) => Err(StateError("its server takes none (DEVICE_STATE)".into()).into()),
        }
    }
}

impl std::fmt::Debug for Frontend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frontend").field("info", &self.info).finish_non_exhaustive()
    }
}
