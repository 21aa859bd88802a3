//! The no-VM machine: our drivers against our devices in one process, for labs, tests and experiments.
//!
//! A [`Machine`] has guest memory, a PCI bus and register windows, and counts what crosses. A device is attached at a
//! [`Depth`]: the deeper, the more of what a virtual machine has lies between the two ends, and all else stays the same.
//! Driver and device run on one thread, the device when it is stepped; or the device has threads of its own.
//!
//! | module | what is in it |
//! |---|---|
//! | [`machine`] | [`Machine`]: memory, bus, windows, counters |
//! | [`attached`] | [`Attached`]: a device in the machine, its transport, its steps |
//! | [`guest_memory`] | [`GuestDma`]: pages of guest memory for drivers |
//! | [`traffic`] | [`Traffic`], [`Crossing`]: what crosses, counted and listed |
//! | [`rig`] | [`Rig`]: one device, and a driver in a test's hands |
//! | [`mod@conformance`] | what every device must pass; [`conformance!`](crate::conformance!) makes the tests |
//! | [`faulty`], [`holding`] | memory that fails, a device that takes its time |
//! | [`write_check`] | [`WriteCheck`]: whether what a device writes is logged |
//! | [`served`] | [`Served`]: a device in its place, or behind a vhost-user connection |
//! | [`failure`] | [`Failure`]: what a test found |
//! | [`address_space`] | [`Window`], [`GuestConfig`]: registers and configuration space by address |
//! | `place`, `verbs`, `delivered`, `inbox` | where a device sits; the transport without registers; interrupts |

pub mod address_space;
pub mod attached;
pub mod conformance;
mod delivered;
pub mod error;
pub mod failure;
pub mod faulty;
pub mod guest_memory;
pub mod holding;
mod inbox;
pub mod machine;
mod place;
pub mod rig;
pub mod served;
pub mod traffic;
mod verbs;
pub mod write_check;

pub use address_space::{GuestConfig, Window};
pub use attached::{Attached, PciInterrupts, Stepped, Threaded};
pub use error::MachineError;
pub use failure::{Failure, Outcome};
pub use faulty::Faulty;
pub use guest_memory::GuestDma;
pub use holding::{Holding, Order, Release};
pub use machine::{Depth, Machine};
pub use rig::{Rig, Setup};
pub use served::Served;
pub use traffic::{Crossing, InterruptKind, Traffic};
pub use vioduct_virtio_device::rig::Reply;
pub use vioduct_virtqueue::RingFormat;
pub use write_check::WriteCheck;
