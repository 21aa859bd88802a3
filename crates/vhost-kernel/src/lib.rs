//! vhost in the Linux kernel: queues of a device that the kernel serves, so that this process does nothing per request.
//!
//! [`KernelBackend`] is a [`Backend`](vioduct_virtio_device::Backend), to be put behind virtio-mmio or virtio-pci as any other. It wraps
//! one that serves the same device in this process, which keeps the configuration space and the queues that the kernel does not know,
//! and serves everything where the kernel does not.
//!
//! | module | what is in it |
//! |---|---|
//! | [`backend`] | [`KernelBackend`], [`Service`]: what the kernel serves, and the way back |
//! | [`kind`] | [`Kind`], [`Framing`]: vhost-net, vhost-vsock, vhost-demo |
//! | `unit` | one open device node: memory, rings, start and stop; `examples/packets.rs` has a real kernel stop and go on |
//! | `ring` | one queue as the kernel is told of it |
//! | `table` | guest memory, by the addresses of this process |
//! | `log` | pages that the kernel has written; `examples/dirty_log.rs` has a real kernel prove it |
//! | `translation` | what the kernel is told of the driver's addresses where those are the platform's (`ACCESS_PLATFORM`) |
//! | `watch` | the thread that hears of errors, of addresses that are none, and of used buffers where the driver's interrupt is no eventfd |
//! | [`ioctl`] | the requests by their numbers, for sandboxes |
//! | `request`, `node` | a request as its bytes, and making it |
//! | [`refusal`] | [`Refusal`]: why the kernel does not serve |

#![deny(clippy::indexing_slicing)]
#![deny(clippy::panic)]

pub mod backend;
pub mod ioctl;
pub mod kind;
mod log;
mod node;
pub mod refusal;
mod request;
mod ring;
mod table;
#[cfg(test)]
mod tests;
mod translation;
mod unit;
mod watch;

pub use backend::{KernelBackend, Service};
pub use kind::{Framing, Kind};
pub use refusal::Refusal;
