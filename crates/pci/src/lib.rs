//! PCI functions: what a function author writes, and the one place that joins it with configuration space, BAR
//! decoding and interrupts so that any host can carry it.
//!
//! A function ([`PciFunction`]) is addressed by (BAR, offset) and never learns an address, a bus number or who hosts
//! it. A host wraps it in [`Hosted`] and passes on what its guest does; its half of the bargain is an
//! [`InterruptSink`]. Hosts are a [`Bus`] in a machine of ours, a vfio-user server, a user-mode Linux socket, or a test.
//!
//! | module | what is in it |
//! |---|---|
//! | [`function`] | [`PciFunction`], the trait, and what it is given and asked |
//! | [`dma`] | [`DmaFunction`]: a function whose memory a host may change |
//! | [`function_spec`] | [`FunctionSpec`]: ids, BARs, capabilities, MSI-X, as declared by a function |
//! | [`interrupts`] | [`Interrupts`] for functions, [`InterruptSink`] for hosts: INTx and MSI-X |
//! | [`hosted`] | [`Hosted`]: a function with its configuration space, as a host sees it |
//! | [`bus`] | [`Bus`]: 32 devices of 8 functions behind ECAM and an address decoder |
//! | [`traced`] | [`Traced`]: counts what a guest does to a function |
//! | [`registers`] | offsets and bits of configuration space |
//! | [`error`] | [`SetupError`]: a function or a bus that cannot be as described; [`StateError`] |
//!
//! Nothing a guest does makes this crate panic, block or allocate without bound: what an access may not do reads as
//! all ones and writes nothing.
#![deny(clippy::indexing_slicing, clippy::panic)]

pub mod bus;
mod config;
pub mod dma;
pub mod error;
pub mod function;
pub mod function_spec;
pub mod hosted;
pub mod interrupts;
mod msix;
pub mod registers;
pub mod traced;
mod validate;

pub use bus::{Apertures, Bus, Claim, Slot};
pub use dma::{DmaFunction, RegistersOnly};
pub use error::{SetupError, StateError};
pub use function::{
    BarWindow, BusMaster, CapabilityAction, CapabilityTouch, Controls, FunctionHost, PciFunction,
};
pub use function_spec::{BarKind, BarSpec, Capability, FunctionSpec, InterruptPin, MsixSpec};
pub use hosted::{ConfigEffect, Hosted, SharedFunction};
pub use interrupts::{
    InterruptSink, Interrupts, Level, MsiMessage, NoInterrupts, TableOwner, Vector, VectorState,
};
pub use traced::{Counters, Traced};
