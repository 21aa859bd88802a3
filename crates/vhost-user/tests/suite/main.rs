//! The server from outside: through its socket, by raw messages and by a small front-end.
#![allow(clippy::unwrap_used)]

mod config;
mod dirty_log;
mod hostile;
mod in_band;
mod inflight;
mod memory;
mod reconnect;
#[path = "../rig/mod.rs"]
mod rig;
mod rings;
mod server;
mod state;
