//! Set-up errors. What a client does wrong is not among them: it is refused, or disconnected, and logged; nor is a server that goes
//! away later.

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

/// Why a function of a server cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody is there.
    #[error("cannot connect to {path} (does a server listen there?): {source}")]
    Connect {
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The descriptor is not what it should be.
    #[error("the descriptor is not a connected stream socket")]
    NotAStream,
    /// The connection has ended.
    #[error("the vfio-user server does not {action}: {why} (it serves one client at a time)")]
    Lost {
        /// What was asked of it, as a verb phrase.
        action: &'static str,
        /// Why the connection has ended.
        why: &'static str,
    },
    /// The server does not do what is needed.
    #[error("the vfio-user server refuses to {action}: {source}: use another server")]
    Refused {
        /// What was asked of it, as a verb phrase.
        action: &'static str,
        /// Its reason.
        source: io::Error,
    },
    /// The server has something that is no PCI function, or not a possible one.
    #[error("what the vfio-user server has cannot be plugged: {0}")]
    Unsuitable(String),
    /// The system refused something.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// Its reason.
        source: io::Error,
    },
}
