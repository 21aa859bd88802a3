//! Counts what a guest does to a function, without the function knowing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tracing::trace;

use crate::{
    BusMaster, CapabilityAction, CapabilityTouch, Controls, FunctionHost, FunctionSpec, PciFunction,
    StateError,
};

/// What has reached a [`Traced`] function so far. Accesses to the MSI-X structures and to plain configuration space
/// are served before the function and not counted.
#[derive(Debug, Default)]
pub struct Counters {
    /// Reads of BARs.
    pub bar_reads: AtomicU64,
    /// Writes to BARs.
    pub bar_writes: AtomicU64,
    /// Reads and writes of vendor-specific capabilities.
    pub capability_touches: AtomicU64,
    /// Resets.
    pub resets: AtomicU64,
}

/// A function whose accesses are counted, and logged at trace level.
#[derive(Debug)]
pub struct Traced<F> {
    inner: F,
    counters: Arc<Counters>,
}

impl<F> Traced<F> {
    /// Counts what reaches `inner` in `counters`.
    pub fn new(inner: F, counters: Arc<Counters>) -> Self {
        Self { inner, counters }
    }
}

impl<F: PciFunction> PciFunction for Traced<F> {
    fn spec(&self) -> FunctionSpec {
        self.inner.spec()
    }
    fn attach(&mut self, host: FunctionHost) {
        self.inner.attach(host);
    }
    fn bar_read(&mut self, bar: u8, offset: u64, out: &mut [u8]) {
        self.counters.bar_reads.fetch_add(1, Relaxed);
        self.inner.bar_read(bar, offset, out);
        trace!(bar, offset, ?out, "read");
    }
    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) {
        self.counters.bar_writes.fetch_add(1, Relaxed);
        trace!(bar, offset, ?data, "write");
        self.inner.bar_write(bar, offset, data);
    }
    fn reset(&mut self) {
        self.counters.resets.fetch_add(1, Relaxed);
        self.inner.reset();
    }
    fn bus_master_changed(&mut self, to: BusMaster) {
        self.inner.bus_master_changed(to);
    }
    fn controls_changed(&mut self, to: Controls) {
        self.inner.controls_changed(to);
    }
    fn capability_read(&mut self, touch: CapabilityTouch<'_>) -> CapabilityAction {
        self.counters.capability_touches.fetch_add(1, Relaxed);
        self.inner.capability_read(touch)
    }
    fn capability_write(&mut self, touch: CapabilityTouch<'_>) -> CapabilityAction {
        self.counters.capability_touches.fetch_add(1, Relaxed);
        self.inner.capability_write(touch)
    }
    fn is_saveable(&self) -> bool {
        self.inner.is_saveable()
    }
    fn save(&mut self) -> Result<Vec<u8>, StateError> {
        self.inner.save()
    }
    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        self.inner.restore(state)
    }
}
