//! Why a machine cannot be set up as asked.

use vioduct_virtio_device::MapError;
use vioduct_virtio_driver::{DmaError, TransportError};

/// Why the machine cannot do what its owner asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// Not a possible amount of memory.
    #[error("{0} bytes of memory: ask for at least one and at most 6 GiB")]
    MemoryLength(usize),
    /// The system gives no memory.
    #[error("guest memory: {0}")]
    Memory(MapError),
    /// The guest's memory is used up.
    #[error("guest memory: {0}: give the machine more")]
    Dma(#[from] DmaError),
    /// There is no room on the bus, or a function is not as PCI demands.
    #[error("PCI: {0}")]
    Pci(#[from] vioduct_pci::SetupError),
    /// The device cannot be a virtio function.
    #[error("virtio-pci: {0}")]
    VirtioPci(vioduct_virtio_pci::SetupError),
    /// The device cannot be served over vhost-user.
    #[error("vhost-user: {0}")]
    VhostUser(String),
    /// Every window for a virtio-mmio device is taken.
    #[error("the machine has {0} virtio-mmio windows, and all are taken")]
    MmioFull(usize),
    /// The driver's side does not find or does not take the device.
    #[error("the driver does not get the device: {0}")]
    Probe(String),
    /// The transport failed.
    #[error("transport: {0}")]
    Transport(#[from] TransportError),
}
