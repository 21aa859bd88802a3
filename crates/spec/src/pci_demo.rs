//! `pci-demo`: a conventional PCI function with one trapped register.

/// Vendor id: QEMU's unofficial one, under which Linux claims no more than 1234:1111 (bochs-drm).
pub const VENDOR_ID: u16 = 0x1234;
/// Device id: "VI".
pub const DEVICE_ID: u16 = 0x5649;
/// Class code, 24 bits: unclassified.
pub const CLASS: u32 = 0xff_0000;
/// Size of BAR0 in bytes: 32-bit, non-prefetchable memory.
pub const BAR0_LEN: u64 = 1 << 20;
/// The register: 4 bytes, read-write; what was last written comes back.
pub const REG_VALUE: u64 = 0x00;
