//! What the ring chapters of virtio 1.3 demand, a test for each clause, named by its section. The driver end is judged by the
//! bytes that it writes, the device end by what it makes of bytes written here: never one end by the other alone.
#![allow(clippy::unwrap_used)]

mod buffers;
mod in_order;
mod notifications;
mod packed;
mod packed_driver;
mod reset;
#[path = "../rig/mod.rs"]
mod rig;
mod split;
mod split_driver;
