//! Interrupts: which vector each event is mapped to, the ISR, and INTx.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use vioduct_pci::{Interrupts, Level};
use vioduct_spec::mmio::{INTERRUPT_CONFIG, INTERRUPT_QUEUE};
use vioduct_spec::pci::NO_VECTOR;
use vioduct_state::{LoadError, Reader};
use vioduct_virtio_device::TransportInterrupts;

/// What any thread needs to notify the driver. With MSI-X, a queue's notification takes no lock of this object.
#[derive(Debug)]
pub(crate) struct Lines {
    /// There once the function is hosted.
    interrupts: OnceLock<Interrupts>,
    vectors: u16,
    config: AtomicU16,
    queues: Vec<AtomicU16>,
    /// The pin follows it under this lock, so that no bit is left set with the pin deasserted.
    isr: Mutex<u8>,
}

/// What driver and device have made of the lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Events {
    pub(crate) config: u16,
    /// Of each queue.
    pub(crate) queues: Vec<u16>,
    pub(crate) isr: u8,
}

impl Events {
    /// What was written of a function with as many queues, with vectors that there are.
    pub(crate) fn read(reader: &mut Reader<'_>, lines: &Lines) -> Result<Self, LoadError> {
        let config = reader.u16()?;
        let (vectors, rest) = reader.bytes()?.as_chunks();
        let queues: Vec<_> = vectors.iter().map(|vector| u16::from_le_bytes(*vector)).collect();
        let isr = reader.u8()?;
        if queues.len() != lines.queues.len() || !rest.is_empty() {
            let (saved, own) = (queues.len(), lines.queues.len());
            return Err(LoadError::OtherDevice(format!("it has {saved} queues, this one {own}")));
        }
        let there = |vector: &u16| lines.allocated(*vector) == *vector;
        if !queues.iter().all(there) || !there(&config) {
            return Err(LoadError::Value("an event is mapped to a vector that there is not"));
        }
        if isr & !(INTERRUPT_QUEUE | INTERRUPT_CONFIG) != 0 {
            return Err(LoadError::Value("the ISR has bits that there are not"));
        }
        Ok(Self { config, queues, isr })
    }
}

impl Lines {
    pub(crate) fn new(vectors: u16, queues: u16) -> Self {
        let unmapped = || AtomicU16::new(NO_VECTOR);
        Self {
            interrupts: OnceLock::new(),
            vectors,
            config: unmapped(),
            queues: (0..queues).map(|_| unmapped()).collect(),
            isr: Mutex::new(0),
        }
    }

    pub(crate) fn attach(&self, interrupts: Interrupts) {
        // A host attaches a function once.
        let _ = self.interrupts.set(interrupts);
    }

    /// virtio 1.3 §4.1.5.1.2.1: all events are unmapped.
    pub(crate) fn reset(&self) {
        let Self { interrupts: _, vectors: _, config, queues, isr: _ } = self;
        config.store(NO_VECTOR, Ordering::Relaxed);
        queues.iter().for_each(|vector| vector.store(NO_VECTOR, Ordering::Relaxed));
        self.take_isr();
    }

    /// What is in force, for another function's lines.
    pub(crate) fn save(&self) -> Events {
        let Self { interrupts: _, vectors: _, config, queues, isr: _ } = self;
        let vector = |mapped: &AtomicU16| mapped.load(Ordering::Relaxed);
        Events { config: vector(config), queues: queues.iter().map(vector).collect(), isr: *self.isr() }
    }

    /// Takes over what [`Events::read`] has found to be of lines like these; the pin follows.
    pub(crate) fn restore(&self, saved: &Events) {
        let Events { config, queues, isr } = saved;
        self.map_config(*config);
        for (q, vector) in (0..=u16::MAX).zip(queues) {
            self.map_queue(q, *vector);
        }
        let mut held = self.isr();
        *held = *isr;
        self.drive(&held);
    }

    pub(crate) fn config_vector(&self) -> u16 {
        self.config.load(Ordering::Relaxed)
    }

    pub(crate) fn map_config(&self, vector: u16) {
        self.config.store(self.allocated(vector), Ordering::Relaxed);
    }

    /// The vector of queue `q`; [`NO_VECTOR`] if it is unmapped, or there is no such queue.
    pub(crate) fn queue_vector(&self, q: u16) -> u16 {
        self.queues.get(usize::from(q)).map_or(NO_VECTOR, |vector| vector.load(Ordering::Relaxed))
    }

    pub(crate) fn map_queue(&self, q: u16, vector: u16) {
        if let Some(mapped) = self.queues.get(usize::from(q)) {
            mapped.store(self.allocated(vector), Ordering::Relaxed);
        }
    }

    /// virtio 1.3 §4.1.4.5.1: reading the ISR resets it, which deasserts the interrupt.
    pub(crate) fn take_isr(&self) -> u8 {
        let mut isr = self.isr();
        let was = std::mem::take(&mut *isr);
        self.drive(&isr);
        was
    }

    /// virtio 1.3 §4.1.5.1.2.1: a mapping that fails reads as NO_VECTOR. It fails for vectors beyond the table only.
    fn allocated(&self, vector: u16) -> u16 {
        if vector < self.vectors { vector } else { NO_VECTOR }
    }

    fn set_isr(&self, bit: u8) {
        let mut isr = self.isr();
        *isr |= bit;
        self.drive(&isr);
    }

    /// virtio 1.3 §4.1.4.5.1: interrupt status and pin are the logical OR of the ISR's bits. That they stay silent while
    /// MSI-X is on is the PCI side's affair. The lock is held, or a signal between a read and its deassertion is lost.
    fn drive(&self, isr: &MutexGuard<'_, u8>) {
        let level = if **isr == 0 { Level::Deasserted } else { Level::Asserted };
        if let Some(interrupts) = self.interrupts.get() {
            interrupts.intx(level);
        }
    }

    /// No code that holds the lock can leave the ISR half changed.
    fn isr(&self) -> MutexGuard<'_, u8> {
        self.isr.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The interrupts while MSI-X is on.
    fn msix(&self) -> Option<&Interrupts> {
        self.interrupts.get().filter(|interrupts| interrupts.msix_enabled())
    }
}

impl TransportInterrupts for Lines {
    /// virtio 1.3 §4.1.5.3.1: with MSI-X, an unmapped queue interrupts nobody: there is no vector `NO_VECTOR`.
    fn queue(&self, q: u16) {
        match self.msix() {
            Some(interrupts) => interrupts.msix(self.queue_vector(q)),
            None => self.set_isr(INTERRUPT_QUEUE),
        }
    }

    fn queue_eventfd(&self, q: u16) -> Option<BorrowedFd<'_>> {
        let vector = Some(self.queue_vector(q)).filter(|vector| *vector != NO_VECTOR)?;
        self.msix()?.eventfd(vector)
    }

    /// virtio 1.3 §4.1.4.5.1: the ISR's bit for this is set before the notification, whichever way that goes.
    fn config(&self) {
        self.set_isr(INTERRUPT_CONFIG);
        if let Some(interrupts) = self.msix() {
            interrupts.msix(self.config_vector());
        }
    }
}
