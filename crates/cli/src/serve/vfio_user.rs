//! A PCI function over vfio-user: one function, for one client after the other. A virtio device becomes one by virtio-pci.

use super::{Door, Served, on_signals, say_ready, take};
use crate::Failure;
use crate::registry::Make;
use vioduct_vfio_user::{Device, ServeError, Server};
use vioduct_virtio_device::Workers;

pub(super) fn serve(served: &Served, door: &Door) -> Result<(), Failure> {
    let usage = |error: vioduct_virtio_device::OptionError| Failure::Usage(error.to_string());
    let failed = |error: ServeError| Failure::Failed(error.to_string());
    let device = match served.device.make {
        Make::Virtio(make) => Device::virtio(Workers::new(make(&served.options).map_err(usage)?)),
        Make::Pci(make) => Device::registers(make(&served.options).map_err(usage)?),
    };
    let device = device.map_err(failed)?;
    let mut server = match door {
        Door::Path(path) => Server::bind(path, device).map_err(failed)?,
        Door::Descriptor(number) => Server::inherited(take(*number)?, device).map_err(failed)?,
    };
    let stopper = server.stopper();
    on_signals(move || stopper.stop())?;
    say_ready(served, "vfio-user", door)?;
    server.run().map_err(failed)
}
