//! What this host's KVM can do.
//!
//! [`probe`] runs a guest of a few dozen bytes and tells KVM that runs guests from KVM that merely opens.
#![deny(clippy::indexing_slicing)]
#![deny(clippy::panic)]

pub mod layout;
pub mod probe;
