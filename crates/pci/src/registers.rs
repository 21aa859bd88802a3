//! Configuration space by offset and bit (PCI 3.0 chapter 6, PCI Express 5.0 §7.5). Offsets are in bytes.

/// Vendor id, `u16`; `0xffff` where there is no function.
pub const VENDOR_ID: u64 = 0x00;
/// Device id, `u16`.
pub const DEVICE_ID: u64 = 0x02;
/// Command, `u16`.
pub const COMMAND: u64 = 0x04;
/// Status, `u16`.
pub const STATUS: u64 = 0x06;
/// Revision, `u8`.
pub const REVISION: u64 = 0x08;
/// Class code, 24 bits, programming interface first.
pub const CLASS: u64 = 0x09;
/// Cache line size, `u8`: a scratch byte.
pub const CACHE_LINE_SIZE: u64 = 0x0c;
/// Header type, `u8`: 0, with [`HEADER_MULTIFUNCTION`].
pub const HEADER_TYPE: u64 = 0x0e;
/// First BAR, `u32`; five more follow.
pub const BAR0: u64 = 0x10;
/// Subsystem vendor id, `u16`.
pub const SUBSYSTEM_VENDOR_ID: u64 = 0x2c;
/// Subsystem id, `u16`.
pub const SUBSYSTEM_ID: u64 = 0x2e;
/// Offset of the first capability, `u8`.
pub const CAPABILITIES: u64 = 0x34;
/// Interrupt line, `u8`: a scratch byte of the firmware.
pub const INTERRUPT_LINE: u64 = 0x3c;
/// Interrupt pin, `u8`.
pub const INTERRUPT_PIN: u64 = 0x3d;
/// Where capabilities may start.
pub const FIRST_CAPABILITY: u64 = 0x40;
/// Length of conventional configuration space.
pub const CONFIG_LEN: u64 = 0x100;
/// Length of a PCI Express function's configuration space.
pub const EXTENDED_CONFIG_LEN: u64 = 0x1000;

/// Command: respond to I/O ports.
pub const COMMAND_IO: u16 = 1 << 0;
/// Command: respond to memory accesses.
pub const COMMAND_MEMORY: u16 = 1 << 1;
/// Command: may access memory.
pub const COMMAND_BUS_MASTER: u16 = 1 << 2;
/// Command: report parity errors; a scratch bit.
pub const COMMAND_PARITY: u16 = 1 << 6;
/// Command: report system errors; a scratch bit.
pub const COMMAND_SERR: u16 = 1 << 8;
/// Command: do not use the interrupt pin.
pub const COMMAND_INTX_DISABLE: u16 = 1 << 10;
/// Status: the function asks for an INTx interrupt.
pub const STATUS_INTERRUPT: u16 = 1 << 3;
/// Status: there is a capability list.
pub const STATUS_CAPABILITIES: u16 = 1 << 4;
/// Header type: the device has more than one function.
pub const HEADER_MULTIFUNCTION: u8 = 1 << 7;

/// BAR: I/O space.
pub const BAR_IO: u32 = 1 << 0;
/// BAR: 64-bit memory.
pub const BAR_MEMORY64: u32 = 1 << 2;
/// BAR: prefetchable memory.
pub const BAR_PREFETCHABLE: u32 = 1 << 3;

/// Capability id: vendor-specific.
pub const CAP_VENDOR: u8 = 0x09;
/// Capability id: PCI Express.
pub const CAP_PCI_EXPRESS: u8 = 0x10;
/// Capability id: MSI-X.
pub const CAP_MSIX: u8 = 0x11;

/// MSI-X capability: message control, `u16`.
pub const MSIX_CONTROL: u64 = 2;
/// MSI-X capability: table offset and BAR, `u32`.
pub const MSIX_TABLE: u64 = 4;
/// MSI-X capability: pending bit array offset and BAR, `u32`.
pub const MSIX_PBA: u64 = 8;
/// Length of the MSI-X capability.
pub const MSIX_LEN: u64 = 12;
/// MSI-X message control: all vectors are masked.
pub const MSIX_FUNCTION_MASK: u16 = 1 << 14;
/// MSI-X message control: on.
pub const MSIX_ENABLE: u16 = 1 << 15;

/// PCI Express capability: version and port type, `u16`.
pub const EXPRESS_FLAGS: u64 = 2;
/// PCI Express capability: device capabilities, `u32`.
pub const EXPRESS_DEVICE_CAPABILITIES: u64 = 4;
/// PCI Express capability: device control, `u16`.
pub const EXPRESS_DEVICE_CONTROL: u64 = 8;
/// Length of the PCI Express capability, version 2.
pub const EXPRESS_LEN: u64 = 0x3c;
/// Flags: version 2, root complex integrated endpoint, which has no link.
pub const EXPRESS_INTEGRATED_ENDPOINT: u16 = 0x92;
/// Device capabilities: role-based error reporting, which every function since 1.1 must have.
pub const EXPRESS_ROLE_BASED_ERRORS: u32 = 1 << 15;
/// Device capabilities: the function can be reset by [`EXPRESS_INITIATE_RESET`].
pub const EXPRESS_FUNCTION_RESET: u32 = 1 << 28;
/// Device control: reset the function; reads as 0.
pub const EXPRESS_INITIATE_RESET: u16 = 1 << 15;
/// Device control after a reset: relaxed ordering, no snoop, 512-byte read requests.
pub const EXPRESS_DEVICE_CONTROL_RESET: u16 = 0x2810;
