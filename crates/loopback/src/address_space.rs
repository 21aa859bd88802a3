//! The guest's physical addresses beside memory: virtio-mmio windows and the BARs of PCI functions, reached through
//! [`Window`]; and configuration space, through [`GuestConfig`]. Every access is counted.

use std::fmt;
use std::sync::{Arc, Mutex, RwLock};

use vioduct_pci::{Apertures, Bus, Claim, Slot};
use vioduct_spec::mmio;
use vioduct_virtio_device::Backend;
use vioduct_virtio_driver::{ConfigAccess, FunctionAddress, RegisterWindow, Width};
use vioduct_virtio_mmio::Mmio;

use crate::place::lock;
use crate::traffic::{Crossing, Recorder};

/// The first virtio-mmio window.
const MMIO_START: u64 = 0xd000_0000;
/// How many windows there is room for.
pub(crate) const MMIO_WINDOWS: usize = 4096;
/// Where BARs are put.
pub(crate) const APERTURES: Apertures = Apertures {
    memory32: 0xe000_0000..0xf000_0000,
    memory64: 0x40_0000_0000..0x80_0000_0000,
    io: 0x1000..0x1_0000,
};

/// Registers at offsets.
trait Registers: Send + Sync {
    fn read(&self, offset: u64, out: &mut [u8]);
    fn write(&self, offset: u64, data: &[u8]);
}

impl<B: Backend> Registers for Mutex<Mmio<B>> {
    fn read(&self, offset: u64, out: &mut [u8]) {
        lock(self).read(offset, out);
    }
    fn write(&self, offset: u64, data: &[u8]) {
        lock(self).write(offset, data);
    }
}

/// What answers at which address.
pub(crate) struct AddressSpace {
    pub(crate) bus: Bus,
    mmio: RwLock<Vec<Arc<dyn Registers>>>,
    recorder: Arc<Recorder>,
}

impl AddressSpace {
    pub(crate) fn new(recorder: Arc<Recorder>) -> Self {
        Self { bus: Bus::new(), mmio: RwLock::default(), recorder }
    }

    /// Puts a window at the next free place; where that is, or `None` if there is none.
    pub(crate) fn add_mmio<B: Backend + 'static>(&self, window: Arc<Mutex<Mmio<B>>>) -> Option<u64> {
        let mut windows = self.mmio.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let place = windows.len();
        (place < MMIO_WINDOWS).then(|| windows.push(window))?;
        Some(MMIO_START + place as u64 * mmio::WINDOW_LEN)
    }

    fn read(&self, address: u64, width: Width) -> u64 {
        let mut bytes = [0; 8];
        let out = &mut bytes[..width.bytes()];
        match self.mmio_at(address) {
            Some((window, offset)) => window.read(offset, out),
            None => _ = self.bus.mmio_read(address, out),
        }
        let value = u64::from_le_bytes(bytes);
        self.recorder.record(Crossing::RegisterRead { address, width, value });
        value
    }

    fn write(&self, address: u64, width: Width, value: u64) {
        self.recorder.record(Crossing::RegisterWrite { address, width, value });
        let data = &value.to_le_bytes()[..width.bytes()];
        match self.mmio_at(address) {
            Some((window, offset)) => window.write(offset, data),
            None => {
                let (Claim::Claimed | Claim::Unclaimed) = self.bus.mmio_write(address, data);
            }
        }
    }

    fn mmio_at(&self, address: u64) -> Option<(Arc<dyn Registers>, u64)> {
        let offset = address.checked_sub(MMIO_START)?;
        let place = usize::try_from(offset / mmio::WINDOW_LEN).ok()?;
        let windows = self.mmio.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        Some((windows.get(place)?.clone(), offset % mmio::WINDOW_LEN))
    }
}

/// A range of the guest's physical addresses that a driver has mapped. Where no device answers, reads give all ones.
#[derive(Clone)]
pub struct Window {
    space: Arc<AddressSpace>,
    start: u64,
    len: u64,
}

impl Window {
    pub(crate) fn new(space: Arc<AddressSpace>, start: u64, len: u64) -> Self {
        Self { space, start, len }
    }

    fn at(&self, offset: u64, width: Width) -> Option<u64> {
        let end = offset.checked_add(width.bytes() as u64)?;
        (end <= self.len).then_some(self.start.checked_add(offset)?)
    }
}

impl RegisterWindow for Window {
    fn window_len(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, width: Width) -> u64 {
        self.at(offset, width).map_or(width.ones(), |address| self.space.read(address, width))
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        if let Some(address) = self.at(offset, width) {
            self.space.write(address, width, value);
        }
    }
}

/// Configuration space of the machine's PCI bus, as its drivers reach it.
#[derive(Clone)]
pub struct GuestConfig {
    space: Arc<AddressSpace>,
}

impl GuestConfig {
    pub(crate) fn new(space: Arc<AddressSpace>) -> Self {
        Self { space }
    }
}

/// Where a register is in the bus's ECAM window; the machine has bus 0 only.
fn ecam_offset(at: FunctionAddress, offset: u16) -> Option<u64> {
    let slot = Slot::new(at.device(), at.function()).ok()?;
    (at.bus() == 0).then_some(slot.ecam_offset() + u64::from(offset))
}

impl ConfigAccess for GuestConfig {
    fn read(&self, at: FunctionAddress, offset: u16, width: Width) -> u32 {
        let mut bytes = [0; 4];
        let out = &mut bytes[..width.bytes().min(4)];
        match ecam_offset(at, offset) {
            Some(offset) => self.space.bus.ecam_read(offset, out),
            None => out.fill(0xff),
        }
        let value = u32::from_le_bytes(bytes);
        self.space.recorder.record(Crossing::ConfigRead { at, offset, value });
        value
    }

    fn write(&self, at: FunctionAddress, offset: u16, width: Width, value: u32) {
        self.space.recorder.record(Crossing::ConfigWrite { at, offset, value });
        if let Some(offset) = ecam_offset(at, offset) {
            self.space.bus.ecam_write(offset, &value.to_le_bytes()[..width.bytes().min(4)]);
        }
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window({:#x}, {:#x} bytes)", self.start, self.len)
    }
}
