//! Why a request is refused, why a server cannot start, and why a front-end cannot.

use std::io;
use std::path::PathBuf;
use vioduct_virtio_device::{BackendError, Features, MapError};
use vioduct_virtqueue::IoAddr;

/// Why one request is not done. The front-end learns of it by its answer, or by the end of the connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// It breaks a rule of the protocol.
    #[error("{0}")]
    Rule(&'static str),
    #[error("there is no ring {0}")]
    NoSuchRing(u32),
    #[error("ring {ring}: {reason}")]
    Ring { ring: u16, reason: &'static str },
    #[error("features not on offer: {0}")]
    Features(Features),
    #[error("no memory region holds the front-end's address {0:#x}")]
    Address(u64),
    #[error("{0}")]
    Memory(#[from] MapError),
    #[error("{0}")]
    Backend(#[from] BackendError),
    #[error("cannot {action}: {source}")]
    System { action: &'static str, source: io::Error },
}

impl Refusal {
    pub(crate) fn system(action: &'static str) -> impl Fn(rustix::io::Errno) -> Self {
        move |source| Self::System { action, source: source.into() }
    }
}

/// Why a server cannot be set up, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Someone answers at the path.
    #[error("another server listens at {}: stop it, or choose another path", .0.display())]
    InUse(PathBuf),
    /// Something that is no socket is at the path.
    #[error("{} exists and is not a socket: remove it, or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// The path cannot be listened at.
    #[error("cannot listen at {} (does its folder exist, can it be written, is it under 108 bytes long?): {source}", .path.display())]
    Listen {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The descriptor is no socket of a kind that vhost-user runs over.
    #[error("the descriptor is not a Unix stream socket: pass one that listens or is connected")]
    NotAStream,
    /// The operating system refused something.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// Its reason.
        source: io::Error,
    },
}

impl ServerError {
    pub(crate) fn system(action: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}

/// Why a front-end cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrontendError {
    /// There is no server, or it does not suit; with what to do about it.
    #[error("{0}")]
    Server(String),
    /// The descriptor is no socket of a kind that vhost-user runs over.
    #[error("the descriptor is not a Unix stream socket: pass one that is connected to a server")]
    NotAStream,
    /// vhost-user has no messages for so much configuration space.
    #[error("a configuration space of {0} bytes: declare at most 4096")]
    ConfigLength(usize),
    /// Memory that no other process can map.
    #[error("the memory at {0} is in no file, so that no server can map it: back it with a shared one")]
    PrivateMemory(IoAddr),
    /// The operating system refused something.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// Its reason.
        source: io::Error,
    },
}
