//! What the labs share: the machine that they run on, and how costs are measured.

use super::Setup;
use crate::Failure;
use crate::args::{Ring, Transport};
use crate::report::{Cost, percentiles};
use std::fmt::Display;
use std::time::{Duration, Instant};
use vioduct_loopback::{Depth, Machine};
use vioduct_spec::Features;

/// Guest memory of a lab's machine.
const MEMORY_BYTES: usize = 16 << 20;
/// Operations by which costs are measured.
const OPERATIONS: u64 = 10_000;
/// The batches that are compared.
pub(super) const BATCHES: [u64; 2] = [1, 64];

/// A failure of a lab, by what was tried.
pub(crate) fn failed<E: Display>(action: &str) -> impl FnOnce(E) -> Failure + '_ {
    move |error| Failure::Failed(format!("{action}: {error}"))
}

/// A batch that was not answered as it should be.
pub(super) fn wrong_replies(right: u64, count: u64) -> Failure {
    Failure::Failed(format!("{right} of {count} replies of a batch were right"))
}

/// A machine to run a lab on.
pub(super) fn machine() -> Result<Machine, Failure> {
    Machine::new(MEMORY_BYTES).map_err(failed("set up the loopback machine"))
}

/// How deep the device is attached.
pub(super) fn depth(setup: &Setup) -> Depth {
    match setup.transport {
        Transport::Mmio => Depth::Mmio,
        Transport::Pci => Depth::Pci,
    }
}

/// What the device offers: all that its type has, and of the layouts the one asked for.
pub(super) fn offer(setup: &Setup) -> Features {
    let both = Features::INDIRECT_DESC | Features::EVENT_IDX | Features::RING_RESET | Features::DEVICE_TYPE;
    match setup.ring {
        Ring::Split => both,
        Ring::Packed => both | Features::RING_PACKED,
    }
}

/// Ten thousand operations done one way.
pub(super) struct Job<'j> {
    pub(super) machine: &'j Machine,
    pub(super) way: String,
    /// Operations that are submitted together.
    pub(super) batch: u64,
    pub(super) bytes_per_operation: u64,
}

impl Job<'_> {
    /// Measures `operate`, which is called with the number of the first operation of a batch and how many there are.
    pub(super) fn measure(
        self,
        mut operate: impl FnMut(u64, u64) -> Result<(), Failure>,
    ) -> Result<Cost, Failure> {
        // Once without the clock, so that caches and pools are as they will be.
        operate(0, self.batch)?;
        let mut samples: Vec<Duration> = Vec::with_capacity(OPERATIONS as usize);
        let before = self.machine.traffic();
        let start = Instant::now();
        let mut done = 0;
        while done < OPERATIONS {
            let count = self.batch.min(OPERATIONS - done);
            let submitted = Instant::now();
            operate(done, count)?;
            let took = submitted.elapsed();
            samples.extend((0..count).map(|_| took));
            done += count;
        }
        let total = start.elapsed();
        let traffic = self.machine.traffic() - before;
        let (median_ns, p99_ns) = percentiles(&mut samples);
        Ok(Cost {
            way: self.way,
            operations: done,
            batch: self.batch,
            register_reads: Some(traffic.register_reads),
            register_writes: Some(traffic.register_writes),
            doorbells: Some(traffic.doorbells),
            interrupts: Some(traffic.interrupts),
            bytes_moved: done * self.bytes_per_operation,
            copies: None,
            median_ns: Some(median_ns),
            p99_ns: Some(p99_ns),
            per_operation_ns: Some(u64::try_from(total.as_nanos()).unwrap_or(u64::MAX) / done.max(1)),
            host_instructions_per_operation: None,
            carried: None,
        })
    }
}
