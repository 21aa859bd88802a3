//! A plugin of QEMU's emulation that counts the instructions of an emulated host, apart from those of its guests.
//!
//! QEMU emulates the host, whose KVM runs guests by AMD's `VMRUN`. What is executed from a `VMRUN` until QEMU is back at the instruction
//! behind it is the guest's; all else is the host's: its kernel, its programs, its interrupts. Waiting executes nothing. A program
//! there asks by an instruction of its own ([`vioduct_spec::host_instructions`]) and has the answer in a register.
//!
//! - `account`: what a processor has executed, and for whom.
//! - `place`: which instructions matter.
//! - `plugin`: what happens at them.
//! - `qemu`: QEMU's interface for plugins.

mod account;
mod place;
mod plugin;
mod qemu;
