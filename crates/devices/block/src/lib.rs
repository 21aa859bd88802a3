//! The virtio block device (virtio 1.3 §5.2) over a raw file or block device: what a guest reads and writes is transferred
//! between the file and the guest's own memory, by io_uring or by threads.
//!
//! | module | what is in it |
//! |---|---|
//! | `device` | [`Block`]: identity, configuration space, features |
//! | `options` | the device that `block,path=…` describes |
//! | `disk` | the file, and what of it can be used |
//! | `request` | a request, read and checked |
//! | `handler` | takes requests in, and completes them as their operations end |
//! | `flight` | a request on its way: its next operation, and what has come of the last |
//! | `engine` | what carries operations out: io_uring, threads, or nothing at all |

#![deny(clippy::indexing_slicing)]
#![deny(clippy::panic)]

mod device;
mod disk;
mod engine;
mod flight;
mod handler;
mod options;
mod request;
#[cfg(test)]
mod tests;

pub use device::{Block, Pace};
pub use engine::{Method, io_uring_works};
pub use request::{MAX_RANGE_SECTORS, MAX_RANGES};
