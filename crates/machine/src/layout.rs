//! Where the guest finds what: physical addresses, ports and interrupt numbers of the machine.
//!
//! RAM lies from 0 up to the hole below 4 GiB, which holds everything that is not RAM, and goes on at 4 GiB.

use std::ops::Range;

/// End of the RAM below 4 GiB, however much there is in all.
pub const LOW_RAM_END: u64 = 0xc000_0000;
/// Begin of the RAM that does not fit below the hole.
pub const HIGH_RAM: u64 = 1 << 32;

/// Where BARs of 32 bits may be.
pub const PCI_WINDOW_32: Range<u64> = 0xc000_0000..0xe000_0000;
/// Where BARs of 64 bits may be: beyond any RAM that a guest can have.
pub const PCI_WINDOW_64: Range<u64> = 1 << 39..(1 << 39) + (64 << 30);
/// Most RAM that a guest can have, in bytes: what ends below the 64-bit window.
pub const MAX_RAM: u64 = 256 << 30;

/// Configuration space of bus 0, mapped (ECAM): 4 KiB for each function.
pub const ECAM: Range<u64> = 0xe000_0000..0xe010_0000;

/// The first virtio-mmio window; others follow at [`MMIO_STRIDE`].
pub const MMIO_WINDOWS: u64 = 0xf000_0000;
/// Bytes from one virtio-mmio window to the next.
pub const MMIO_STRIDE: u64 = 0x1000;
/// Virtio-mmio windows that there are numbers for.
pub const MAX_MMIO_WINDOWS: u32 = 16;
/// Interrupt of the first virtio-mmio window, an input of the IOAPIC; others follow.
pub const MMIO_GSI: u32 = 5;

/// What a hardware-reduced ACPI machine is reset and switched off by (ACPI 6.5 §4.8.3.6, §4.8.3.7).
pub const ACPI_REGISTERS: Range<u64> = 0xf100_0000..0xf100_0008;
/// Offset of the reset register.
pub const ACPI_RESET: u64 = 0;
/// Offset of the sleep control register.
pub const ACPI_SLEEP_CONTROL: u64 = 1;
/// Offset of the sleep status register.
pub const ACPI_SLEEP_STATUS: u64 = 2;

/// The interrupt controller of devices.
pub const IOAPIC: u64 = 0xfec0_0000;
/// The interrupt controller of each processor.
pub const LOCAL_APIC: u64 = 0xfee0_0000;

/// Ports of the serial line COM1.
pub const SERIAL_PORTS: Range<u16> = 0x3f8..0x400;
/// Interrupt of the serial line.
pub const SERIAL_GSI: u32 = 4;
/// Data port of the keyboard controller.
pub const I8042_DATA: u16 = 0x60;
/// Command and status port of the keyboard controller.
pub const I8042_COMMAND: u16 = 0x64;
/// Index port of the clock's registers.
pub const RTC_INDEX: u16 = 0x70;
/// Data port of the clock's registers.
pub const RTC_DATA: u16 = 0x71;

/// Inputs of the IOAPIC; message-signalled interrupts have numbers from here on.
pub const IOAPIC_INPUTS: u32 = 24;
