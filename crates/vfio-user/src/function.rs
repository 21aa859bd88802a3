//! What a server asks of a function beside [`PciFunction`]: to let go of memory while that changes, and for doorbells.

use std::sync::Arc;
use vioduct_pci::{
    BusMaster, CapabilityAction, CapabilityTouch, FunctionHost, FunctionSpec, PciFunction, StateError,
};
use vioduct_virtio_device::{Backend, EventFd};
use vioduct_virtio_pci::VirtioPci;
use vioduct_virtqueue::Memory;

pub use vioduct_virtio_pci::Doorbell;

/// A function that a vfio-user server can carry.
///
/// A client maps and unmaps memory at any time, and is told that unmapped memory is not used any more. So the server pauses the
/// function, replaces its memory, and resumes it.
pub trait Served: PciFunction {
    /// Stops to use memory: on return no thread of the function's does, until [`resume`](Self::resume). Does nothing if paused.
    fn pause(&mut self);

    /// Gives the memory to use from now on, in exchange for that given before. The function is paused.
    fn replace_memory(&mut self, memory: Arc<dyn Memory>);

    /// Undoes [`pause`](Self::pause).
    fn resume(&mut self);

    /// Places of a BAR that a client may signal by an eventfd instead of a message, in any order.
    fn doorbells(&self) -> Vec<Doorbell> {
        Vec::new()
    }

    /// Takes an eventfd that stands for a doorbell: `index` counts in [`doorbells`](Self::doorbells). The function is paused.
    /// Messages go on to work.
    fn set_doorbell(&mut self, _index: usize, _kick: Arc<EventFd>) {}
}

impl<B: Backend> Served for VirtioPci<B> {
    fn pause(&mut self) {
        self.pause();
    }

    fn replace_memory(&mut self, memory: Arc<dyn Memory>) {
        self.endpoint_mut().replace_memory(memory);
    }

    fn resume(&mut self) {
        self.resume();
    }

    fn doorbells(&self) -> Vec<Doorbell> {
        (0..self.endpoint().queue_count()).filter_map(|q| self.doorbell(q)).collect()
    }

    fn set_doorbell(&mut self, index: usize, kick: Arc<EventFd>) {
        if let Ok(q) = u16::try_from(index) {
            self.endpoint_mut().set_queue_kick(q, Some(kick));
        }
    }
}

/// A function that uses no memory: registers, and nothing else.
#[derive(Debug)]
pub(crate) struct RegistersOnly<F>(pub(crate) F);

impl<F: PciFunction> Served for RegistersOnly<F> {
    fn pause(&mut self) {}
    fn replace_memory(&mut self, _memory: Arc<dyn Memory>) {}
    fn resume(&mut self) {}
}

impl<F: PciFunction> PciFunction for RegistersOnly<F> {
    fn spec(&self) -> FunctionSpec {
        self.0.spec()
    }
    fn attach(&mut self, host: FunctionHost) {
        self.0.attach(host);
    }
    fn bar_read(&mut self, bar: u8, offset: u64, out: &mut [u8]) {
        self.0.bar_read(bar, offset, out);
    }
    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) {
        self.0.bar_write(bar, offset, data);
    }
    fn reset(&mut self) {
        self.0.reset();
    }
    fn bus_master_changed(&mut self, to: BusMaster) {
        self.0.bus_master_changed(to);
    }
    fn capability_read(&mut self, touch: CapabilityTouch<'_>) -> CapabilityAction {
        self.0.capability_read(touch)
    }
    fn capability_write(&mut self, touch: CapabilityTouch<'_>) -> CapabilityAction {
        self.0.capability_write(touch)
    }
    fn is_saveable(&self) -> bool {
        self.0.is_saveable()
    }
    fn save(&mut self) -> Result<Vec<u8>, StateError> {
        self.0.save()
    }
    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        self.0.restore(state)
    }
}
