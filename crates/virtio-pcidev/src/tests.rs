//! A driver end by hand against the device, stepped.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod commands;
mod hostile;
mod interrupts;
mod lifecycle;
mod rig;
