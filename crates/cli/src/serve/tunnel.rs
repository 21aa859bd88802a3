//! A PCI function tunnelled over a virtqueue, for kernels without a PCI bus: User-Mode Linux.

use crate::registry::Make;
use vioduct_virtio_device::{Options, Workers};
use vioduct_virtio_pcidev::{PciDev, Tunnel};

/// A device's function in a tunnel, to be served over vhost-user: a PCI function as it is, a virtio device over virtio-pci.
pub(super) fn tunnelled(make: Make, options: &Options) -> Result<Tunnel<Workers<PciDev>>, String> {
    let device = match make {
        Make::Pci(make) => PciDev::registers(make(options).map_err(|error| error.to_string())?),
        Make::Virtio(make) => PciDev::virtio(Workers::new(make(options).map_err(|error| error.to_string())?)),
    };
    Ok(Tunnel::new(device.map_err(|error| error.to_string())?, Workers::new))
}
