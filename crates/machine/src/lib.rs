//! A machine of our own on KVM: guests boot in it, with devices of this project and of other processes.
//!
//! ```no_run
//! use vioduct_machine::{BootSources, Builder, Pages, Parts};
//!
//! let parts = Parts { processors: 2, ram_bytes: 1 << 30, pages: Pages::Small };
//! let mut builder = Builder::new(parts)?;
//! builder.plug("pci-demo", vioduct_pci_demo::PciDemo::default())?;
//! let kernel = BootSources {
//!     kernel: "/boot/vmlinuz".into(),
//!     initrd: None,
//!     command_line: "console=ttyS0".into(),
//! };
//! let mut machine = builder.boot(&kernel, Box::new(std::io::stdout()))?;
//! println!("{:?}", machine.run()?);
//! # Ok::<(), vioduct_machine::MachineError>(())
//! ```
//!
//! | module | what is in it |
//! |---|---|
//! | `machine` | [`Builder`], [`Machine`]: put together, booted, run |
//! | `control` | [`Outcome`], [`Stopper`]: how it ends |
//! | `processor` | virtual CPUs and their threads |
//! | `space`, `plug`, `ports` | what traps, and what is behind it |
//! | `vm` | KVM: memory, interrupts (irqfd), doorbells (ioeventfd) |
//! | `ram` | [`ram::allocate`]: the guest's memory |
//! | [`layout`] | addresses, ports and interrupt numbers |
//! | [`boot`] | kernels: bzImage and PVH |
//! | [`acpi`] | tables that describe the machine |
//! | [`cpu`] | CPUID and the registers that a processor starts with |
//! | [`legacy`] | serial line, keyboard controller, clock, power |
//! | [`terminal`] | the terminal that the serial line is connected to |
//! | [`sandbox`] | what is left to this process once it runs guests |
//! | [`probe`] | a guest of a few dozen bytes that tells KVM that runs guests from KVM that merely opens |
#![deny(clippy::indexing_slicing)]
#![deny(clippy::panic)]

pub mod acpi;
pub mod boot;
mod control;
pub mod cpu;
pub mod error;
pub mod layout;
pub mod legacy;
mod machine;
mod plug;
mod ports;
pub mod probe;
mod processor;
pub mod ram;
pub mod sandbox;
mod space;
pub mod terminal;
mod vm;

pub use boot::BootSources;
pub use control::{Outcome, Stopper};
pub use error::MachineError;
pub use machine::{Builder, Doorbells, Keyboard, MAX_PROCESSORS, Machine, Parts, Traps};
pub use ram::Pages;
