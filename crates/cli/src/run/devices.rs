//! What `--device` says, and the device that follows from it.

use crate::Failure;
use crate::nearest::unknown;
use crate::registry::{self, Make};
use std::path::Path;
use vioduct_machine::Builder;
use vioduct_spec::Features;
use vioduct_vhost_user::{Frontend, Patience, SharedRegion};
use vioduct_virtio_device::{Backend, DeviceModel, Workers};

/// How a virtio device is attached to the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Transport {
    Pci,
    Mmio,
}

/// What has no effect while doorbells do not trap: KVM drops the value that is written.
const NOT_WITHOUT_TRAPS: Features = Features::NOTIFICATION_DATA.with(Features::NOTIF_CONFIG_DATA);

/// Attaches what `name[,key=value…]` describes. Beside the device's own options there are `transport=pci|mmio`, and
/// `vhost-user=PATH` for a device that the server there has.
pub(crate) fn attach(builder: &mut Builder, text: &str) -> Result<(), Failure> {
    let (device, mut options) = registry::find(text)?;
    let transport = options.take("transport");
    let server = options.take("vhost-user");
    let usage = |error: vioduct_virtio_device::OptionError| Failure::Usage(error.to_string());
    let failed = |error: vioduct_machine::MachineError| Failure::Failed(format!("{}: {error}", device.name));
    match device.make {
        Make::Pci(make) => {
            if transport.is_some_and(|transport| transport != "pci") || server.is_some() {
                return Err(Failure::Usage(format!("{} is a PCI function, and nothing else", device.name)));
            }
            builder.plug(device.name, make(&options).map_err(usage)?).map(drop).map_err(failed)
        }
        Make::Virtio(make) => {
            let transport = match transport.as_deref() {
                None | Some("pci") => Transport::Pci,
                Some("mmio") => Transport::Mmio,
                Some(other) => return Err(Failure::Usage(unknown("transport", other, ["pci", "mmio"]))),
            };
            let model = make(&options).map_err(usage)?;
            let attached = match server {
                None => place(builder, transport, device.name, local(model)),
                Some(path) => {
                    let frontend = remote(builder, &*model, Path::new(&path))?;
                    place(builder, transport, device.name, frontend)
                }
            };
            attached.map_err(failed)
        }
    }
}

fn place(
    builder: &mut Builder,
    transport: Transport,
    name: &'static str,
    backend: impl Backend + 'static,
) -> Result<(), vioduct_machine::MachineError> {
    match transport {
        Transport::Pci => builder.plug_virtio(name, backend).map(drop),
        Transport::Mmio => builder.add_window(name, backend),
    }
}

fn local(model: Box<dyn DeviceModel>) -> Workers<Box<dyn DeviceModel>> {
    let workers = Workers::new(model);
    let offered = workers.features().without(NOT_WITHOUT_TRAPS);
    workers.offering(offered)
}

/// The device that the server at `path` has, which is such as `model`.
fn remote(builder: &Builder, model: &dyn DeviceModel, path: &Path) -> Result<Frontend, Failure> {
    let failed = |error: vioduct_vhost_user::FrontendError| {
        Failure::Failed(format!("vhost-user={}: {error}", path.display()))
    };
    let regions = SharedRegion::all_of(builder.ram()).map_err(failed)?;
    Frontend::connect(path, model.info(), regions, Patience::default()).map_err(failed)
}
