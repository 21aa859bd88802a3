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
//! | [`rate_limit`] | [`RateLimit`]: for log lines that a peer causes |

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
pub mod rate_limit;
mod serving;
mod sources;
mod worker;
pub mod workers;

pub use backend::{Backend, BackendError, EventFd, Host, HostEvents, QueueSetup, Signal};
pub use counters::QueueStats;
pub use endpoint::{
    Area, Endpoint, EndpointState, Half, QueueState, RestoreError, StatusWrite, TransportInterrupts,
};
pub use handler::{Budget, Fault, Interest, Io, QueueHandler, SourceId, Wake};
pub use inline::{Inline, Step};
pub use memory::{Backing, MapError, MemoryMap, RegionSetup};
pub use model::{ConfigAccess, DeviceInfo, DeviceModel, Handlers};
pub use options::{OptionError, Options};
pub use rate_limit::RateLimit;
pub use workers::{BusyPoll, WorkerPolicy, Workers};
