//! The virtio-mmio register window, version 2 (virtio 1.3 §4.2.2), as a decoder over an
//! [`Endpoint`](vioduct_virtio_device::Endpoint).
//!
//! | module | what is in it |
//! |---|---|
//! | `window` | [`Mmio`]: accesses in, device out |
//! | `registers` | offsets to registers |
//! | `interrupts` | [`InterruptLine`]: interrupt status and its one level-triggered line |

#![deny(clippy::indexing_slicing)]
#![deny(clippy::panic)]

mod interrupts;
mod registers;
mod window;

#[cfg(test)]
mod tests;

pub use interrupts::{InterruptLine, Level};
pub use window::{Mmio, VENDOR_ID};
