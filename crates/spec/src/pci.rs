//! Virtio over PCI (virtio 1.3 §4.1), and the few PCI numbers that both of its sides need. Offsets are in bytes.

/// Vendor id of every virtio function (virtio 1.3 §4.1.2).
pub const VENDOR_ID: u16 = 0x1af4;
/// Device id of a modern function: this plus the device type (virtio 1.3 §4.1.2).
pub const MODERN_DEVICE_ID: u16 = 0x1040;
/// Last device id of the virtio range; so device types end at 63 (virtio 1.3 §4.1.2).
pub const LAST_DEVICE_ID: u16 = 0x107f;
/// First device id of the transitional range (virtio 1.3 §4.1.2.1).
pub const TRANSITIONAL_DEVICE_ID: u16 = 0x1000;
/// Last device id of the transitional range.
pub const LAST_TRANSITIONAL_DEVICE_ID: u16 = 0x103f;
/// PCI capability id of a vendor-specific capability, which all virtio ones are (virtio 1.3 §4.1.4).
pub const CAP_VENDOR_SPECIFIC: u8 = 0x09;
/// PCI capability id of MSI-X.
pub const CAP_MSIX: u8 = 0x11;
/// Queue or configuration vector that means "none" (virtio 1.3 §4.1.5.1.2).
pub const NO_VECTOR: u16 = 0xffff;

/// `struct virtio_pci_cap` (virtio 1.3 §4.1.4): offsets from the capability's start.
pub mod cap {
    /// Capability id, `u8`.
    pub const VNDR: usize = 0;
    /// Offset of the next capability, `u8`.
    pub const NEXT: usize = 1;
    /// Length of this capability, `u8`.
    pub const LEN: usize = 2;
    /// Which structure it locates, `u8`.
    pub const CFG_TYPE: usize = 3;
    /// BAR that holds the structure, `u8`; above 5 it is reserved.
    pub const BAR: usize = 4;
    /// Distinguishes capabilities of one type, `u8`.
    pub const ID: usize = 5;
    /// Offset of the structure in the BAR, `u32`.
    pub const OFFSET: usize = 8;
    /// Length of the structure, `u32`.
    pub const LENGTH: usize = 12;
    /// Size of the capability itself.
    pub const SIZE: u8 = 16;
    /// Notification capability only: `notify_off_multiplier`, `u32`.
    pub const NOTIFY_OFF_MULTIPLIER: usize = 16;
    /// Size of the notification capability.
    pub const NOTIFY_SIZE: u8 = 20;
    /// PCI configuration access capability only: the 4 bytes of data (virtio 1.3 §4.1.4.9).
    pub const PCI_CFG_DATA: usize = 16;
    /// Size of the PCI configuration access capability.
    pub const PCI_CFG_SIZE: u8 = 20;
    /// Common configuration structure.
    pub const TYPE_COMMON: u8 = 1;
    /// Notification structure.
    pub const TYPE_NOTIFY: u8 = 2;
    /// ISR status structure.
    pub const TYPE_ISR: u8 = 3;
    /// Device-specific configuration.
    pub const TYPE_DEVICE: u8 = 4;
    /// PCI configuration access.
    pub const TYPE_PCI_CFG: u8 = 5;
    /// Shared memory region.
    pub const TYPE_SHARED_MEMORY: u8 = 8;
    /// Vendor data.
    pub const TYPE_VENDOR: u8 = 9;
}

/// `struct virtio_pci_common_cfg` (virtio 1.3 §4.1.4.3): offsets in the common configuration structure.
pub mod common_config {
    /// `u32`, read-write.
    pub const DEVICE_FEATURE_SELECT: u64 = 0x00;
    /// `u32`, read-only.
    pub const DEVICE_FEATURE: u64 = 0x04;
    /// `u32`, read-write.
    pub const DRIVER_FEATURE_SELECT: u64 = 0x08;
    /// `u32`, read-write.
    pub const DRIVER_FEATURE: u64 = 0x0c;
    /// `u16`, read-write.
    pub const CONFIG_MSIX_VECTOR: u64 = 0x10;
    /// `u16`, read-only.
    pub const NUM_QUEUES: u64 = 0x12;
    /// `u8`, read-write.
    pub const DEVICE_STATUS: u64 = 0x14;
    /// `u8`, read-only.
    pub const CONFIG_GENERATION: u64 = 0x15;
    /// `u16`, read-write.
    pub const QUEUE_SELECT: u64 = 0x16;
    /// `u16`, read-write.
    pub const QUEUE_SIZE: u64 = 0x18;
    /// `u16`, read-write.
    pub const QUEUE_MSIX_VECTOR: u64 = 0x1a;
    /// `u16`, read-write.
    pub const QUEUE_ENABLE: u64 = 0x1c;
    /// `u16`, read-only.
    pub const QUEUE_NOTIFY_OFF: u64 = 0x1e;
    /// `u64`, read-write, also as two `u32`.
    pub const QUEUE_DESC: u64 = 0x20;
    /// `u64`, read-write, also as two `u32`.
    pub const QUEUE_DRIVER: u64 = 0x28;
    /// `u64`, read-write, also as two `u32`.
    pub const QUEUE_DEVICE: u64 = 0x30;
    /// `u16`, read-only; with `NOTIF_CONFIG_DATA`.
    pub const QUEUE_NOTIF_CONFIG_DATA: u64 = 0x38;
    /// `u16`, read-write; with `RING_RESET`.
    pub const QUEUE_RESET: u64 = 0x3a;
    /// `u16`, read-only; with `ADMIN_VQ`.
    pub const ADMIN_QUEUE_INDEX: u64 = 0x3c;
    /// `u16`, read-only; with `ADMIN_VQ`.
    pub const ADMIN_QUEUE_NUM: u64 = 0x3e;
    /// Length of the structure.
    pub const LEN: u64 = 0x40;
}
