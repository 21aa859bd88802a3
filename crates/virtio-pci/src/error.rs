//! Set-up errors: a device that cannot be a virtio function. Each says what to do.

/// Why a device cannot be shown over PCI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The PCI device ids end at 0x107f (virtio 1.3 §4.1.2).
    #[error(
        "device type {device_type} has no PCI device id: use a type from 1 to 63, or attach the device by mmio"
    )]
    DeviceType {
        /// The device type number.
        device_type: u32,
    },
    /// Drivers may map no more than a page of a structure (virtio 1.3 §4.1.4).
    #[error("a configuration space of {len} bytes: PCI drivers map at most {max}")]
    ConfigLen {
        /// Its length in bytes.
        len: usize,
        /// The greatest length in bytes.
        max: u64,
    },
    /// What a driver reads as a queue's size, before it negotiates packed rings, is a power of two, or 0 for a queue that
    /// is unavailable (virtio 1.3 §4.1.4.3.1).
    #[error(
        "queue {queue} has at most {size} descriptors: declare a power of two up to 32768, or 0 for a queue not there"
    )]
    QueueSize {
        /// The queue's number.
        queue: usize,
        /// The greatest size that the device declares.
        size: u16,
    },
    /// There are 2048 MSI-X vectors (PCI 3.0 §6.8.2): one for each queue, and one for the configuration.
    #[error("a device of {queues} queues: declare at most {max}, so that each can have an MSI-X vector")]
    QueueCount {
        /// How many it declares.
        queues: usize,
        /// The greatest number.
        max: u16,
    },
}
