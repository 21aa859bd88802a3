//! vhost-user: devices of this project, served to virtual machine monitors in other processes over a Unix socket.
//!
//! [`Server`] listens and gives every client a device of its own, made by the caller: anything that is a
//! [`Backend`](vioduct_virtio_device::Backend), usually [`Workers`](vioduct_virtio_device::Workers) around a device model.
//!
//! | module | what is in it |
//! |---|---|
//! | [`server`] | [`Server`], [`Limits`], [`Stopper`]: listening, clients, the end |
//! | [`conversation`] | [`Conversation`]: a server of one client, driven by the caller |
//! | `session` | what a front-end has said, and what follows from each of its requests; the thread of a connection |
//! | `vring` | what a front-end has said of one ring; bases and positions |
//! | `table`, `memory` | the regions that a front-end shares, and how devices reach them |
//! | `dirty_log` | the front-end's bitmap of what was written |
//! | `notify` | kicks and calls |
//! | `channel`, `events` | what a device says by itself, and the front-end's socket for it |
//! | `socket` | messages in and out of a socket |
//! | `wire` | messages as bytes, as rules, and as commands |
//! | [`error`] | why a request is refused, and why a server cannot start |
//!
//! # Peers
//! Whatever a client sends, it harms itself alone: a message that is not understood ends its connection, a request that cannot be
//! done is refused by its answer if it asked for one and ends the connection if not, every descriptor is closed in the end, and
//! nothing waits for one client in the thread of another. One thing takes the client's good will: memory in files that it can
//! shrink, which [`SharedFiles`] is about.

#![deny(clippy::indexing_slicing)]
#![deny(clippy::panic)]

mod channel;
pub mod conversation;
mod dirty_log;
pub mod error;
mod events;
mod memory;
mod notify;
pub mod server;
mod session;
mod socket;
mod table;
mod vring;
mod wire;

pub use conversation::{Conversation, Turn};
pub use error::ServerError;
pub use server::{Limits, Server, Stopper};
pub use table::SharedFiles;
