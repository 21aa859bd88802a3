//! What a server asks of a function beside [`DmaFunction`]: doorbells.

use std::sync::Arc;
use vioduct_pci::{DmaFunction, PciFunction, RegistersOnly};
use vioduct_virtio_device::{Backend, EventFd};
use vioduct_virtio_pci::VirtioPci;

pub use vioduct_virtio_pci::Doorbell;

/// A function that a vfio-user server can carry.
///
/// A client maps and unmaps memory at any time, and is told that unmapped memory is not used any more. So the server pauses the
/// function, replaces its memory, and resumes it.
pub trait Served: DmaFunction {
    /// Places of a BAR that a client may signal by an eventfd instead of a message, in any order.
    fn doorbells(&self) -> Vec<Doorbell> {
        Vec::new()
    }

    /// Takes an eventfd that stands for a doorbell: `index` counts in [`doorbells`](Self::doorbells). The function is paused.
    /// Messages go on to work.
    fn set_doorbell(&mut self, _index: usize, _kick: Arc<EventFd>) {}
}

impl<B: Backend> Served for VirtioPci<B> {
    fn doorbells(&self) -> Vec<Doorbell> {
        (0..self.endpoint().queue_count()).filter_map(|q| self.doorbell(q)).collect()
    }

    fn set_doorbell(&mut self, index: usize, kick: Arc<EventFd>) {
        if let Ok(q) = u16::try_from(index) {
            self.endpoint_mut().set_queue_kick(q, Some(kick));
        }
    }
}

impl<F: PciFunction> Served for RegistersOnly<F> {}
