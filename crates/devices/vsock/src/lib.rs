//! The virtio socket device (virtio 1.3 §5.10): stream connections between programs of a guest and programs of its host, which have
//! Unix sockets. A host program that connects to the device's socket and says `CONNECT PORT` reaches the guest's program that listens
//! on that port; a guest's program that connects to the host's port reaches the host program that listens on the socket of that name
//! and `_PORT`.
//!
//! | module | what is in it |
//! |---|---|
//! | `device` | [`Vsock`]: identity, configuration space, state |
//! | `options` | the device that `vsock,cid=…` describes |
//! | `host` | the host's sockets: [`Listener`] for its programs, and connections to them |
//! | `greeting` | what a host program says before it is connected |
//! | `request` | what a packet of the driver's must be |
//! | `credit` | how much either side may send |
//! | `connection` | one connection: what is under way, and what is to be said next |
//! | `table` | all connections, within their limits |
//! | `handler` | serves the queues |

#![deny(clippy::indexing_slicing)]
#![deny(clippy::panic)]

mod connection;
mod credit;
mod device;
mod greeting;
mod handler;
mod host;
mod options;
mod request;
mod table;
#[cfg(test)]
mod tests;

pub use credit::BUFFER_BYTES;
pub use device::{Setup, Vsock};
pub use greeting::MAX_GREETINGS;
pub use handler::MAX_REPLIES;
pub use host::{ListenError, Listener};
pub use table::MAX_CONNECTIONS;
