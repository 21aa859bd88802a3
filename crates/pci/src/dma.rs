//! Functions that access the guest's memory, as a host needs them that may change what memory there is.

use std::sync::Arc;

use vioduct_virtqueue::{IoAddr, Memory};

use crate::{
    BusMaster, CapabilityAction, CapabilityTouch, Controls, FunctionHost, FunctionSpec, PciFunction,
    StateError,
};

/// A function that accesses memory by itself, or says that it does not ([`RegistersOnly`]).
///
/// Hosts outside of the guest's process map its memory at any time, and must be able to say when it is used no more. So such a
/// host pauses the function, replaces its memory, and resumes it. Whether the driver lets the function access memory
/// ([`bus_master_changed`](PciFunction::bus_master_changed)) is another matter: it does if both allow it.
pub trait DmaFunction: PciFunction {
    /// Stops to use memory: on return no thread of the function's does, until [`resume`](Self::resume). Does nothing if paused.
    fn pause(&mut self);

    /// Gives the memory to use from now on, in exchange for that given before. The function is paused.
    fn replace_memory(&mut self, memory: Arc<dyn Memory>);

    /// Undoes [`pause`](Self::pause).
    fn resume(&mut self);

    /// Where it reaches for memory whatever it is asked: a virtio device's rings, for instance. A host that knows that some of
    /// it is about to be mapped again does not resume the function before.
    fn standing_addresses(&self) -> Vec<IoAddr> {
        Vec::new()
    }
}

/// A function that uses no memory: registers, and nothing else.
#[derive(Debug)]
pub struct RegistersOnly<F>(pub F);

impl<F: PciFunction> DmaFunction for RegistersOnly<F> {
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
    fn controls_changed(&mut self, to: Controls) {
        self.0.controls_changed(to);
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
