//! `pci-demo`: a conventional PCI function with one 4-byte register in a trapped BAR, the smallest device there is to
//! emulate. Every load and store of the guest is one call here. Numbers are in [`vioduct_spec::pci_demo`], shared with
//! the guest's driver.
#![deny(clippy::indexing_slicing, clippy::panic)]

mod device;
#[cfg(test)]
mod tests;

pub use device::PciDemo;
