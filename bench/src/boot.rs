//! What it costs to start a guest: time, exits, memory, in several virtual machine monitors.
//!
//! | module | what is in it |
//! |---|---|
//! | [`monitor`] | ours and QEMU's microvm, told to boot the same |
//! | [`start`] | one start: watched to a sign of the guest's, and measured there |
//! | [`exits`] | KVM's counts of how often a guest was left |
//! | [`first_instruction`] | a kernel that gives a sign and does nothing else |
//! | [`standstill`] | whether the emulated host's time goes on |

pub mod exits;
pub mod first_instruction;
pub mod monitor;
pub mod standstill;
pub mod start;
