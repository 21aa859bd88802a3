//! Initial BAR addresses, for machines without firmware. Address 0 is never given: it means "unassigned".

use std::cmp::Reverse;
use std::ops::Range;

use super::{Bus, Slot, lock};
use crate::config::bar_at;
use crate::{BarKind, BarSpec, SetupError};

/// Address ranges that BARs may be put into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apertures {
    /// Memory below 4 GiB, for 32-bit BARs.
    pub memory32: Range<u64>,
    /// Memory for 64-bit BARs; if empty, they go below 4 GiB too.
    pub memory64: Range<u64>,
    /// I/O ports.
    pub io: Range<u64>,
}

impl Apertures {
    /// Takes `len` bytes at a multiple of `len`, from the bottom.
    fn take(&mut self, kind: BarKind, len: u64) -> Option<u64> {
        let range = match kind {
            BarKind::Io => &mut self.io,
            BarKind::Memory64 if !self.memory64.is_empty() => &mut self.memory64,
            BarKind::Memory64 | BarKind::Memory32 => &mut self.memory32,
        };
        let start = range.start.max(1).checked_next_multiple_of(len)?;
        let end = start.checked_add(len).filter(|end| *end <= range.end)?;
        range.start = end;
        Some(start)
    }
}

impl Bus {
    /// Gives every BAR an address: the largest first, each at a multiple of its size. Decoding stays as it is, so
    /// that a driver turns it on. On an error, BARs before the one named have their address.
    pub fn assign_bars(&self, mut apertures: Apertures) -> Result<(), SetupError> {
        self.assign(self.slots(), &mut apertures)
    }

    /// The same for the function in one slot, plugged in while others are in use. What it takes is gone from `apertures`.
    pub fn assign_bars_of(&self, slot: Slot, apertures: &mut Apertures) -> Result<(), SetupError> {
        self.assign(vec![slot], apertures)
    }

    fn assign(&self, slots: Vec<Slot>, apertures: &mut Apertures) -> Result<(), SetupError> {
        let mut bars: Vec<(Slot, BarSpec)> = Vec::new();
        for slot in slots {
            let Some(function) = self.function(slot) else { continue };
            bars.extend(lock(&function).spec().bars.iter().map(|bar| (slot, bar.clone())));
        }
        bars.sort_by_key(|(_, bar)| Reverse(bar.len));
        for (slot, bar) in bars {
            let full = SetupError::ApertureFull { slot, bar: bar.index, len: bar.len };
            let address = apertures.take(bar.kind, bar.len).ok_or(full)?;
            let register = slot.ecam_offset() + bar_at(bar.index);
            match bar.kind {
                BarKind::Memory64 => self.ecam_write(register, &address.to_le_bytes()),
                BarKind::Io | BarKind::Memory32 => self.ecam_write(register, &(address as u32).to_le_bytes()),
            };
        }
        Ok(())
    }
}
