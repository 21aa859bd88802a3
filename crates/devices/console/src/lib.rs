//! The virtio console device (virtio 1.3 §5.3) with one port: what a guest writes goes to a file, a terminal or standard output, and
//! what is typed comes from there.
//!
//! | module | what is in it |
//! |---|---|
//! | `device` | [`Console`]: identity, configuration space, features; [`Window`]: its size |
//! | `options` | the device that `console,path=…` describes |
//! | `line` | [`Line`]: what the console is connected to |
//! | `wire` | one direction of a line: reads and writes that never wait |
//! | `keyboard` | input that waits for the driver's buffers |
//! | `screen` | output that waits for whoever reads it |
//! | `request` | what a buffer must be |
//! | `handler` | serves the two queues |

#![deny(clippy::indexing_slicing)]
#![deny(clippy::panic)]

mod device;
mod handler;
mod keyboard;
mod line;
mod options;
mod request;
mod screen;
#[cfg(test)]
mod tests;
mod wire;

pub use device::{Console, Size, Window};
pub use keyboard::MAX_UNREAD_BYTES;
pub use line::Line;
pub use request::MAX_BUFFER_BYTES;
pub use screen::MAX_UNSENT_BYTES;
