//! Constants and little-endian structures of the virtio specification (1.3, with the 1.4 drafts where named) and of the
//! project's own devices: one module per chapter, no behaviour.
//!
//! | module | chapter |
//! |---|---|
//! | [`features`] | virtio 1.3 §6, reserved feature bits, and the [`Features`] set |
//! | [`status`] | virtio 1.3 §2.1, device status bits |
//! | [`ring`] | virtio 1.3 §2.7 and §2.8, virtqueues |
//! | [`mmio`] | virtio 1.3 §4.2, the register window |
//! | [`pci`] | virtio 1.3 §4.1, virtio over PCI |
//! | [`device_type`] | virtio 1.3 §5, device type numbers |
//! | [`net`] | virtio 1.3 §5.1, network cards |
//! | [`blk`] | virtio 1.3 §5.2, block devices |
//! | [`console`] | virtio 1.3 §5.3, consoles |
//! | [`vsock`] | virtio 1.3 §5.10, socket devices |
//! | [`vhost`] | Linux's vhost, `linux/vhost.h` |
//! | [`demo`], [`mod@test`], [`pci_demo`], [`vhost_demo`] | devices of this project |
//! | [`host_instructions`] | an emulated host's count of its instructions |
#![no_std]

pub mod blk;
pub mod console;
pub mod demo;
pub mod device_type;
pub mod features;
pub mod host_instructions;
pub mod mmio;
pub mod net;
pub mod pci;
pub mod pci_demo;
pub mod ring;
pub mod status;
pub mod test;
pub mod vhost;
pub mod vhost_demo;
pub mod vsock;

pub use features::Features;
pub use status::Status;
