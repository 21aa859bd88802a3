//! Benchmarks against peers; never shipped.
//!
//! A machine's speed changes from second to second, so no figure stands alone: contenders take turns in short windows of one run,
//! and what counts is the ratio of their best windows.
//!
//! | module | what is in it |
//! |---|---|
//! | [`contest`] | contenders taking turns, window by window |
//! | [`guest`] | guest memory that both contenders can use, and rings in it |
//! | [`device_end`] | pop, walk, complete: against rust-vmm's `virtio-queue` |
//! | [`driver_end`] | add and get: against `virtio-drivers` |
//! | [`peer_driver`] | what `virtio-drivers` needs around it |
//! | [`bounce`] | both of our ends, on two cores |
//! | [`attach`] | devices in other processes: their start, their memory, requests and accesses |
//! | [`boot`] | starts of guests, against QEMU's microvm |
//! | [`disk`] | a disk in another process, against QEMU's storage daemon |
//! | [`packets`] | packets through another process, against DPDK |
//! | [`checks`] | our device end with and without its checks, as two programs |
//! | [`cores`] | processors for threads of their own |
//! | [`report`] | rows, as a table or as JSON |
//! | [`resident`] | memory of a process beside the guest's |

pub mod attach;
pub mod boot;
pub mod bounce;
pub mod checks;
pub mod contest;
pub mod cores;
pub mod device_end;
pub mod disk;
pub mod driver_end;
pub mod guest;
pub mod packets;
pub mod peer_driver;
pub mod report;
pub mod resident;
