//! Set-up errors. What a client does wrong is not among them: it is refused, or disconnected, and logged.

use std::io;
use std::path::PathBuf;

/// Why a device cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The function is not as PCI demands.
    #[error(transparent)]
    Function(#[from] vioduct_pci::SetupError),
    /// The virtio device cannot be a PCI function.
    #[error(transparent)]
    Virtio(#[from] vioduct_virtio_pci::SetupError),
    /// A server listens there.
    #[error("{0} is served already: stop that server, or choose another path")]
    InUse(PathBuf),
    /// The path is of something else.
    #[error("{0} is not a socket: remove it, or choose another path")]
    NotASocket(PathBuf),
    /// The socket cannot be made.
    #[error(
        "cannot listen at {path} (is the directory there and writable, and the path under 108 bytes?): {source}"
    )]
    Listen {
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The inherited descriptor is not what it should be.
    #[error("the descriptor is not a stream socket, listening or connected: {0}")]
    Descriptor(io::Error),
    /// The system refused something.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// Its reason.
        source: io::Error,
    },
}
