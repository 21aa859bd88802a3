//! Tells the guest what there is: the ACPI tables of a hardware-reduced machine (ACPI 6.5 §4.1).
//!
//! There is no fixed hardware: no power-management timer, no PC interrupt controller, no event registers. The guest is reset and switched
//! off by two registers in memory, and every interrupt is an input of the IOAPIC or a message.

mod dsdt;
mod tables;
#[cfg(test)]
mod tests;

use crate::layout::MAX_MMIO_WINDOWS;
use acpi_tables::Aml;
use std::ops::Range;
use vioduct_virtio_device::MemoryMap;
use vioduct_virtqueue::{IoAddr, Memory, MemoryFault};

/// Where the tables lie: where a PC's firmware has them, and kernels that are not told look for the root (ACPI 6.5 §5.2.5.1).
pub const TABLES: Range<u64> = 0xe_0000..0xf_0000;

/// The value that resets the machine when it is written to the reset register (ACPI 6.5 §4.8.3.6).
pub const RESET_VALUE: u8 = 1;
/// The sleep type that means "off" in the sleep control register (ACPI 6.5 §4.8.3.7, §7.4.2: `_S5`).
pub const SLEEP_TYPE_OFF: u8 = 5;

/// What the tables describe, beside [`layout`](crate::layout).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Platform {
    /// Processors; their APIC IDs are 0, 1, 2 and so on.
    pub cpus: u8,
    /// Virtio-mmio windows, the first ones of the layout.
    pub mmio_windows: u32,
    /// Interrupt pins of PCI functions that are wired to the IOAPIC. Functions that use messages only need none.
    pub intx: Vec<IntxRoute>,
}

/// How an interrupt pin of a PCI device is wired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IntxRoute {
    /// The device's number on bus 0.
    pub device: u8,
    /// The pin: 0 for INTA#, to 3 for INTD#.
    pub pin: u8,
    /// An input of the IOAPIC.
    pub gsi: u32,
}

/// Why the tables cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcpiError {
    /// There are no interrupt numbers for as many.
    #[error("{0} virtio-mmio devices: there is room for {MAX_MMIO_WINDOWS}, attach the others to PCI")]
    TooManyWindows(u32),
    /// There is no RAM below 1 MiB.
    #[error("the guest has no memory for its ACPI tables: {0}: give it at least 16 MiB")]
    Memory(#[from] MemoryFault),
}

/// Writes the tables into `ram`, at [`TABLES`]; the answer is the address of their root, the RSDP.
///
/// # Errors
/// If there are too many windows, or no RAM there.
pub fn write(ram: &MemoryMap, platform: &Platform) -> Result<u64, AcpiError> {
    if platform.mmio_windows > MAX_MMIO_WINDOWS {
        return Err(AcpiError::TooManyWindows(platform.mmio_windows));
    }
    let mut room = Room { ram, next: TABLES.start + tables::RSDP_ROOM };
    let dsdt = room.put(&dsdt::definition_block(platform))?;
    let tables: [&dyn Aml; 3] = [&tables::fadt(dsdt), &tables::madt(platform.cpus), &tables::mcfg()];
    let addresses =
        tables.into_iter().map(|table| room.put(&encode(table))).collect::<Result<Vec<_>, _>>()?;
    let xsdt = room.put(&encode(&tables::xsdt(&addresses)))?;
    ram.write(IoAddr(TABLES.start), &encode(&tables::rsdp(xsdt)))?;
    Ok(TABLES.start)
}

fn encode(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// Memory that fills up with tables.
struct Room<'a> {
    ram: &'a MemoryMap,
    next: u64,
}

impl Room<'_> {
    const ALIGNMENT: u64 = 16;

    /// Writes the next table; the answer is its address. With the most processors, windows and pins they fill half of the room.
    fn put(&mut self, table: &[u8]) -> Result<u64, MemoryFault> {
        let at = self.next;
        let end = at + table.len() as u64;
        if end > TABLES.end {
            return Err(MemoryFault { at: IoAddr(at), len: table.len() as u64 });
        }
        self.ram.write(IoAddr(at), table)?;
        self.next = end.next_multiple_of(Self::ALIGNMENT);
        Ok(at)
    }
}
