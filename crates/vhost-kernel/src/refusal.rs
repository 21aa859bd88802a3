//! [`Refusal`]: why the kernel does not serve.

use std::io;
use vioduct_virtio_device::BackendError;

/// What the kernel was to do, and its reason not to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no node that could be asked.
    #[error("cannot open {node}: {source} ({remedy})")]
    Open {
        /// Its path.
        node: &'static str,
        /// Why.
        source: io::Error,
        /// What could be done about it.
        remedy: &'static str,
    },
    /// An ioctl has failed.
    #[error("the kernel does not {action}: {source}")]
    Request {
        /// What was asked.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It cannot do what is needed.
    #[error("{0}")]
    Unsuitable(String),
    /// This process lacks something.
    #[error("cannot {action}: {source}")]
    System {
        /// What it was to do.
        action: &'static str,
        /// Why it could not.
        source: io::Error,
    },
}

impl Refusal {
    /// Of a device node, which there is once `remedy` is done.
    pub(crate) fn open(node: &'static str, remedy: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied => {
                Self::Open { node, source, remedy: "run as root, or change its mode" }
            }
            _ => Self::Open { node, source, remedy },
        }
    }

    pub(crate) fn no_eventfd(source: io::Error) -> Self {
        Self::System { action: "make an eventfd (raise the limit of open files)", source }
    }
}

impl From<Refusal> for BackendError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::System { action, source } => Self::System { action, source },
            other => Self::Other(other.to_string()),
        }
    }
}
