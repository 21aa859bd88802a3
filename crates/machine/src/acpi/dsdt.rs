//! The definition block: the devices that cannot be probed for, as ACPI's machine language.

use super::tables::{LAST_BUS, OEM, OEM_REVISION, OEM_TABLE};
use super::{IntxRoute, Platform, SLEEP_TYPE_OFF, encode};
use crate::layout::{
    ACPI_REGISTERS, ECAM, MMIO_GSI, MMIO_STRIDE, MMIO_WINDOWS, PCI_WINDOW_32, PCI_WINDOW_64, RTC_INDEX,
    SERIAL_GSI, SERIAL_PORTS,
};
use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Device, EISAName, Else, Equal, IO, If,
    Interrupt, Memory32Fixed, Method, Name, NotEqual, Or, Package, PackageBuilder, Path, ResourceTemplate,
    Return, Scope, Store, Uuid,
};
use acpi_tables::sdt::Sdt;

/// The whole DSDT (ACPI 6.5 §5.2.11.1), with its header.
pub(super) fn definition_block(platform: &Platform) -> Vec<u8> {
    /// From 2 on, integers have 64 bits.
    const REVISION: u8 = 2;
    const HEADER_LEN: u32 = 36;
    let mut table = Sdt::new(*b"DSDT", HEADER_LEN, REVISION, OEM, OEM_TABLE, OEM_REVISION);
    let mut devices = Vec::new();
    (0..platform.cpus).for_each(|cpu| devices.extend(processor(cpu)));
    devices.extend(motherboard());
    devices.extend(host_bridge(&platform.intx));
    devices.extend(serial_line());
    devices.extend(clock());
    (0..platform.mmio_windows).for_each(|window| devices.extend(virtio_mmio(window)));
    table.append_slice(&Scope::raw("\\_SB_".into(), devices));
    table.append_slice(&soft_off());
    table.as_slice().to_vec()
}

/// A device with its identity, and what else it has.
fn device(name: &str, id: &dyn Aml, number: u8, others: &[&dyn Aml]) -> Vec<u8> {
    let (id, number) = (Name::new("_HID".into(), id), Name::new("_UID".into(), &number));
    let mut children: Vec<&dyn Aml> = vec![&id, &number];
    children.extend(others);
    encode(&Device::new(name.into(), children))
}

/// What a device uses: `_CRS` (ACPI 6.5 §6.2.2).
fn resources(children: &[&dyn Aml]) -> Name {
    Name::new("_CRS".into(), &ResourceTemplate::new(children.to_vec()))
}

/// Readable and writable memory.
fn memory(at: u64, len: u64) -> Memory32Fixed {
    let read_write = true;
    Memory32Fixed::new(read_write, at as u32, len as u32)
}

/// How a device drives its wire.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Triggered {
    Edge,
    /// As virtio-mmio's is: an event that comes while another is not acknowledged makes no edge, and must not be lost.
    Level,
}

/// An input of the IOAPIC that belongs to one device, active high.
fn interrupt(gsi: u32, triggered: Triggered) -> Interrupt {
    let (consumer, edge) = (true, triggered == Triggered::Edge);
    let (active_low, shared) = (false, false);
    Interrupt::new(consumer, edge, active_low, shared, gsi)
}

/// Each processor of the MADT is a device of the same number (ACPI 6.5 §8.4).
fn processor(cpu: u8) -> Vec<u8> {
    device(&format!("C{cpu:03X}"), &"ACPI0007", cpu, &[])
}

/// Addresses that are taken and belong to no device: Linux uses mapped configuration space only where something says so.
fn motherboard() -> Vec<u8> {
    let used = resources(&[
        &memory(ECAM.start, ECAM.end - ECAM.start),
        &memory(ACPI_REGISTERS.start, ACPI_REGISTERS.end - ACPI_REGISTERS.start),
    ]);
    device("MBRD", &EISAName::new("PNP0C02"), 0, &[&used])
}

/// The PCI Express host bridge, with what it forwards to bus 0 (PCI Firmware Specification 3.3 §4).
fn host_bridge(intx: &[IntxRoute]) -> Vec<u8> {
    let (uncached, read_write) = (AddressSpaceCacheable::NotCacheable, true);
    let (low, high) = (PCI_WINDOW_32, PCI_WINDOW_64);
    let forwarded = resources(&[
        &AddressSpace::new_bus_number(0u16, u16::from(LAST_BUS)),
        &AddressSpace::new_memory(uncached, read_write, low.start as u32, (low.end - 1) as u32, None),
        &AddressSpace::new_memory(uncached, read_write, high.start, high.end - 1, None),
    ]);
    let compatible = Name::new("_CID".into(), &EISAName::new("PNP0A03"));
    let segment = Name::new("_SEG".into(), &0u8);
    let first_bus = Name::new("_BBN".into(), &0u8);
    let routes = Name::new("_PRT".into(), &routing_table(intx));
    let control = OperatingSystemCapabilities;
    let children: [&dyn Aml; 6] = [&compatible, &segment, &first_bus, &forwarded, &routes, &control];
    device("PCI0", &EISAName::new("PNP0A08"), 0, &children)
}

