//! Virtio over PCI (virtio 1.3 §4.1): any [`Backend`](vioduct_virtio_device::Backend) as a PCI function.
//!
//! [`VirtioPci`] is a decoder over [`Endpoint`](vioduct_virtio_device::Endpoint): it holds selectors, vectors and the ISR,
//! and nothing else. It is modern only: no I/O BAR, no transitional ids.
//!
//! | module | what is in it |
//! |---|---|
//! | [`function`] | [`VirtioPci`]: the function, its life, and the accesses to its BAR |
//! | `common_config` | what the common configuration structure does when it is read and written |
//! | `registers` | that structure's fields as a table: offset, width, access |
//! | [`layout`] | where the structures lie in the BAR, their capabilities, [`Doorbell`] |
//! | `lines` | interrupts: events to vectors, the ISR, INTx |
//! | [`error`] | [`SetupError`]: a device that cannot be a PCI function |
//!
//! # Accesses
//!
//! Virtio 1.3 §4.1.3.1 has drivers use the width of each field, aligned. An access to the common configuration, the ISR or
//! a doorbell that does otherwise, and one that lies in no structure or not wholly in one, reads as zeros and writes
//! nothing. The device configuration is bytes: any width and alignment will do.
//!
//! # Bus mastering
//!
//! Queues run while the command register allows bus mastering, and stop, keeping their positions, while it does not:
//! a function must not access memory then (PCI 3.0 §6.2.2). A driver that sets DRIVER_OK first is served from the moment
//! when it allows it, and the log says what is being waited for.
#![deny(clippy::indexing_slicing)]
#![deny(clippy::panic)]

mod common_config;
pub mod error;
pub mod function;
pub mod layout;
mod lines;
mod registers;
#[cfg(test)]
mod tests;

pub use error::SetupError;
pub use function::{VirtioPci, configuration_action};
pub use layout::{Doorbell, configuration_capability};
