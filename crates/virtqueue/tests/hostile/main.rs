//! What hostile peers try, a row of `docs/conformance.md` each: never a panic, never an access outside of the memory shared with
//! the peer, and an error that stops this queue and nothing else.
#![allow(clippy::unwrap_used)]

mod bursts;
mod device;
mod double_fetch;
mod driver;
mod faults;
mod indirect;
mod remote;
#[path = "../rig/mod.rs"]
mod rig;
