//! Configuration space by offset and bit (PCI 3.0 chapter 6). Offsets are in bytes.

pub(crate) const VENDOR_ID: u16 = 0x00;
pub(crate) const COMMAND: u16 = 0x04;
pub(crate) const STATUS: u16 = 0x06;
/// Revision in the lowest byte, class code in the three above.
pub(crate) const CLASS_REVISION: u16 = 0x08;
pub(crate) const HEADER_TYPE: u16 = 0x0e;
pub(crate) const BAR0: u16 = 0x10;
pub(crate) const CAPABILITIES: u16 = 0x34;
/// Where capabilities may start, and the last place where one can.
pub(crate) const FIRST_CAPABILITY: u16 = 0x40;
pub(crate) const LAST_CAPABILITY: u16 = 0xfc;
pub(crate) const CONFIG_LEN: u16 = 0x100;

pub(crate) const NO_FUNCTION: u16 = 0xffff;
pub(crate) const COMMAND_IO: u16 = 1 << 0;
pub(crate) const COMMAND_MEMORY: u16 = 1 << 1;
pub(crate) const COMMAND_BUS_MASTER: u16 = 1 << 2;
pub(crate) const STATUS_CAPABILITIES: u16 = 1 << 4;
pub(crate) const HEADER_MULTIFUNCTION: u8 = 1 << 7;

pub(crate) const BAR_IO: u32 = 1 << 0;
pub(crate) const BAR_MEMORY_TYPE: u32 = 3 << 1;
pub(crate) const BAR_MEMORY64: u32 = 2 << 1;
pub(crate) const BAR_MEMORY_FLAGS: u64 = 0xf;
pub(crate) const BAR_IO_FLAGS: u64 = 0x3;

/// MSI-X capability: message control; then table and pending bits, each as an offset whose low 3 bits are the BAR.
pub(crate) const MSIX_CONTROL: u16 = 2;
pub(crate) const MSIX_TABLE: u16 = 4;
pub(crate) const MSIX_PENDING: u16 = 8;
pub(crate) const MSIX_CAPABILITY_LEN: u16 = 12;
/// Message control: number of vectors less one.
pub(crate) const MSIX_SIZE: u16 = 0x7ff;
pub(crate) const MSIX_FUNCTION_MASK: u16 = 1 << 14;
pub(crate) const MSIX_ENABLE: u16 = 1 << 15;
pub(crate) const MSIX_BAR: u32 = 0x7;

/// An entry of the MSI-X table.
pub(crate) const ENTRY_LEN: u64 = 16;
pub(crate) const ENTRY_ADDRESS_LOW: u64 = 0;
pub(crate) const ENTRY_ADDRESS_HIGH: u64 = 4;
pub(crate) const ENTRY_DATA: u64 = 8;
pub(crate) const ENTRY_CONTROL: u64 = 12;
pub(crate) const ENTRY_MASKED: u32 = 1;
