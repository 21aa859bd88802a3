//! Checks a function's declaration, so that everything after it can take it at its word.

use crate::registers::{CONFIG_LEN, EXPRESS_LEN, FIRST_CAPABILITY, MSIX_LEN};
use crate::{BarKind, BarSpec, Capability, FunctionSpec, MsixSpec, SetupError};

const BARS: u8 = 6;
const MAX_VECTORS: u16 = 2048;

pub(crate) fn check(spec: &FunctionSpec) -> Result<(), SetupError> {
    if spec.vendor_id == 0xffff {
        return Err(SetupError::VendorId);
    }
    if spec.class > 0xff_ffff {
        return Err(SetupError::Class { class: spec.class });
    }
    check_bars(&spec.bars)?;
    check_capabilities(spec)?;
    spec.msix.as_ref().map_or(Ok(()), |msix| check_msix(spec, msix))
}

/// PCI 3.0 §6.2.5.1: least and greatest size of each kind; a 64-bit BAR takes two places.
fn check_bars(bars: &[BarSpec]) -> Result<(), SetupError> {
    let mut taken = Vec::new();
    for bar in bars {
        let index = bar.index;
        let (places, min, max) = match bar.kind {
            BarKind::Io => (1, 4, 1 << 8),
            BarKind::Memory32 => (1, 16, 1 << 31),
            BarKind::Memory64 => (2, 16, 1 << 62),
        };
        if index >= BARS || index + places > BARS {
            return Err(SetupError::BarIndex { bar: index });
        }
        if !bar.len.is_power_of_two() || bar.len < min || bar.len > max {
            return Err(SetupError::BarLen { bar: index, len: bar.len, min, max });
        }
        if bar.kind == BarKind::Io && bar.prefetchable {
            return Err(SetupError::BarPrefetchable { bar: index });
        }
        for place in index..index + places {
            if taken.contains(&place) {
                return Err(SetupError::BarTaken { bar: place });
            }
            taken.push(place);
        }
    }
    Ok(())
}

fn check_capabilities(spec: &FunctionSpec) -> Result<(), SetupError> {
    let mut needed = 0;
    let mut express = 0;
    for (index, capability) in spec.capabilities.iter().enumerate() {
        match capability {
            Capability::Vendor { body, writable } if writable.len() > body.len() => {
                return Err(SetupError::CapabilityMask { index });
            }
            Capability::Vendor { .. } => {}
            Capability::PciExpress => express += 1,
        }
        needed += room(capability_len(capability));
    }
    if express > 1 {
        return Err(SetupError::ExpressTwice);
    }
    needed += if spec.msix.is_some() { room(MSIX_LEN) } else { 0 };
    if needed > CONFIG_LEN - FIRST_CAPABILITY {
        return Err(SetupError::CapabilityRoom { needed });
    }
    Ok(())
}

/// Bytes that a capability has in configuration space.
pub(crate) fn capability_len(capability: &Capability) -> u64 {
    match capability {
        Capability::Vendor { body, .. } => body.len() as u64 + 3,
        Capability::PciExpress => EXPRESS_LEN,
    }
}

/// Bytes that a capability of `len` bytes takes up: capabilities start at multiples of 4 (PCI 3.0 §6.7).
pub(crate) fn room(len: u64) -> u64 {
    len.next_multiple_of(4)
}

fn check_msix(spec: &FunctionSpec, msix: &MsixSpec) -> Result<(), SetupError> {
    if msix.vectors == 0 || msix.vectors > MAX_VECTORS {
        return Err(SetupError::MsixVectors { vectors: msix.vectors });
    }
    let table =
        Structure { name: "table", bar: msix.table_bar, offset: msix.table_offset, len: msix.table_len() };
    let pending =
        Structure { name: "pending bits", bar: msix.pba_bar, offset: msix.pba_offset, len: msix.pba_len() };
    table.check(spec)?;
    pending.check(spec)?;
    let apart = table.bar != pending.bar || table.end() <= pending.start() || pending.end() <= table.start();
    if apart { Ok(()) } else { Err(SetupError::MsixOverlap) }
}

struct Structure {
    name: &'static str,
    bar: u8,
    offset: u32,
    len: u64,
}

impl Structure {
    fn start(&self) -> u64 {
        u64::from(self.offset)
    }

    fn end(&self) -> u64 {
        self.start() + self.len
    }

    /// PCI 3.0 §6.8.2: in a memory BAR, at a multiple of 8.
    fn check(&self, spec: &FunctionSpec) -> Result<(), SetupError> {
        let Self { name, bar, offset, len } = *self;
        let inside = spec.bar(bar).is_some_and(|bar| bar.kind != BarKind::Io && self.end() <= bar.len);
        if !inside {
            return Err(SetupError::MsixPlace { structure: name, bar, offset, len });
        }
        if !offset.is_multiple_of(8) {
            return Err(SetupError::MsixAlignment { structure: name, offset });
        }
        Ok(())
    }
}
