//! Bus 0 of a machine: functions in slots, configuration space through ECAM, BARs through an address decoder.
//!
//! Locks: each function has its own; the tables of slots and decoded addresses are behind one `RwLock` that is held
//! only to look something up, so two virtual CPUs contend only when they use the same function. A function's lock may
//! be held while the tables are changed, never the other way round. A function must not reach its own bus from inside
//! an access: DMA goes to memory, not to BARs.

mod assign;
mod slot;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use assign::Apertures;
pub use slot::Slot;

use crate::{BarKind, ConfigEffect, Hosted, PciFunction, SetupError, SharedFunction};

/// Configuration space of one function in ECAM, in bytes (PCI Express 5.0 §7.2.2).
const ECAM_FUNCTION_LEN: u64 = 1 << 12;

/// Whether an address belongs to a function on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Claim {
    /// A BAR is decoded there and the function was accessed.
    Claimed,
    /// No BAR is decoded there. A read has filled its buffer with ones.
    Unclaimed,
}

/// One PCI bus, number 0, of up to 32 devices with 8 functions each.
#[derive(Default)]
pub struct Bus {
    tables: RwLock<Tables>,
}

#[derive(Default)]
struct Tables {
    functions: BTreeMap<Slot, SharedFunction>,
    /// Sorted by slot and BAR. Where windows overlap, which is a mistake of the guest's, the first one wins.
    windows: Vec<Window>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Space {
    Memory,
    Io,
}

/// A BAR where it is decoded.
struct Window {
    slot: Slot,
    bar: u8,
    space: Space,
    at: Range<u64>,
    function: SharedFunction,
}

impl Bus {
    /// An empty bus.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a function into a slot. Software finds other functions of a device only if function 0 is there; when
    /// there is more than one, all are marked as part of a multifunction device.
    pub fn plug(&self, slot: Slot, function: SharedFunction) -> Result<(), SetupError> {
        let siblings = {
            let mut tables = self.write();
            if tables.functions.contains_key(&slot) {
                return Err(SetupError::SlotTaken { slot });
            }
            tables.functions.insert(slot, Arc::clone(&function));
            tables.device(slot)
        };
        if siblings.len() > 1 {
            siblings.iter().for_each(|sibling| lock(sibling).set_multifunction());
        }
        self.refresh(slot, &function, &lock(&function));
        Ok(())
    }

    /// The function in a slot.
    pub fn function(&self, slot: Slot) -> Option<SharedFunction> {
        self.read().functions.get(&slot).cloned()
    }

    /// The slots that have a function, in order.
    pub fn slots(&self) -> Vec<Slot> {
        self.read().functions.keys().copied().collect()
    }

    /// Reads configuration space through ECAM, `offset` bytes into its window. Where there is no function, on other
    /// buses, and across the border of a function's 4 KiB, all ones.
    pub fn ecam_read(&self, offset: u64, out: &mut [u8]) {
        out.fill(0xff);
        if let Some((_, function, register)) = self.ecam_target(offset, out.len()) {
            lock(&function).config_read(register, out);
        }
    }

    /// Writes configuration space through ECAM and follows BARs that move. Says what changed, for hosts that keep
    /// mappings of their own.
    pub fn ecam_write(&self, offset: u64, data: &[u8]) -> Vec<ConfigEffect> {
        let Some((slot, function, register)) = self.ecam_target(offset, data.len()) else {
            return Vec::new();
        };
        let mut hosted = lock(&function);
        let effects = hosted.config_write(register, data);
        if effects.iter().any(|effect| matches!(effect, ConfigEffect::BarMoved { .. })) {
            self.refresh(slot, &function, &hosted);
        }
        effects
    }

    /// Reads memory space at `address`.
    pub fn mmio_read(&self, address: u64, out: &mut [u8]) -> Claim {
        self.space_read(Space::Memory, address, out)
    }

    /// Writes memory space at `address`.
    pub fn mmio_write(&self, address: u64, data: &[u8]) -> Claim {
        self.space_write(Space::Memory, address, data)
    }

    /// Reads I/O ports from `port` on.
    pub fn io_read(&self, port: u16, out: &mut [u8]) -> Claim {
        self.space_read(Space::Io, u64::from(port), out)
    }

    /// Writes I/O ports from `port` on.
    pub fn io_write(&self, port: u16, data: &[u8]) -> Claim {
        self.space_write(Space::Io, u64::from(port), data)
    }

    /// Resets every function, as when the machine is reset.
    pub fn reset(&self) {
        for slot in self.slots() {
            let Some(function) = self.function(slot) else { continue };
            let mut hosted = lock(&function);
            hosted.reset();
            self.refresh(slot, &function, &hosted);
        }
    }

    fn space_read(&self, space: Space, address: u64, out: &mut [u8]) -> Claim {
        out.fill(0xff);
        let Some((function, bar, offset)) = self.read().find(space, address) else { return Claim::Unclaimed };
        lock(&function).bar_read(bar, offset, out);
        Claim::Claimed
    }

    fn space_write(&self, space: Space, address: u64, data: &[u8]) -> Claim {
        let Some((function, bar, offset)) = self.read().find(space, address) else { return Claim::Unclaimed };
        lock(&function).bar_write(bar, offset, data);
        Claim::Claimed
    }

    fn ecam_target(&self, offset: u64, len: usize) -> Option<(Slot, SharedFunction, u64)> {
        let register = offset % ECAM_FUNCTION_LEN;
        if register + len as u64 > ECAM_FUNCTION_LEN {
            return None;
        }
        let slot = Slot::from_ecam(offset / ECAM_FUNCTION_LEN)?;
        Some((slot, self.function(slot)?, register))
    }

    /// Decodes the BARs of a function where they are now. The caller holds the function's lock, so that two changes
    /// of its BARs reach the table in their order.
    fn refresh(&self, slot: Slot, function: &SharedFunction, hosted: &Hosted<dyn PciFunction>) {
        let windows = hosted.spec().bars.iter().filter_map(|bar| {
            let start = hosted.bar_address(bar.index)?;
            let space = if bar.kind == BarKind::Io { Space::Io } else { Space::Memory };
            let at = start..start.checked_add(bar.len)?;
            Some(Window { slot, bar: bar.index, space, at, function: Arc::clone(function) })
        });
        let mut tables = self.write();
        tables.windows.retain(|window| window.slot != slot);
        tables.windows.extend(windows);
        tables.windows.sort_by_key(|window| (window.slot, window.bar));
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// All functions of a slot's device.
    fn device(&self, slot: Slot) -> Vec<SharedFunction> {
        let same = self.functions.iter().filter(|(other, _)| other.device() == slot.device());
        same.map(|(_, function)| Arc::clone(function)).collect()
    }

    fn find(&self, space: Space, address: u64) -> Option<(SharedFunction, u8, u64)> {
        let mut windows = self.windows.iter();
        let window = windows.find(|window| window.space == space && window.at.contains(&address))?;
        Some((Arc::clone(&window.function), window.bar, address - window.at.start))
    }
}

/// A function that panicked on another thread is still there for the guest.
fn lock(function: &SharedFunction) -> MutexGuard<'_, Hosted<dyn PciFunction>> {
    Mutex::lock(function).unwrap_or_else(PoisonError::into_inner)
}
