// SPDX-License-Identifier: GPL-2.0

//! The numbers that drivers and devices share: the files of the `spec` crate themselves.
//!
//! No driver needs all of them, and what is public in a crate is not in a module.
#![allow(dead_code, unreachable_pub)]

pub(crate) use features::Features;

#[path = "../crates/spec/src/demo.rs"]
pub(crate) mod demo;
#[path = "../crates/spec/src/device_type.rs"]
pub(crate) mod device_type;
#[path = "../crates/spec/src/features.rs"]
pub(crate) mod features;
#[path = "../crates/spec/src/pci_demo.rs"]
pub(crate) mod pci_demo;
#[path = "../crates/spec/src/test.rs"]
pub(crate) mod test;
#[path = "../crates/spec/src/vhost.rs"]
pub(crate) mod vhost;
#[path = "../crates/spec/src/vhost_demo.rs"]
pub(crate) mod vhost_demo;
