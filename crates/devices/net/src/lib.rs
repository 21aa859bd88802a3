//! The virtio network card (virtio 1.3 §5.1) over a TAP interface, over packet sockets, or before a mirror.
//!
//! | module | what is in it |
//! |---|---|
//! | `device` | [`Net`]: identity, features, configuration space, state |
//! | `options` | the device that `net,tap=…` describes |
//! | `port` | [`Port`]: what the card is plugged into |
//! | `tap` | [`Tap`]: an interface of the host's |
//! | `sockets` | [`Sockets`]: a socket per pair of queues |
//! | `reflector` | [`Reflect`]: packets come back with their addresses exchanged |
//! | `mirror` | one packet from one buffer of the driver's to another |
//! | `cable` | [`Cable`]: the state of the link |
//! | `filter` | which packets the driver wants |
//! | `control` | serves the control queue |
//! | `request` | what a packet's header, and a buffer, must be |
//! | `receiver`, `transmitter` | packets from a port, and to it |
//! | `handler` | serves a pair of queues |

#![deny(clippy::indexing_slicing)]
#![deny(clippy::panic)]

mod cable;
mod control;
mod device;
mod filter;
mod handler;
mod mirror;
mod options;
mod port;
mod receiver;
mod reflector;
mod request;
mod sockets;
mod tap;
#[cfg(test)]
mod tests;
mod transmitter;

pub use cable::{Cable, Link};
pub use device::{Dropped, MAX_QUEUE_PAIRS, Net, Setup};
pub use filter::Address;
pub use port::{Pair, Port, Presence};
pub use receiver::COPIES_RECEIVED;
pub use reflector::Reflect;
pub use sockets::Sockets;
pub use tap::{Tap, TapError};
pub use transmitter::COPIES_SENT;
pub use vioduct_spec::net::MAX_FRAME_BYTES;
