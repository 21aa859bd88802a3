//! Guest-side virtio drivers and the transports they run over, `no_std` with `alloc`.
//!
//! A driver is poll-first: submit requests, poll for completions; whoever wants to block hands in a closure that waits. Devices
//! are not trusted: what one says is checked, and answered by an error and never by a panic or a wild access.
//!
//! | module | what is in it |
//! |---|---|
//! | [`transport`] | [`Transport`]: what every way to a device offers, and its errors |
//! | [`device`] | [`Device`]: the way from reset to running, as types |
//! | [`virtqueue`] | [`Virtqueue`]: a ring in DMA memory |
//! | [`request_queue`] | [`RequestQueue`]: requests and replies over a virtqueue |
//! | [`segmentation`] | how a request is cut into descriptors |
//! | [`config`] | fields of the configuration space, of one generation |
//! | [`demo`], [`mod@test`], [`entropy`], [`block`], [`console`], [`net`], [`vsock`] | one driver per device type |
//! | [`pci_demo`] | the driver of a PCI function that is not virtio |
//! | [`register_window`] | [`RegisterWindow`]: registers at byte offsets; volatile memory, or a model |
//! | [`dma`] | [`Dma`]: memory that a device may access, and owned [`DmaBuffer`]s |
//! | [`mmio`] | [`MmioTransport`] |
//! | [`pci`] | [`ConfigAccess`], the PCI bus, [`PciTransport`] |
//! | [`error`] | [`InitError`], [`RequestError`] |
#![no_std]
#![deny(clippy::indexing_slicing)]
#![deny(clippy::panic)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod block;
pub mod config;
pub mod console;
pub mod demo;
pub mod device;
pub mod dma;
pub mod entropy;
pub mod error;
#[cfg(test)]
mod fakes;
mod lent;
pub mod mmio;
pub mod net;
pub mod pci;
pub mod pci_demo;
pub mod register_window;
pub mod request_queue;
pub mod segmentation;
pub mod test;
pub mod transport;
pub mod virtqueue;
pub mod vsock;

pub use block::Block;
pub use console::Console;
pub use demo::Demo;
pub use device::{Device, Wanted};
pub use dma::{Direction, Dma, DmaBuffer, DmaError, DmaRegion};
pub use entropy::Entropy;
pub use error::{InitError, RequestError};
pub use mmio::{MmioError, MmioTransport};
pub use net::Net;
pub use pci::{ConfigAccess, FunctionAddress, PciError, PciTransport};
pub use pci_demo::PciDemo;
pub use register_window::{RegisterWindow, VolatileWindow, Width};
pub use request_queue::{Events, Options, RequestQueue, SlotShape, Taken, Ticket, Wait};
pub use segmentation::Segmentation;
pub use test::Test;
pub use transport::{Interrupts, Transport, TransportError};
pub use virtqueue::{QueueSetup, Virtqueue};
pub use vsock::Vsock;
