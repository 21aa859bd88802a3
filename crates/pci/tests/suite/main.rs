//! Tests of the crate from outside, as a host and a guest see it.
#![allow(clippy::unwrap_used)]

mod bus;
mod capability_window;
mod config_space;
mod declaration;
mod hostile;
mod interrupts;
mod probe;
mod saved;
