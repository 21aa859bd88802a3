//! What the fuzz targets do with their bytes; `fuzz_targets/` only names them.
//!
//! | module | its targets |
//! |---|---|
//! | [`device`] | `device_split`, `device_packed`: the device end against a hostile driver |
//! | [`driver`] | `driver_split`, `driver_packed`: the driver end against a hostile device |
//! | [`ends`] | `ends`: both ends, honest, against a model of a queue |
//! | [`window`] | `mmio_window`: a driver that accesses a virtio-mmio window anyhow |
//! | [`pci`] | `pci_config`: a driver that accesses configuration spaces and BARs anyhow |
//! | [`restore`] | `restore`: a saved state that nobody saved |
//! | [`vhost_user`] | `vhost_user_server`: a front-end that says anything |
//! | [`vfio_user`] | `vfio_user_server`: a client that says anything |
//! | [`vsock`] | `vsock_packets`: a guest whose packets say anything, and host programs |
//!
//! [`input`] takes bytes apart, [`memory`] is a guest's memory of every kind, [`shared`] what clients of
//! other processes share. The seeds in `seeds/` are written by
//! `cargo run --example seeds`. To run a target:
//! `cargo +nightly fuzz run <target> fuzz/corpus/<target> fuzz/seeds/<target>`.

pub mod device;
pub mod driver;
pub mod ends;
pub mod input;
pub mod memory;
pub mod pci;
pub mod restore;
pub mod shared;
pub mod vfio_user;
pub mod vhost_user;
pub mod vsock;
pub mod window;
