//! PCI from the driver's side: configuration space, BARs, capabilities, MSI-X, and virtio over them (virtio 1.3 §4.1).

mod bar;
mod capability;
mod config_access;
mod config_window;
mod error;
mod function;
mod msix;
mod registers;
#[cfg(test)]
mod tests;
mod transport;

pub use bar::{Aperture, Bar, BarAccess, BarAllocator, BarKind};
pub use capability::Structure;
pub use config_access::{ConfigAccess, FunctionAddress};
pub use config_window::{ConfigWindow, ConfigWindows};
pub use error::{CapabilityFault, ListFault, PciError};
pub use function::{Function, Identity, functions};
pub use msix::MsixMessage;
pub use transport::PciTransport;
