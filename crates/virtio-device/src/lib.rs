//! Write a virtio device once, attach it every way: the device-side traits and what runs them.
//!
//! | module | what is in it |
//! |---|---|
//! | [`model`] | [`DeviceModel`] and [`DeviceInfo`]: what a device author writes and declares |
//! | [`handler`] | [`QueueHandler`], [`Wake`], [`Io`]: how a device's code is driven |
//! | [`backend`] | [`Backend`]: anything that serves virtqueues, and what it is given |
//! | [`inline`], [`workers`] | [`Inline`] and [`Workers`]: a model as a back-end, stepped or threaded |
//! | [`endpoint`] | [`Endpoint`]: the state machine that transports decode onto |
//! | [`memory`] | [`MemoryMap`]: guest memory as mapped regions |
//! | [`options`] | [`Options`]: the `name,key=value` grammar of every device |
//! | [`poll_window`] | [`PollWindow`]: how long to look for work before sleeping |
//! | [`rate_limit`] | [`RateLimit`]: for log lines that a peer causes |
//! | [`rig`] | [`Rig`](rig::Rig): the smallest machine, for tests and examples of a device |
//!
//! A whole device, which answers a text in capitals, and a driver's request to it:
//!
//! ```
//! use vioduct_virtio_device::{
//!     rig::Rig, DeviceInfo, DeviceModel, Fault, Features, Handlers, Inline, Io, QueueHandler, Wake,
//! };
//!
//! struct Capitals;
//!
//! impl DeviceModel for Capitals {
//!     fn info(&self) -> DeviceInfo {
//!         DeviceInfo::new(63, "capitals", vec![16])
//!     }
//!     fn handlers(&mut self, _negotiated: Features) -> Handlers {
//!         vec![(0..1, Box::new(Capitals))]
//!     }
//! }
//!
//! impl QueueHandler for Capitals {
//!     fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
//!         let Wake::Kick(q) = why else { return Ok(()) };
//!         io.serve(q, |chain| {
//!             let mut text = [0; 32];
//!             let len = chain.reader().read(&mut text)?;
//!             text.make_ascii_uppercase();
//!             chain.writer().write_all(&text[..len])?;
//!             Ok(len as u32)
//!         })
//!     }
//! }
//!
//! let mut rig = Rig::new(Inline::new(Capitals), Features::RING_PACKED)?;
//! let reply = rig.request(0, b"hello", 8)?;
//! assert_eq!((reply.written, &reply.bytes[..5]), (5, &b"HELLO"[..]));
//! # Ok::<(), vioduct_virtio_device::rig::RigError>(())
//! ```

#![deny(clippy::indexing_slicing)]
#![deny(clippy::panic)]

pub mod backend;
mod counters;
pub mod endpoint;
pub mod handler;
pub mod inline;
mod lane;
pub mod memory;
pub mod model;
pub mod options;
pub mod poll_window;
pub mod rate_limit;
pub mod rig;
mod serving;
mod sources;
#[cfg(test)]
mod tests;
mod worker;
pub mod workers;

pub use backend::{Backend, BackendError, EventFd, Host, HostEvents, QueueSetup, Signal};
pub use counters::{Meter, QueueStats};
pub use endpoint::{
    Area, Endpoint, EndpointState, Half, QueueState, RestoreError, StatusWrite, TransportInterrupts,
};
pub use handler::{Budget, Fault, Interest, Io, QueueHandler, SourceId, Wake};
pub use inline::{Inline, Step};
pub use memory::{Backing, MapError, MemoryMap, RegionSetup};
pub use model::{ConfigAccess, DeviceInfo, DeviceModel, Handlers, StateError};
pub use options::{OptionError, Options};
pub use poll_window::PollWindow;
pub use rate_limit::RateLimit;
pub use vioduct_spec::Features;
pub use vioduct_virtqueue::{BufferError, Burst, Chain, Next, Reader, Single, Writer, fetch};
pub use workers::{BusyPoll, WorkerPolicy, Workers};
