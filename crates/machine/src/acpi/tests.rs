//! The tables as a guest reads them: from the root, by address and length, with their sums.

use super::*;
use crate::layout::{ACPI_REGISTERS, ECAM, IOAPIC, LOCAL_APIC, MMIO_GSI, MMIO_WINDOWS, PCI_WINDOW_64};
use std::collections::BTreeMap;

fn ram() -> MemoryMap {
    MemoryMap::anonymous(16 << 20).unwrap()
}

fn read(ram: &MemoryMap, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ram.read(IoAddr(at), &mut bytes).unwrap();
    bytes
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// A whole table, whose sum is right, and which lies where tables may.
fn table(ram: &MemoryMap, at: u64) -> Vec<u8> {
    let len = u32_at(&read(ram, at, 36), 4);
    assert!(at >= TABLES.start && at + u64::from(len) <= TABLES.end, "{at:#x} {len:#x}");
    let bytes = read(ram, at, len as usize);
    assert_eq!(sum(&bytes), 0, "sum of {}", String::from_utf8_lossy(&bytes[..4]));
    bytes
}

/// Every table by its signature, found from the root.
fn walk(platform: &Platform) -> BTreeMap<String, Vec<u8>> {
    let ram = ram();
    let rsdp_at = write(&ram, platform).unwrap();
    assert!(rsdp_at.is_multiple_of(16));
    let rsdp = read(&ram, rsdp_at, 36);
    assert_eq!(&rsdp[..8], b"RSD PTR ");
    assert_eq!((rsdp[15], u32_at(&rsdp, 20)), (2, 36), "revision and length");
    assert_eq!((sum(&rsdp[..20]), sum(&rsdp)), (0, 0));
    let xsdt = table(&ram, u64_at(&rsdp, 24));
    assert_eq!(&xsdt[..4], b"XSDT");
    let mut tables: BTreeMap<_, _> = xsdt[36..]
        .chunks_exact(8)
        .map(|entry| table(&ram, u64_at(entry, 0)))
        .map(|table| (String::from_utf8(table[..4].to_vec()).unwrap(), table))
        .collect();
    let dsdt = table(&ram, u64_at(&tables["FACP"], 140));
    tables.insert(String::from_utf8(dsdt[..4].to_vec()).unwrap(), dsdt);
    tables
}

fn contains(table: &[u8], part: &[u8]) -> bool {
    table.windows(part.len()).any(|window| window == part)
}

fn everything() -> Platform {
    let pins = (0..32).flat_map(|device| (0..4).map(move |pin| IntxRoute { device, pin, gsi: 16 }));
    Platform { cpus: 16, mmio_windows: 16, intx: pins.collect() }
}

#[test]
fn every_table_is_found_from_the_root_and_sums_to_zero() {
    for platform in [Platform::default(), Platform { cpus: 1, ..Platform::default() }, everything()] {
        let names: Vec<_> = walk(&platform).into_keys().collect();
        assert_eq!(names, ["APIC", "DSDT", "FACP", "MCFG"]);
    }
}

#[test]
fn the_fixed_description_is_of_a_hardware_reduced_machine() {
    const RESET_REG_SUP: u32 = 1 << 10;
    const HW_REDUCED_ACPI: u32 = 1 << 20;
    let fadt = &walk(&Platform::default())["FACP"];
    assert_eq!((fadt[8], fadt.len()), (6, 276), "revision and length of ACPI 6.5");
    let flags = u32_at(fadt, 112);
    assert_eq!(flags & (RESET_REG_SUP | HW_REDUCED_ACPI), RESET_REG_SUP | HW_REDUCED_ACPI);
    // In system memory, 8 bits wide, from bit 0 on, accessed by bytes.
    for (at, register) in
        [(116, ACPI_REGISTERS.start), (244, ACPI_REGISTERS.start + 1), (256, ACPI_REGISTERS.start + 2)]
    {
        assert_eq!(fadt[at..at + 4], [0, 8, 0, 1]);
        assert_eq!(u64_at(fadt, at + 4), register);
    }
    assert_eq!(fadt[128], RESET_VALUE);
}

#[test]
fn every_processor_has_a_local_apic_and_a_device() {
    for cpus in [1, 2, 16] {
        let tables = walk(&Platform { cpus, ..Platform::default() });
        let madt = &tables["APIC"];
        assert_eq!(u32_at(madt, 36), LOCAL_APIC as u32);
        let (local, others) = madt[44..].split_at(usize::from(cpus) * 8);
        for (cpu, entry) in (0..cpus).zip(local.chunks_exact(8)) {
            assert_eq!(entry, [0, 8, cpu, cpu, 1, 0, 0, 0]);
            assert!(contains(&tables["DSDT"], format!("C{cpu:03X}").as_bytes()));
        }
        let mut ioapic = vec![1, 12, 0, 0];
        ioapic.extend((IOAPIC as u32).to_le_bytes());
        ioapic.extend([0; 4]);
        assert_eq!(others, ioapic);
        assert!(!contains(&tables["DSDT"], format!("C{cpus:03X}").as_bytes()));
    }
}

#[test]
fn configuration_space_is_where_the_layout_says() {
    let mcfg = &walk(&Platform::default())["MCFG"];
    assert_eq!(u64_at(mcfg, 44), ECAM.start);
    assert_eq!(mcfg[52..], [0, 0, 0, 0, 0, 0, 0, 0], "segment 0, bus 0 to 0");
}

#[test]
fn each_window_is_a_device_with_its_registers_and_interrupt() {
    let dsdt = &walk(&Platform { mmio_windows: 3, ..Platform::default() })["DSDT"];
    for window in 0..3u32 {
        // Memory32Fixed, read and write.
        let mut memory = vec![0x86, 9, 0, 1];
        memory.extend((MMIO_WINDOWS as u32 + window * 0x1000).to_le_bytes());
        memory.extend(0x1000u32.to_le_bytes());
        // Extended interrupt: consumer, level, active high, exclusive.
        memory.extend([0x89, 6, 0, 0b0001, 1]);
        memory.extend((MMIO_GSI + window).to_le_bytes());
        assert!(contains(dsdt, &memory), "window {window}");
        assert!(contains(dsdt, format!("V{window:03X}").as_bytes()));
    }
    assert!(!contains(dsdt, b"V003"));
    assert_eq!(dsdt.windows(8).filter(|window| window == b"LNRO0005").count(), 3);
}

#[test]
fn the_definition_block_has_what_cannot_be_probed() {
    let dsdt = &walk(&everything())["DSDT"];
    for name in ["_SB_", "PCI0", "COM1", "RTC0", "MBRD", "_S5_", "_OSC", "_PRT", "_CRS"] {
        assert!(contains(dsdt, name.as_bytes()), "{name}");
    }
    let mut high = PCI_WINDOW_64.start.to_le_bytes().to_vec();
    high.extend((PCI_WINDOW_64.end - 1).to_le_bytes());
    assert!(contains(dsdt, &high), "the 64-bit window");
    assert!(contains(dsdt, &[0xc0, 0xff, 0xff, 0xff, 0xdf]), "the 32-bit window");
    assert!(contains(dsdt, &[0x0c, 0xff, 0xff, 0x1f, 0, 0x0a, 3, 0, 0x0a, 16]), "a route");
}

#[test]
fn what_does_not_fit_is_refused() {
    let error = write(&ram(), &Platform { mmio_windows: 17, ..everything() }).unwrap_err();
    assert_eq!(error.to_string(), "17 virtio-mmio devices: there is room for 16, attach the others to PCI");
    let error = write(&MemoryMap::anonymous(0x1_0000).unwrap(), &everything()).unwrap_err();
    assert!(error.to_string().contains("give it at least 16 MiB"), "{error}");
}
