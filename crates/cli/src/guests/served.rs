//! A device of ours, served to one guest by a thread of this process.

use super::labs::Model;
use crate::Failure;
use crate::args::Ring;
use crate::labs::failed;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use vioduct_pci::{Counters, PciFunction, Traced};
use vioduct_spec::Features;
use vioduct_vfio_user as vfio_user;
use vioduct_vhost_user as vhost_user;
use vioduct_vhost_user::SharedFiles;
use vioduct_virtio_device::{Backend, Meter, QueueStats, Workers};
use vioduct_virtio_pcidev::{PciDev, SetupError, Tunnel};

/// A server at a socket, until it is dropped.
pub(super) struct Server {
    stop: Box<dyn Fn()>,
    thread: Option<JoinHandle<()>>,
    pub(super) counts: Counts,
}

/// What the device has seen.
#[derive(Clone)]
pub(super) enum Counts {
    Registers(Arc<Counters>),
    /// Of the device of the last client.
    Queue(LastMeter),
    /// Nothing: whoever has the device counts.
    Elsewhere,
    /// What a device of this process has seen whose queues another is to serve.
    Spare(Meter),
}

impl Server {
    /// A plain PCI function over vfio-user.
    pub(super) fn function(socket: &Path, function: impl PciFunction + 'static) -> Result<Self, Failure> {
        let accesses = Arc::<Counters>::default();
        let function = Traced::new(function, accesses.clone());
        let device = vfio_user::Device::registers(function).map_err(failed("serve the device"))?;
        Self::vfio_user(socket, device, Counts::Registers(accesses))
    }

    /// A virtio device, as a virtio-pci function over vfio-user.
    pub(super) fn virtio_pci(socket: &Path, model: Model, ring: Ring) -> Result<Self, Failure> {
        let workers = workers(model, ring);
        let counts = Counts::of(workers.meter());
        let device = vfio_user::Device::virtio(workers).map_err(failed("serve the device"))?;
        Self::vfio_user(socket, device, counts)
    }

    fn vfio_user(socket: &Path, device: vfio_user::Device, counts: Counts) -> Result<Self, Failure> {
        let mut server = vfio_user::Server::bind(socket, device).map_err(failed("serve the device"))?;
        let stopper = server.stopper();
        Self::start(counts, move || stopper.stop(), move || server.run().map_err(|error| error.to_string()))
    }

    /// A plain PCI function in a tunnel over vhost-user, made anew for every client.
    pub(super) fn tunnelled_function<F: PciFunction + 'static>(
        socket: &Path,
        files: SharedFiles,
        function: impl Fn() -> F + Send + Sync + 'static,
    ) -> Result<Self, Failure> {
        let accesses = Arc::<Counters>::default();
        let counts = Counts::Registers(accesses.clone());
        Self::over_vhost_user(socket, files, counts, move || {
            tunnel(PciDev::registers(Traced::new(function(), accesses.clone())))
        })
    }

    /// A virtio device as a virtio-pci function in such a tunnel.
    pub(super) fn tunnelled_virtio(
        socket: &Path,
        files: SharedFiles,
        model: impl Fn() -> Result<Model, Failure> + Send + Sync + 'static,
        ring: Ring,
    ) -> Result<Self, Failure> {
        let meter = LastMeter::default();
        let counts = Counts::Queue(meter.clone());
        let device = move || tunnel(PciDev::virtio(metered(&model, ring, &meter)?));
        Self::over_vhost_user(socket, files, counts, device)
    }

    /// A virtio device over vhost-user, made anew for every client.
    pub(super) fn vhost_user(
        socket: &Path,
        files: SharedFiles,
        model: impl Fn() -> Result<Model, Failure> + Send + Sync + 'static,
        ring: Ring,
    ) -> Result<Self, Failure> {
        let meter = LastMeter::default();
        let counts = Counts::Queue(meter.clone());
        Self::over_vhost_user(socket, files, counts, move || metered(&model, ring, &meter))
    }

    fn over_vhost_user<B: Backend + 'static>(
        socket: &Path,
        shared_files: SharedFiles,
        counts: Counts,
        device: impl Fn() -> Result<B, String> + Send + Sync + 'static,
    ) -> Result<Self, Failure> {
        let limits = vhost_user::Limits { shared_files, ..vhost_user::Limits::default() };
        let server =
            vhost_user::Server::listen(socket).map_err(failed("serve the device"))?.with_limits(limits);
        let stopper = server.stopper();
        Self::start(
            counts,
            move || stopper.stop(),
            move || server.run(device).map_err(|error| error.to_string()),
        )
    }

    fn start(
        counts: Counts,
        stop: impl Fn() + 'static,
        serve: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> Result<Self, Failure> {
        let thread = thread::Builder::new()
            .name("server".to_owned())
            .spawn(move || {
                if let Err(error) = serve() {
                    eprintln!("vioduct: the device's server has ended: {error}");
                }
            })
            .map_err(failed("start a thread"))?;
        Ok(Self { stop: Box::new(stop), thread: Some(thread), counts })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        (self.stop)();
        if let Some(thread) = self.thread.take() {
            // What it had to say it has said.
            let _ = thread.join();
        }
    }
}

impl Counts {
    /// What a device's meter says.
    pub(super) fn of(meter: Meter) -> Self {
        Self::Queue(Arc::new(Mutex::new(Some(meter))))
    }

    /// What the first queue of a virtio device has done.
    pub(super) fn queue(&self) -> Option<QueueStats> {
        match self {
            Self::Registers(_) | Self::Elsewhere | Self::Spare(_) => None,
            Self::Queue(meter) => meter.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.read(0),
        }
    }

    /// Register reads and writes of a plain function.
    pub(super) fn registers(&self) -> Option<(u64, u64)> {
        match self {
            Self::Registers(accesses) => {
                let Counters { bar_reads, bar_writes, .. } = &**accesses;
                Some((bar_reads.load(Ordering::Relaxed), bar_writes.load(Ordering::Relaxed)))
            }
            Self::Queue(_) | Self::Elsewhere | Self::Spare(_) => None,
        }
    }

    /// How many requests a device of this process has served that another was to serve.
    pub(super) fn served_in_vain(&self) -> Option<u64> {
        match self {
            Self::Spare(meter) => meter.read(0).map(|queue| queue.chains),
            Self::Registers(_) | Self::Queue(_) | Self::Elsewhere => None,
        }
    }
}

/// The meter of the device that was made last.
type LastMeter = Arc<Mutex<Option<Meter>>>;

/// A device whose meter is left where it is read.
fn metered(
    model: impl Fn() -> Result<Model, Failure>,
    ring: Ring,
    meter: &LastMeter,
) -> Result<Workers<Model>, String> {
    let workers = workers(model().map_err(Failure::into_message)?, ring);
    *meter.lock().unwrap_or_else(PoisonError::into_inner) = Some(workers.meter());
    Ok(workers)
}

fn tunnel(device: Result<PciDev, SetupError>) -> Result<Tunnel<Workers<PciDev>>, String> {
    Ok(Tunnel::new(device.map_err(|error| error.to_string())?, Workers::new))
}

/// A device's threads, offering the layout that was asked for and not the other.
pub(super) fn workers(model: Model, ring: Ring) -> Workers<Model> {
    Workers::new(model).offering(offer(ring))
}

/// What a device may offer whose queues are to have one layout.
pub(super) fn offer(ring: Ring) -> Features {
    let all = Features::DEVICE_TYPE | Features::RING | Features::RING_RESET;
    match ring {
        Ring::Split => all.without(Features::RING_PACKED),
        Ring::Packed => all,
    }
}
