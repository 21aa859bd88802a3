//! The virtio-mmio register window, version 2 (virtio 1.3 §4.2.2). Offsets are in bytes.

/// `MAGIC_VALUE`'s content: "virt" in little-endian ASCII.
pub const MAGIC: u32 = 0x7472_6976;
/// The version of the window that this project speaks; 1 is the legacy one.
pub const VERSION: u32 = 2;
/// Size of the window in bytes, configuration space included.
pub const WINDOW_LEN: u64 = 0x1000;

/// Magic value, read-only.
pub const MAGIC_VALUE: u64 = 0x000;
/// Version number, read-only.
pub const DEVICE_VERSION: u64 = 0x004;
/// Device type, read-only; 0 for a placeholder with no device.
pub const DEVICE_ID: u64 = 0x008;
/// Vendor id, read-only.
pub const VENDOR_ID: u64 = 0x00c;
/// 32 bits of the offered features, read-only.
pub const DEVICE_FEATURES: u64 = 0x010;
/// Which 32 offered bits are shown, write-only.
pub const DEVICE_FEATURES_SEL: u64 = 0x014;
/// 32 bits of the acknowledged features, write-only.
pub const DRIVER_FEATURES: u64 = 0x020;
/// Which 32 acknowledged bits are written, write-only.
pub const DRIVER_FEATURES_SEL: u64 = 0x024;
/// The queue that the queue registers refer to, write-only.
pub const QUEUE_SEL: u64 = 0x030;
/// Largest size of the selected queue, read-only; 0 if there is none.
pub const QUEUE_SIZE_MAX: u64 = 0x034;
/// Size of the selected queue, write-only.
pub const QUEUE_SIZE: u64 = 0x038;
/// Whether the selected queue is in use, read-write.
pub const QUEUE_READY: u64 = 0x044;
/// Available-buffer notification, write-only.
pub const QUEUE_NOTIFY: u64 = 0x050;
/// Why the interrupt is asserted, read-only.
pub const INTERRUPT_STATUS: u64 = 0x060;
/// Which reasons have been handled, write-only.
pub const INTERRUPT_ACK: u64 = 0x064;
/// Device status, read-write; writing 0 resets.
pub const STATUS: u64 = 0x070;
/// Low 32 bits of the descriptor area's address, write-only.
pub const QUEUE_DESC_LOW: u64 = 0x080;
/// High 32 bits of the descriptor area's address, write-only.
pub const QUEUE_DESC_HIGH: u64 = 0x084;
/// Low 32 bits of the driver area's address, write-only.
pub const QUEUE_DRIVER_LOW: u64 = 0x090;
/// High 32 bits of the driver area's address, write-only.
pub const QUEUE_DRIVER_HIGH: u64 = 0x094;
/// Low 32 bits of the device area's address, write-only.
pub const QUEUE_DEVICE_LOW: u64 = 0x0a0;
/// High 32 bits of the device area's address, write-only.
pub const QUEUE_DEVICE_HIGH: u64 = 0x0a4;
/// Shared memory region select, write-only.
pub const SHM_SEL: u64 = 0x0ac;
/// Low 32 bits of the selected shared memory region's length, read-only; all ones if there is none.
pub const SHM_LEN_LOW: u64 = 0x0b0;
/// High 32 bits of the selected shared memory region's length, read-only.
pub const SHM_LEN_HIGH: u64 = 0x0b4;
/// Low 32 bits of the selected shared memory region's address, read-only.
pub const SHM_ADDR_LOW: u64 = 0x0b8;
/// High 32 bits of the selected shared memory region's address, read-only.
pub const SHM_ADDR_HIGH: u64 = 0x0bc;
/// Reset of the selected queue, read-write.
pub const QUEUE_RESET: u64 = 0x0c0;
/// Generation of the configuration space, read-only.
pub const CONFIG_GENERATION: u64 = 0x0fc;
/// Start of the device's configuration space.
pub const CONFIG: u64 = 0x100;

/// A buffer was used, in `INTERRUPT_STATUS` and in the PCI ISR (virtio 1.3 §4.1.4.5).
pub const INTERRUPT_QUEUE: u8 = 1;
/// The configuration changed, in `INTERRUPT_STATUS` and in the PCI ISR.
pub const INTERRUPT_CONFIG: u8 = 2;
