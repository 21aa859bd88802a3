//! A PCI function tunnelled over a virtqueue: any [`PciFunction`](vioduct_pci::PciFunction) for a kernel that has no PCI bus.
//!
//! User-Mode Linux has such a kernel: its `virtio_pcidev` driver (`CONFIG_UML_PCI_OVER_VIRTIO`) turns every access to
//! configuration space or a BAR into a message on a virtqueue, and messages on another into interrupts. No standard has it; its
//! definition is Linux's header `linux/virtio_pcidev.h`, after which [`protocol`] is written.
//!
//! [`PciDev`] is the device, with the function in it; [`Tunnel`] is the back-end around it, which also lets the function at
//! the memory that its queues lie in. A virtio device in a tunnel is virtio-pci in it:
//!
//! ```
//! use vioduct_virtio_demo::VirtioDemo;
//! use vioduct_virtio_device::Workers;
//! use vioduct_virtio_pcidev::{PciDev, Tunnel};
//!
//! let device = PciDev::virtio(Workers::new(VirtioDemo::default()))?;
//! let tunnel = Tunnel::new(device, Workers::new); // a back-end, to be served over vhost-user
//! # Ok::<(), vioduct_virtio_pcidev::SetupError>(())
//! ```
//!
//! | module | what is in it |
//! |---|---|
//! | [`protocol`] | messages: operations, header, queues |
//! | [`device`] | [`PciDev`]: the function as a device model |
//! | [`tunnel`] | [`Tunnel`]: the back-end that gives the function its memory |
//! | `commands` | queue 0: what each command does |
//! | `interrupts` | queue 1: interrupts on their way into the driver's buffers |
//! | [`error`] | [`SetupError`]: a function that cannot be tunnelled |
//!
//! # What a driver may expect
//!
//! Writes are posted: they take effect in order, before any later read is answered. A command that cannot be (a size that
//! configuration space does not have, bytes beyond a BAR, a message or a buffer too short) reads as all ones and writes nothing.
//! An interrupt for which no buffer is available waits for one; what is raised again meanwhile is one interrupt, as in a pending
//! bit. INTx is one message when the pin is asserted, for the protocol has no levels.
//!
//! # User-Mode Linux
//!
//! Tried with Linux 7.2. It has no INTx (a driver there needs MSI-X), reads back with a polling wait
//! (`virtio_pcidev.max_delay_us=` on its command line bounds it), and its `memset_io` sends a write of configuration space
//! where it means to fill a BAR; such a message is refused unless its size and BAR make it look like a real one.
#![deny(clippy::indexing_slicing, clippy::panic)]

mod commands;
pub mod device;
pub mod error;
mod interrupts;
pub mod protocol;
#[cfg(test)]
mod tests;
pub mod tunnel;

pub use device::PciDev;
pub use error::SetupError;
pub use tunnel::Tunnel;
