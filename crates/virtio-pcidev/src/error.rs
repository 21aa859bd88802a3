//! Set-up errors. What a driver does wrong is not among them: it reads ones.

use std::io;

/// Why a function cannot be tunnelled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The function is not as PCI demands.
    #[error(transparent)]
    Function(#[from] vioduct_pci::SetupError),
    /// The virtio device cannot be a PCI function.
    #[error(transparent)]
    Virtio(#[from] vioduct_virtio_pci::SetupError),
    /// The process has no file descriptor left.
    #[error("cannot create an eventfd (raise the limit of open files): {0}")]
    Bell(io::Error),
}
