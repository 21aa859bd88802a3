//! What is at the reset vector, where a PC has its firmware: there is none here, and guests jump there to start the machine again.
//!
//! Linux does so where ACPI says that hardware is reduced: it wants to restart by EFI then (`efi_reboot_required`), and where there is no
//! EFI, by the BIOS, in real mode at f000:fff0 (`machine_real_restart`). It comes to no reset register.

use super::BootError;
use super::places::RESET_VECTOR;
use vioduct_virtio_device::MemoryMap;
use vioduct_virtqueue::{IoAddr, Memory};

/// Has the keyboard controller reset the machine: mov al, 0xfe; out 0x64, al; again: hlt; jmp again
const CODE: [u8; 7] = [0xb0, 0xfe, 0xe6, 0x64, 0xf4, 0xeb, 0xfd];

/// Writes it. The guest is told that this memory is not for use.
pub(super) fn write(ram: &MemoryMap) -> Result<(), BootError> {
    Ok(ram.write(IoAddr(RESET_VECTOR), &CODE)?)
}
