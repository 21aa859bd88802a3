//! Guest-side virtio drivers and the transports they run over, `no_std` with `alloc`.
//!
//! A driver is poll-first: submit requests, poll for completions; whoever wants to block hands in a closure that waits. Devices
//! are not trusted: what one says is checked, and answered by an error and never by a panic or a wild access.
//!
//! | module | what is in it |
//! |---|---|
//! | [`transport`] | [`Transport`]: what every way to a device offers, and its errors |
//! | [`register_window`] | [`RegisterWindow`]: registers at byte offsets; volatile memory, or a model |
//! | [`dma`] | [`Dma`]: memory that a device may access, and owned [`DmaBuffer`]s |
//! | [`pci`] | [`ConfigAccess`], the PCI bus |
#![no_std]
#![deny(clippy::indexing_slicing)]
#![deny(clippy::panic)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod dma;
pub mod pci;
pub mod register_window;
pub mod transport;

pub use dma::{Direction, Dma, DmaBuffer, DmaError, DmaRegion};
pub use pci::{ConfigAccess, FunctionAddress};
pub use register_window::{RegisterWindow, VolatileWindow, Width};
pub use transport::{Interrupts, Transport, TransportError};
