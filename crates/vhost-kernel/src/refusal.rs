//! [`Refusal`]: why the kernel does not serve.

use std::io;
use vioduct_virtio_device::BackendError;

/// What the kernel was to do, and its reason not to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("cannot open {node}: {source} ({remedy})")]
    Open { node: &'static str, source: io::Error, remedy: &'static str },
    #[error("the kernel does not {action}: {source}")]
    Request { action: &'static str, source: io::Error },
    #[error("{0}")]
    Unsuitable(String),
    #[error("cannot {action}: {source}")]
    System { action: &'static str, source: io::Error },
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
