//! What needs a real guest: the commands of docs/attach.md, and Linux's drivers under programs with faults.
//!
//! `cargo xtask test` provides the guest kit and runs these; alone: `cargo xtask guest`, then
//! `cargo test -p vioduct --features guest-tests --test guests`.
#![allow(clippy::unwrap_used)]

mod documents;
mod drivers;
mod rig;
mod sockets;
