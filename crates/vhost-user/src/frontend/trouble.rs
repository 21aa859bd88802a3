//! [`Trouble`]: why a server does not do as it is asked.

use crate::wire::{Request, WireError};
use std::io;
use std::time::Duration;
use vioduct_virtio_device::BackendError;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// This connection is of no more use; another may be.
    #[error("the connection to the vhost-user server is lost: {0}")]
    Lost(#[from] WireError),
    /// The server does not do it; the connection goes on.
    #[error("the vhost-user server refuses {0:?}; see its log for the reason")]
    Refused(Request),
    /// What the server offers is not what is needed.
    #[error("the vhost-user server {0}")]
    Unsuitable(String),
    #[error("cannot {action}: {source}")]
    System { action: &'static str, source: io::Error },
}

impl Trouble {
    pub(super) fn closed() -> Self {
        lost(io::ErrorKind::UnexpectedEof, "the server has closed it".into())
    }

    pub(super) fn late(limit: Duration) -> Self {
        lost(io::ErrorKind::TimedOut, format!("the server has not answered within {limit:?}"))
    }

    /// The same as the end of the connection: after this nobody knows what the server has done of what it was told.
    pub(super) fn end(self) -> Self {
        match self {
            Self::Lost(_) => self,
            other => lost(io::ErrorKind::Other, other.to_string()),
        }
    }

    /// Whether the server may still be at work.
    pub(super) fn is_late(&self) -> bool {
        matches!(self, Self::Lost(WireError::Socket(error)) if error.kind() == io::ErrorKind::TimedOut)
    }

    pub(super) fn system(action: &'static str) -> impl Fn(rustix::io::Errno) -> Self {
        move |source| Self::System { action, source: source.into() }
    }
}

fn lost(kind: io::ErrorKind, what: String) -> Trouble {
    Trouble::Lost(io::Error::new(kind, what).into())
}

impl From<Trouble> for BackendError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::System { action, source } => Self::System { action, source },
            other => Self::Other(other.to_string()),
        }
    }
}
