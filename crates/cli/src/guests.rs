//! Labs in real guests: a Linux kernel of the guest kit boots in User-Mode Linux or QEMU, with a device of ours attached from
//! outside, and its own drivers and programs do what a lab asks.

mod boot;
mod console;
mod kit;
mod kvm;
mod labs;
mod machine;
mod network;
mod qemu;
mod reading;
mod served;
mod uml;

pub(crate) use kit::Kit;
pub(crate) use labs::{DataPath, GuestLab};
pub(crate) use machine::Machine;
pub(crate) use network::{run as run_network, why_not as why_no_network};

/// What the kernel is told in every guest with a serial line. It does not try its ciphers, which takes seconds where a processor is emulated.
const KERNEL_WORDS: &str = "console=ttyS0 loglevel=5 panic=-1 cryptomgr.notests";