/// `_PRT` (ACPI 6.5 §6.2.13): a pin of any function of a device is an input of the IOAPIC, with no link device in between.
fn routing_table(intx: &[IntxRoute]) -> PackageBuilder {
    const ANY_FUNCTION: u32 = 0xffff;
    let mut table = PackageBuilder::new();
    for IntxRoute { device, pin, gsi } in intx {
        let address = u32::from(*device) << 16 | ANY_FUNCTION;
        let no_link = 0u8;
        table.add_element(&Package::new(vec![&address, pin, &no_link, gsi]));
    }
    table
}

/// `_OSC` (ACPI 6.5 §6.2.11.3): the guest may control what is in functions' own capabilities. There is no hot-plug, no error reporting and
/// no power management that it could.
struct OperatingSystemCapabilities;

impl Aml for OperatingSystemCapabilities {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        const PCI_HOST_BRIDGE: &str = "33DB4D5B-1FF7-401C-9657-7441C03DD766";
        const UNKNOWN_UUID: u8 = 1 << 2;
        const CAPABILITIES_MASKED: u8 = 1 << 4;
        const PCIE_CAPABILITY_CONTROL: u8 = 1 << 4;
        const CONTROL_AT: u8 = 8;
        let (status, asked, granted) = (Path::new("CDW1"), Path::new("CDW3"), PCIE_CAPABILITY_CONTROL);
        let (uuid_asked, buffer) = (Arg(0), Arg(3));
        let status_field = CreateDWordField::new(&status, &buffer, &0u8);
        let asked_field = CreateDWordField::new(&asked, &buffer, &CONTROL_AT);
        let uuid = Uuid::new(PCI_HOST_BRIDGE);
        let ours = Equal::new(&uuid_asked, &uuid);
        let local = acpi_tables::aml::Local(0);
        let mask = And::new(&local, &asked, &granted);
        let less = NotEqual::new(&local, &asked);
        let say_masked = Or::new(&status, &status, &CAPABILITIES_MASKED);
        let if_less = If::new(&less, vec![&say_masked]);
        let answer = Store::new(&asked, &local);
        let grant = If::new(&ours, vec![&asked_field, &mask, &if_less, &answer]);
        let say_unknown = Or::new(&status, &status, &UNKNOWN_UUID);
        let refuse = Else::new(vec![&say_unknown]);
        let result = Return::new(&buffer);
        let serialized = true;
        Method::new("_OSC".into(), 4, serialized, vec![&status_field, &grant, &refuse, &result])
            .to_aml_bytes(sink);
    }
}

/// COM1 (`PNP0501`: a 16550A-compatible port).
fn serial_line() -> Vec<u8> {
    let ports = ports(SERIAL_PORTS.start, SERIAL_PORTS.len() as u8);
    let used = resources(&[&ports, &interrupt(SERIAL_GSI, Triggered::Edge)]);
    device("COM1", &EISAName::new("PNP0501"), 0, &[&used])
}

/// The clock (`PNP0B00`), without its interrupt: nothing here wakes by alarm.
fn clock() -> Vec<u8> {
    const PORTS: u8 = 2;
    let used = resources(&[&ports(RTC_INDEX, PORTS)]);
    device("RTC0", &EISAName::new("PNP0B00"), 0, &[&used])
}

fn ports(first: u16, count: u8) -> IO {
    let alignment = 1;
    IO::new(first, first, alignment, count)
}

/// A virtio-mmio device, by the name that Linux's `virtio_mmio` driver knows (virtio 1.3 §4.2.1 leaves discovery to the platform).
fn virtio_mmio(window: u32) -> Vec<u8> {
    let registers = memory(MMIO_WINDOWS + u64::from(window) * MMIO_STRIDE, MMIO_STRIDE);
    let used = resources(&[&registers, &interrupt(MMIO_GSI + window, Triggered::Level)]);
    device(&format!("V{window:03X}"), &"LNRO0005", window as u8, &[&used])
}

/// `_S5` (ACPI 6.5 §7.4.2): what goes into the sleep control register to switch off.
fn soft_off() -> Vec<u8> {
    let (kind, reserved) = (SLEEP_TYPE_OFF, 0u8);
    encode(&Name::new("_S5_".into(), &Package::new(vec![&kind, &kind, &reserved, &reserved])))
}
