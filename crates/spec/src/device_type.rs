//! Device type numbers (virtio 1.3 §5).

/// Network card.
pub const NET: u32 = 1;
/// Block device.
pub const BLOCK: u32 = 2;
/// Console.
pub const CONSOLE: u32 = 3;
/// Entropy source (virtio 1.3 §5.4): one queue of device-writable buffers, no features, no configuration space.
pub const ENTROPY: u32 = 4;
/// Traditional memory balloon.
pub const BALLOON: u32 = 5;
/// SCSI host.
pub const SCSI: u32 = 8;
/// 9P transport.
pub const NINE_P: u32 = 9;
/// Socket.
pub const VSOCK: u32 = 19;
/// File system.
pub const FS: u32 = 26;
/// The number that the virtio-test lab uses; virtio 1.3 has since given it to SPI controllers.
pub const TEST: u32 = 45;
/// `virtio-demo`. Unassigned as of virtio 1.4, and the last number that fits the virtio-pci device ids (0x1040 + 63 =
/// 0x107f): numbers are assigned upwards, so the top one will be taken last.
pub const DEMO: u32 = 63;

/// The name by which the specification calls a device type, or `unknown`.
#[must_use]
pub const fn name(device_type: u32) -> &'static str {
    match device_type {
        NET => "network card",
        BLOCK => "block device",
        CONSOLE => "console",
        ENTROPY => "entropy source",
        BALLOON => "memory balloon",
        SCSI => "SCSI host",
        NINE_P => "9P transport",
        VSOCK => "socket device",
        FS => "file system",
        TEST => "virtio-test",
        DEMO => "virtio-demo",
        _ => "unknown",
    }
}
