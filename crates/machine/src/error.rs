//! [`MachineError`]: why a machine cannot be.

use crate::ram::RamError;
use std::io;
use vioduct_pci::SetupError;

/// Why a machine cannot be set up, or does not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// KVM is not there, or not for this user.
    #[error("cannot open /dev/kvm: {0}: `vioduct doctor` says what to do")]
    NoKvm(io::Error),
    /// KVM refused.
    #[error("KVM cannot {action}: {source}")]
    Kvm {
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// Its reason.
        source: io::Error,
    },
    /// The system refused.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// Its reason.
        source: io::Error,
    },
    /// There is no RAM.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// A function is not as PCI demands, or there is no room on the bus.
    #[error(transparent)]
    Pci(#[from] SetupError),
    /// A virtio device cannot be a PCI function.
    #[error(transparent)]
    VirtioPci(#[from] vioduct_virtio_pci::SetupError),
    /// The tables that describe it cannot be written.
    #[error(transparent)]
    Acpi(#[from] crate::acpi::AcpiError),
    /// There is no RAM where a processor begins.
    #[error("the guest has no memory for what a processor starts with: {0}: give it at least 16 MiB")]
    NoRoom(vioduct_virtqueue::MemoryFault),
    /// The kernel cannot be booted.
    #[error(transparent)]
    Boot(#[from] crate::boot::BootError),
    /// More windows than there are numbers for.
    #[error("there is room for {0} virtio-mmio devices: attach the others by PCI")]
    TooManyWindows(u32),
    /// A number of processors that a machine cannot have.
    #[error("{0} processors: choose 1 to {1}")]
    Processors(u8, u8),
}

impl MachineError {
    /// A refusal by KVM.
    pub(crate) fn kvm(action: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |error| Self::Kvm { action, source: io::Error::from_raw_os_error(error.errno()) }
    }

    pub(crate) fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}
