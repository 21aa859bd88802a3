//! The tables that are not code.

use super::RESET_VALUE;
use crate::layout::{
    ACPI_REGISTERS, ACPI_RESET, ACPI_SLEEP_CONTROL, ACPI_SLEEP_STATUS, ECAM, IOAPIC, LOCAL_APIC,
};
use acpi_tables::fadt::{FADT, FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::mcfg::MCFG;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;

/// Who made the tables.
pub(super) const OEM: [u8; 6] = *b"VIODCT";
/// Which machine they are for.
pub(super) const OEM_TABLE: [u8; 8] = *b"VIODUCT ";
pub(super) const OEM_REVISION: u32 = 1;

/// Bytes before the first table.
pub(super) const RSDP_ROOM: u64 = 64;

/// `IAPC_BOOT_ARCH` (ACPI 6.5 §5.2.9.3): there is no VGA, and PCIe links have no power states. No 8042 bit: the controller here knows
/// nothing but how to reset.
const BOOT_ARCHITECTURE: u16 = 1 << 2 | 1 << 4;

/// The root (ACPI 6.5 §5.2.5.3).
pub(super) fn rsdp(xsdt: u64) -> Rsdp {
    Rsdp::new(OEM, xsdt)
}

/// The list of tables (ACPI 6.5 §5.2.8).
pub(super) fn xsdt(tables: &[u64]) -> XSDT {
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    tables.iter().for_each(|table| xsdt.add_entry(*table));
    xsdt
}

/// The fixed description (ACPI 6.5 §5.2.9): there is no fixed hardware, but the registers for reset and sleep.
pub(super) fn fadt(dsdt: u64) -> FADT {
    let flags = [
        Flags::Wbinvd,
        // Set is: there is none that is fixed.
        Flags::PwrButton,
        Flags::SlpButton,
        Flags::FixRtc,
        Flags::ResetRegSup,
        Flags::HwReducedAcpi,
    ];
    let table = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION).dsdt_64(dsdt);
    let mut table = flags.into_iter().fold(table, FADTBuilder::flag);
    table.iapc_boot_arch = BOOT_ARCHITECTURE.into();
    table.reset_reg = register(ACPI_RESET);
    table.reset_value = RESET_VALUE;
    table.sleep_control_reg = register(ACPI_SLEEP_CONTROL);
    table.sleep_status_reg = register(ACPI_SLEEP_STATUS);
    table.hypervisor_vendor_identity = u64::from_le_bytes(OEM_TABLE).into();
    table.finalize()
}

/// One of the machine's registers of a byte.
fn register(offset: u64) -> GAS {
    GAS::new(AddressSpace::SystemMemory, 8, 0, AccessSize::ByteAccess, ACPI_REGISTERS.start + offset)
}

/// Processors and interrupt controllers (ACPI 6.5 §5.2.12). No processor has an APIC ID of more than 8 bits, so the older structure names
/// them all (§5.2.12.12). There are no overrides: nothing is wired as ISA was, as a hardware-reduced machine has no ISA interrupts.
pub(super) fn madt(cpus: u8) -> MADT {
    let local = LocalInterruptController::Address(LOCAL_APIC as u32);
    let mut table = MADT::new(OEM, OEM_TABLE, OEM_REVISION, local);
    for cpu in 0..cpus {
        table.add_structure(ProcessorLocalApic::new(cpu, cpu, EnabledStatus::Enabled));
    }
    let first_gsi = 0;
    table.add_structure(IoApic::new(0, IOAPIC as u32, first_gsi));
    table
}

/// Where configuration space is mapped (PCI Firmware Specification 3.3 §4.1.2).
pub(super) fn mcfg() -> MCFG {
    let mut table = MCFG::new(OEM, OEM_TABLE, OEM_REVISION);
    let (segment, first_bus) = (0, 0);
    table.add_ecam(ECAM.start, segment, first_bus, LAST_BUS);
    table
}

/// A bus has 1 MiB of configuration space.
pub(super) const LAST_BUS: u8 = ((ECAM.end - ECAM.start) / (1 << 20) - 1) as u8;
