//! [`Served`]: a device as its endpoint reaches it: in its place, or at the other end of a vhost-user connection.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::{Arc, Mutex};
use std::thread;

use vioduct_spec::Features;
use vioduct_vhost_user::{Frontend, Patience, Server, SharedRegion};
use vioduct_virtio_device::{Backend, BackendError, DeviceInfo, Host, MemoryMap, QueueSetup};
use vioduct_virtqueue::{Memory, QueuePosition};

use crate::MachineError;
use crate::place::lock;

/// A back-end and the way to it.
pub enum Served<B> {
    /// The endpoint's own.
    Here(B),
    /// In a vhost-user server, with a socket in between.
    Elsewhere(Elsewhere<B>),
}

/// A back-end that a vhost-user server has, in a thread of this process, so that it can be stepped and looked at all the same.
pub struct Elsewhere<B> {
    frontend: Frontend,
    device: Arc<Mutex<Device<B>>>,
    /// The memory that the server maps for itself.
    shared: Arc<MemoryMap>,
}

/// The server's end.
struct Device<B> {
    backend: B,
    host: Option<Host>,
    /// What the device is given for the memory that the server has mapped: for tests of what memory can do.
    instead: Option<Arc<dyn Memory>>,
}

impl<B: Backend> Device<B> {
    fn connect(&mut self) {
        let Some(Host { memory, events }) = self.host.clone() else { return };
        self.backend.connect(Host { memory: self.instead.clone().unwrap_or(memory), events });
    }
}

impl<B: Backend + 'static> Elsewhere<B> {
    /// Serves `backend` to a front-end of its own.
    pub(crate) fn new(backend: B, memory: Arc<MemoryMap>) -> Result<Self, MachineError> {
        let failed = |error: &dyn std::fmt::Display| MachineError::VhostUser(error.to_string());
        let info = backend.info().clone();
        let device = Arc::new(Mutex::new(Device { backend, host: None, instead: None }));
        let (near, far) = UnixStream::pair().map_err(|error| failed(&error))?;
        let server = Server::from_socket(OwnedFd::from(far)).map_err(|error| failed(&error))?;
        let served = Remote { info: info.clone(), device: device.clone() };
        // It ends with the connection; a panic there is seen by whoever waits for its answer.
        thread::spawn(move || server.run(move || Ok::<_, String>(served.clone())));
        let regions = SharedRegion::all_of(&memory).map_err(|error| failed(&error))?;
        let frontend = Frontend::over(OwnedFd::from(near), info, regions, Patience::default());
        Ok(Self { frontend: frontend.map_err(|error| failed(&error))?, device, shared: memory })
    }
}

impl<B: Backend> Served<B> {
    /// Does something with the back-end itself; what it says meanwhile has reached the endpoint when this returns.
    pub fn with_backend<R>(&mut self, f: impl FnOnce(&mut B) -> R) -> R {
        match self {
            Self::Here(backend) => f(backend),
            Self::Elsewhere(Elsewhere { frontend, device, .. }) => {
                let outcome = f(&mut lock(device).backend);
                frontend.listen();
                outcome
            }
        }
    }

    fn near(&self) -> &dyn Backend
    where
        B: Sized,
    {
        match self {
            Self::Here(backend) => backend,
            Self::Elsewhere(Elsewhere { frontend, .. }) => frontend,
        }
    }

    fn near_mut(&mut self) -> &mut dyn Backend {
        match self {
            Self::Here(backend) => backend,
            Self::Elsewhere(Elsewhere { frontend, .. }) => frontend,
        }
    }
}

impl<B: Backend> Backend for Served<B> {
    fn info(&self) -> &DeviceInfo {
        self.near().info()
    }
    fn features(&self) -> Features {
        self.near().features()
    }
    fn read_config(&self, offset: usize, out: &mut [u8]) {
        self.near().read_config(offset, out);
    }
    fn write_config(&mut self, offset: usize, data: &[u8]) {
        self.near_mut().write_config(offset, data);
    }

    /// Memory that is not the machine's, but around it, goes straight to the device: a server maps files.
    fn connect(&mut self, host: Host) {
        if let Self::Elsewhere(Elsewhere { device, shared, .. }) = self {
            let same = ptr::addr_eq(Arc::as_ptr(&host.memory), Arc::as_ptr(shared));
            let mut device = lock(device);
            device.instead = (!same).then(|| host.memory.clone());
            device.connect();
        }
        self.near_mut().connect(host);
    }
    fn set_features(&mut self, negotiated: Features) -> Result<(), BackendError> {
        self.near_mut().set_features(negotiated)
    }
    fn start_queue(&mut self, q: u16, setup: QueueSetup) -> Result<(), BackendError> {
        self.near_mut().start_queue(q, setup)
    }
    fn stop_queue(&mut self, q: u16) -> Result<Option<QueuePosition>, BackendError> {
        self.near_mut().stop_queue(q)
    }
    fn kick(&mut self, q: u16) {
        self.near_mut().kick(q);
    }
    fn reset(&mut self) -> Result<(), BackendError> {
        self.near_mut().reset()
    }
    fn save_state(&mut self) -> Result<Vec<u8>, BackendError> {
        self.near_mut().save_state()
    }
    fn restore_state(&mut self, state: &[u8]) -> Result<(), BackendError> {
        self.near_mut().restore_state(state)
    }
}

/// The device as the server has it.
struct Remote<B> {
    info: DeviceInfo,
    device: Arc<Mutex<Device<B>>>,
}

impl<B> Clone for Remote<B> {
    fn clone(&self) -> Self {
        Self { info: self.info.clone(), device: self.device.clone() }
    }
}

impl<B: Backend> Remote<B> {
    fn with<R>(&self, f: impl FnOnce(&mut B) -> R) -> R {
        f(&mut lock(&self.device).backend)
    }
}

impl<B: Backend> Backend for Remote<B> {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }
    fn features(&self) -> Features {
        self.with(|backend| backend.features())
    }
    fn read_config(&self, offset: usize, out: &mut [u8]) {
        self.with(|backend| backend.read_config(offset, out));
    }
    fn write_config(&mut self, offset: usize, data: &[u8]) {
        self.with(|backend| backend.write_config(offset, data));
    }
    fn connect(&mut self, host: Host) {
        let mut device = lock(&self.device);
        device.host = Some(host);
        device.connect();
    }
    fn set_features(&mut self, negotiated: Features) -> Result<(), BackendError> {
        self.with(|backend| backend.set_features(negotiated))
    }
    /// A record of what is in flight takes memory that is mapped.
    fn start_queue(&mut self, q: u16, mut setup: QueueSetup) -> Result<(), BackendError> {
        let mut device = lock(&self.device);
        if device.instead.is_some() {
            setup.in_flight = None;
        }
        device.backend.start_queue(q, setup)
    }
    fn stop_queue(&mut self, q: u16) -> Result<Option<QueuePosition>, BackendError> {
        self.with(|backend| backend.stop_queue(q))
    }
    fn kick(&mut self, q: u16) {
        self.with(|backend| backend.kick(q));
    }
    fn reset(&mut self) -> Result<(), BackendError> {
        self.with(Backend::reset)
    }
    fn save_state(&mut self) -> Result<Vec<u8>, BackendError> {
        self.with(Backend::save_state)
    }
    fn restore_state(&mut self, state: &[u8]) -> Result<(), BackendError> {
        self.with(|backend| backend.restore_state(state))
    }
}
