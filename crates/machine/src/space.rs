//! Physical addresses and ports that trap, and what is behind each.

use crate::error::MachineError;
use crate::layout::{ACPI_REGISTERS, ECAM, MMIO_STRIDE, MMIO_WINDOWS};
use crate::legacy::{MachineEvent, PortDevice, PowerRegisters};
use crate::plug::Plug;
use crate::ports::Ports;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use vioduct_pci::{Bus, Claim, ConfigEffect, Slot};
use vioduct_virtio_device::{Backend, RateLimit};
use vioduct_virtio_mmio::Mmio;

/// Bytes of configuration space of one function, in ECAM.
const ECAM_FUNCTION_LEN: u64 = 0x1000;

/// A virtio-mmio window, whatever is behind it.
pub(crate) trait Window: Send {
    fn read(&mut self, offset: u64, out: &mut [u8]);
    fn write(&mut self, offset: u64, data: &[u8]);
}

impl<B: Backend> Window for Mmio<B> {
    fn read(&mut self, offset: u64, out: &mut [u8]) {
        self.read(offset, out);
    }
    fn write(&mut self, offset: u64, data: &[u8]) {
        self.write(offset, data);
    }
}

/// A window on the machine, and what has reached it.
pub(crate) struct Mapped {
    /// What the command line calls it.
    pub(crate) name: &'static str,
    pub(crate) window: Mutex<Box<dyn Window>>,
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
}

impl Mapped {
    pub(crate) fn new(name: &'static str, window: impl Window + 'static) -> Self {
        let window: Box<dyn Window> = Box::new(window);
        Self { name, window: Mutex::new(window), reads: AtomicU64::new(0), writes: AtomicU64::new(0) }
    }
}

/// Everything that a guest reaches by an exit.
pub(crate) struct Space {
    pub(crate) bus: Bus,
    pub(crate) plugs: Mutex<BTreeMap<Slot, Plug>>,
    pub(crate) windows: Vec<Mapped>,
    pub(crate) ports: Mutex<Ports>,
    pub(crate) log: RateLimit,
}

/// What an address belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Ecam(u64),
    /// Number of the window, and offset in it.
    Window(usize, u64),
    Power(u16),
    Bus,
}

impl Place {
    fn of(address: u64) -> Self {
        let within = |range: Range<u64>| range.contains(&address).then(|| address - range.start);
        if let Some(offset) = within(ECAM) {
            return Self::Ecam(offset);
        }
        if let Some(offset) = within(ACPI_REGISTERS) {
            return Self::Power(offset as u16);
        }
        match within(MMIO_WINDOWS..ACPI_REGISTERS.start) {
            Some(offset) => Self::Window((offset / MMIO_STRIDE) as usize, offset % MMIO_STRIDE),
            None => Self::Bus,
        }
    }
}

impl Space {
    /// The guest reads memory that is none. What nobody has reads as all ones.
    pub(crate) fn read(&self, address: u64, out: &mut [u8]) {
        out.fill(0xff);
        match Place::of(address) {
            Place::Ecam(offset) => self.bus.ecam_read(offset, out),
            Place::Window(index, offset) => {
                if let Some(mapped) = self.windows.get(index) {
                    mapped.reads.fetch_add(1, Ordering::Relaxed);
                    lock(&mapped.window).read(offset, out);
                }
            }
            Place::Power(offset) => PowerRegisters.read(offset, out),
            Place::Bus => {
                if self.bus.mmio_read(address, out) == Claim::Unclaimed {
                    tracing::debug!(address, "a read of nothing");
                }
            }
        }
    }

    /// The guest writes memory that is none.
    pub(crate) fn write(&self, address: u64, data: &[u8]) -> Option<MachineEvent> {
        match Place::of(address) {
            Place::Ecam(offset) => self.configure(offset, data),
            Place::Window(index, offset) => {
                if let Some(mapped) = self.windows.get(index) {
                    mapped.writes.fetch_add(1, Ordering::Relaxed);
                    lock(&mapped.window).write(offset, data);
                }
            }
            Place::Power(offset) => return PowerRegisters.write(offset, data),
            Place::Bus => {
                if self.bus.mmio_write(address, data) == Claim::Unclaimed {
                    tracing::debug!(address, "a write to nothing");
                }
            }
        }
        None
    }

    pub(crate) fn port_read(&self, port: u16, out: &mut [u8]) {
        out.fill(0xff);
        lock(&self.ports).read(port, out);
    }

    pub(crate) fn port_write(&self, port: u16, data: &[u8]) -> Option<MachineEvent> {
        lock(&self.ports).write(port, data)
    }

    /// Writes configuration space; doorbells follow their BARs.
    fn configure(&self, offset: u64, data: &[u8]) {
        let effects = self.bus.ecam_write(offset, data);
        if effects.is_empty() {
            return;
        }
        let function = offset - offset % ECAM_FUNCTION_LEN;
        let slot = self.bus.slots().into_iter().find(|slot| slot.ecam_offset() == function);
        let mut plugs = lock(&self.plugs);
        let Some(plug) = slot.and_then(|slot| plugs.get_mut(&slot)) else { return };
        for effect in effects {
            if let ConfigEffect::BarMoved { bar, to, .. } = effect
                && let Err(error) = plug.hang_doorbells(bar, to)
            {
                self.report(&error);
            }
        }
    }

    /// A doorbell that KVM does not take traps: slower, and otherwise the same.
    fn report(&self, error: &MachineError) {
        if let Some(suppressed) = self.log.admit() {
            tracing::warn!(suppressed, "doorbells trap: {error}");
        }
    }
}

/// What a panicking processor left is what its guest sees: nothing here is half done between two calls.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::Place;
    use crate::layout::{ACPI_REGISTERS, ECAM, MMIO_STRIDE, MMIO_WINDOWS};

    #[test]
    fn addresses_belong_to_one_place_each() {
        for (address, place) in [
            (ECAM.start, Place::Ecam(0)),
            (ECAM.end - 1, Place::Ecam(0xf_ffff)),
            (ECAM.end, Place::Bus),
            (MMIO_WINDOWS, Place::Window(0, 0)),
            (MMIO_WINDOWS + MMIO_STRIDE + 0x50, Place::Window(1, 0x50)),
            (ACPI_REGISTERS.start + 1, Place::Power(1)),
            (0xc000_0000, Place::Bus),
            (u64::MAX, Place::Bus),
        ] {
            assert_eq!(Place::of(address), place, "{address:#x}");
        }
    }
}
