//! PCI from the driver's side: configuration space, BARs, capabilities, MSI-X, and virtio over them (virtio 1.3 §4.1).

mod config_access;

pub use config_access::{ConfigAccess, FunctionAddress};
