//! vhost-user: virtio devices across processes, over a Unix socket: served, and used.
//!
//! [`Server`] listens and gives every client a device of its own, made by the caller: anything that is a
//! [`Backend`](vioduct_virtio_device::Backend), usually [`Workers`](vioduct_virtio_device::Workers) around a device model. [`Frontend`] is the other end: a
//! device that any vhost-user server has, as a `Backend`, to be put behind virtio-mmio or virtio-pci.
//!
//! | module | what is in it |
//! |---|---|
//! | [`server`] | [`Server`], [`Limits`], [`Stopper`]: listening, clients, the end |
//! | [`conversation`] | [`Conversation`]: a server of one client, driven by the caller |
//! | [`frontend`] | [`Frontend`], [`SharedRegion`], [`Patience`]: a device that another process serves |
//! | `session` | what a front-end has said, and what follows from each of its requests; the thread of a connection |
//! | `vring` | what a front-end has said of one ring; bases and positions |
//! | `table`, `memory` | the regions that a front-end shares, and how devices reach them |
//! | `dirty_log` | the front-end's bitmap of what was written |
//! | `notify` | kicks and calls |
//! | `channel`, `events` | what a device says by itself, and the front-end's socket for it |
//! | `socket` | messages in and out of a socket |
//! | `wire` | messages as bytes, as rules, and as commands, for both ends |
//! | `features` | feature bits that are not the device's |
//! | [`error`] | why a request is refused, and why a server cannot start |
//!
//! # Peers
//! Whatever a client sends, it harms itself alone: a message that is not understood ends its connection, a request that cannot be
//! done is refused by its answer if it asked for one and ends the connection if not, every descriptor is closed in the end, and
//! nothing waits for one client in the thread of another. One thing takes the client's good will: memory in files that it can
//! shrink, which [`SharedFiles`] is about. And one is for the program to leave as Rust has it: SIGPIPE is ignored, or a client
//! that reads its device's state from a pipe and goes ends the program.
//!
//! Whatever a server sends to a front-end, or leaves unsaid, it is not believed and not waited for without end: the connection ends,
//! and another is sought. A server is trusted with the guest's memory, which it must have, and with nothing else: it learns no
//! address of the front-end's process.

#![deny(clippy::indexing_slicing)]
#![deny(clippy::panic)]

mod channel;
pub mod conversation;
mod dirty_log;
pub mod error;
mod events;
mod features;
pub mod frontend;
mod memory;
mod notify;
pub mod server;
mod session;
mod socket;
mod table;
mod vring;
mod wire;

pub use conversation::{Conversation, Turn};
pub use error::{FrontendError, ServerError};
pub use frontend::{Frontend, Patience, SharedRegion};
pub use server::{Limits, Server, Stopper};
pub use table::SharedFiles;
