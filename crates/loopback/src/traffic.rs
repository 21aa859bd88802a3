//! What crosses between driver and device: counted always, and listed on request.

use std::ops::Sub;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use vioduct_virtio_driver::{FunctionAddress, Width};

/// One thing that crossed. In a virtual machine each register or configuration access is a trap into the monitor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crossing {
    /// The driver read a register.
    RegisterRead {
        /// Guest-physical address.
        address: u64,
        /// Width of the access.
        width: Width,
        /// What the device answered.
        value: u64,
    },
    /// The driver wrote a register.
    RegisterWrite {
        /// Guest-physical address.
        address: u64,
        /// Width of the access.
        width: Width,
        /// What the driver wrote.
        value: u64,
    },
    /// The driver read PCI configuration space.
    ConfigRead {
        /// Which function.
        at: FunctionAddress,
        /// Offset in bytes.
        offset: u16,
        /// What was answered.
        value: u32,
    },
    /// The driver wrote PCI configuration space.
    ConfigWrite {
        /// Which function.
        at: FunctionAddress,
        /// Offset in bytes.
        offset: u16,
        /// What the driver wrote.
        value: u32,
    },
    /// The driver notified a queue: over registers, a register write follows.
    Doorbell {
        /// The queue.
        queue: u16,
    },
    /// The device interrupted the driver.
    Interrupt(InterruptKind),
}

/// How a device interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InterruptKind {
    /// By an MSI-X message.
    Message {
        /// What the driver put into the message: the vector, if it used the machine's messages.
        vector: u16,
    },
    /// By a message that the driver programmed to go elsewhere than to the interrupt controller.
    Lost,
    /// By a line that went from low to high.
    Line,
    /// By a call, where there are no registers: a queue has used buffers.
    Queue(u16),
    /// By a call, where there are no registers: configuration or status have changed.
    Config,
}

/// How often each kind of thing has crossed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Reads of device registers.
    pub register_reads: u64,
    /// Writes of device registers, doorbells included.
    pub register_writes: u64,
    /// Reads of PCI configuration space.
    pub config_reads: u64,
    /// Writes of PCI configuration space.
    pub config_writes: u64,
    /// Available-buffer notifications.
    pub doorbells: u64,
    /// MSI-X messages, lines that were raised, or calls where there are no registers.
    pub interrupts: u64,
}

impl Traffic {
    /// Accesses that a virtual machine would trap: registers and configuration space.
    #[must_use]
    pub const fn traps(&self) -> u64 {
        self.register_reads + self.register_writes + self.config_reads + self.config_writes
    }
}

impl Sub for Traffic {
    type Output = Self;

    /// What has crossed since `earlier`.
    fn sub(self, earlier: Self) -> Self {
        Self {
            register_reads: self.register_reads.saturating_sub(earlier.register_reads),
            register_writes: self.register_writes.saturating_sub(earlier.register_writes),
            config_reads: self.config_reads.saturating_sub(earlier.config_reads),
            config_writes: self.config_writes.saturating_sub(earlier.config_writes),
            doorbells: self.doorbells.saturating_sub(earlier.doorbells),
            interrupts: self.interrupts.saturating_sub(earlier.interrupts),
        }
    }
}

/// Counts crossings, and lists them while it is asked to.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    register_reads: AtomicU64,
    register_writes: AtomicU64,
    config_reads: AtomicU64,
    config_writes: AtomicU64,
    doorbells: AtomicU64,
    interrupts: AtomicU64,
    trace: Mutex<Option<Vec<Crossing>>>,
}

impl Recorder {
    /// A trace ends here: a device that interrupts without end must not take all memory.
    const TRACE_LIMIT: usize = 1 << 20;

    pub(crate) fn record(&self, crossing: Crossing) {
        self.counter(crossing).fetch_add(1, Ordering::AcqRel);
        if let Some(trace) = self.trace().as_mut().filter(|trace| trace.len() < Self::TRACE_LIMIT) {
            trace.push(crossing);
        }
    }

    pub(crate) fn traffic(&self) -> Traffic {
        let read = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        Traffic {
            register_reads: read(&self.register_reads),
            register_writes: read(&self.register_writes),
            config_reads: read(&self.config_reads),
            config_writes: read(&self.config_writes),
            doorbells: read(&self.doorbells),
            interrupts: read(&self.interrupts),
        }
    }

    pub(crate) fn reset(&self) {
        let Self {
            register_reads,
            register_writes,
            config_reads,
            config_writes,
            doorbells,
            interrupts,
            trace: _,
        } = self;
        for counter in [register_reads, register_writes, config_reads, config_writes, doorbells, interrupts] {
            counter.store(0, Ordering::Release);
        }
    }

    pub(crate) fn start_trace(&self) {
        *self.trace() = Some(Vec::new());
    }

    pub(crate) fn take_trace(&self) -> Vec<Crossing> {
        self.trace().take().unwrap_or_default()
    }

    fn counter(&self, crossing: Crossing) -> &AtomicU64 {
        match crossing {
            Crossing::RegisterRead { .. } => &self.register_reads,
            Crossing::RegisterWrite { .. } => &self.register_writes,
            Crossing::ConfigRead { .. } => &self.config_reads,
            Crossing::ConfigWrite { .. } => &self.config_writes,
            Crossing::Doorbell { .. } => &self.doorbells,
            Crossing::Interrupt(_) => &self.interrupts,
        }
    }

    fn trace(&self) -> MutexGuard<'_, Option<Vec<Crossing>>> {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
