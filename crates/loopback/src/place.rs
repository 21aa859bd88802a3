//! Where a device sits in the machine, and the way to its [`Endpoint`] from there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vioduct_pci::{Hosted, Slot};
use vioduct_virtio_device::{Backend, Endpoint};
use vioduct_virtio_mmio::Mmio;
use vioduct_virtio_pci::VirtioPci;

pub(crate) enum Place<B: Backend> {
    Verbs(Arc<Mutex<Endpoint<B>>>),
    Mmio { window: Arc<Mutex<Mmio<B>>>, address: u64 },
    Pci { function: Arc<Mutex<Hosted<VirtioPci<B>>>>, slot: Slot },
}

impl<B: Backend> Place<B> {
    pub(crate) fn with_endpoint<R>(&self, f: impl FnOnce(&mut Endpoint<B>) -> R) -> R {
        match self {
            Self::Verbs(endpoint) => f(&mut lock(endpoint)),
            Self::Mmio { window, .. } => f(lock(window).endpoint_mut()),
            Self::Pci { function, .. } => f(lock(function).function_mut().endpoint_mut()),
        }
    }

    pub(crate) fn pause(&self) {
        match self {
            Self::Verbs(_) | Self::Mmio { .. } => self.with_endpoint(Endpoint::pause),
            Self::Pci { function, .. } => lock(function).function_mut().pause(),
        }
    }

    pub(crate) fn resume(&self) {
        match self {
            Self::Verbs(_) | Self::Mmio { .. } => self.with_endpoint(Endpoint::resume),
            Self::Pci { function, .. } => lock(function).function_mut().resume(),
        }
    }
}

/// A device that panicked on another thread is still there for its driver; the test that caused it has failed already.
pub(crate) fn lock<T: ?Sized>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
