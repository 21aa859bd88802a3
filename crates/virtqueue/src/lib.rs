//! Both ends of the virtqueue, split and packed (virtio 1.3 §2.7, §2.8), `no_std` with `alloc`.
//!
//! - [`Queue`] is the device end. It is bound to its [`Memory`] once; it lends buffers as [`Chain`] tokens, completed in any
//!   order and published in batches. What the driver wrote is read once, checked, and used from a private copy.
//! - [`DriverQueue`] is the driver end, by the operations that drivers know: add, kick, get, callbacks off and on. It keeps a
//!   private shadow of all it needs, so that a lying device breaks the queue and nothing else.
//!
//! | module | what is in it |
//! |---|---|
//! | [`memory`] | addresses, [`Memory`], [`MemoryFault`] |
//! | [`layout`] | sizes, areas, positions with wrap counters |
//! | [`chain`] | [`Chain`], [`Reader`], [`Writer`] |
//! | [`burst`] | [`Burst`]: buffers of one piece each, on loan together |
//! | [`device`] | [`Queue`] |
//! | [`driver`] | [`DriverQueue`] |
//! | [`inflight`] | what is in flight, recorded for whoever serves the queue after a crash |
//! | [`error`] | set-up errors and faults of the other side |
//! | [`view`] | a queue's memory, printed for people |
//!
//! Both layouts are written over one private trait, `Area`, which is a mapped pointer in use, [`Memory`] messages where the
//! ring is not mapped, and `loom`'s memory model in the tests.
#![no_std]
#![deny(clippy::indexing_slicing)]
#![deny(clippy::panic)]

extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

mod area;
mod buffers;
pub mod burst;
pub mod chain;
pub mod device;
pub mod driver;
pub mod error;
mod event;
pub mod fetch;
pub mod inflight;
pub mod layout;
#[cfg(test)]
mod loom_tests;
pub mod memory;
mod order;
mod packed;
mod slots;
mod split;
pub mod view;

pub use burst::{Burst, Next, Single};
pub use chain::{BufferError, Chain, Reader, Segment, Writer};
pub use device::{MoreWork, Notify, Queue};
pub use driver::{AddError, Buffer, Completion, DriverQueue, IndirectMemory, Kick, RingMemory};
pub use error::{QueueError, SetupError};
pub use inflight::InFlightArea;
pub use layout::{AreaSizes, QueuePosition, RingFormat, RingIndex, RingLayout, Wrap, is_valid_size};
pub use memory::{Access, IoAddr, Memory, MemoryFault, Region};
pub use view::RingView;

/// Whether checks of what the peer wrote are compiled in. Always, but in the benchmark that measures their cost.
pub(crate) const CHECKED: bool = !cfg!(vioduct_unchecked);
