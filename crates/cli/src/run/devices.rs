//! What `--device` says, and the device that follows from it.

use super::kernel_vhost::{self, Otherwise, Vhost};
use crate::Failure;
use crate::nearest::unknown;
use crate::registry::{self, Make};
use std::path::Path;
use std::time::Duration;
use vioduct_machine::Builder;
use vioduct_vfio_user::RemoteFunction;
use vioduct_vhost_kernel::KernelBackend;
use vioduct_vhost_user::{Frontend, Patience, SharedRegion};
use vioduct_virtio_device::{Backend, DeviceModel, Options, Workers};

/// A device that this process serves.
type Served = Workers<Box<dyn DeviceModel>>;

/// How a virtio device is attached to the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Transport {
    Pci,
    Mmio,
}

/// Whose addresses the guest's driver is to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Addresses {
    /// The guest's.
    Guest,
    /// Those that its platform has for the device (`ACCESS_PLATFORM`): the same ones here, for there is no IOMMU.
    Platform,
}

/// Whether what `name[,key=value…]` describes is in another process, which maps the guest's memory.
pub(crate) fn has_server(text: &str) -> bool {
    text.split(',').any(|word| word.starts_with("vhost-user=") || word.starts_with("vfio-user="))
}

/// Attaches what `name[,key=value…]` describes. Beside the device's own options there are `transport=pci|mmio`,
/// `vhost-user=PATH` for a device that the server there has, `vhost=…` for one that the kernel serves, and `platform=on` to offer
/// `ACCESS_PLATFORM`. `vfio-user=PATH` alone is for the PCI function that the server there has, whatever that is.
pub(crate) fn attach(builder: &mut Builder, text: &str) -> Result<(), Failure> {
    if let Some(path) = text.strip_prefix("vfio-user=") {
        return attach_function(builder, Path::new(path));
    }
    let (device, mut options) = registry::find(text)?;
    if device.name == "console" && options.text("path") == Some("stdio") {
        let why = "console: `path=stdio`: stdin is the serial line's: leave it out for output alone, or use path=pty";
        return Err(Failure::Usage(why.to_owned()));
    }
    let transport = options.take("transport");
    let server = options.take("vhost-user");
    let kernel = kernel_vhost::wanted(&options)?;
    options.take("vhost");
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
            let words = [("on", Addresses::Platform), ("off", Addresses::Guest)];
            let addresses = options.choice("platform", &words).map_err(usage)?.unwrap_or(Addresses::Guest);
            if server.is_none() {
                // A server's device does not have it: it would have to ask for translations.
                options.take("platform");
            }
            let attached = match (server, kernel) {
                (None, None) => {
                    let model = make(&options).map_err(usage)?;
                    place(builder, transport, device.name, workers(model, addresses))
                }
                (None, Some(vhost)) => {
                    let kernel = by_the_kernel(builder, vhost, &options, addresses)?;
                    place(builder, transport, device.name, kernel)
                }
                (Some(_), Some(_)) => {
                    let why = format!("{}: `vhost-user=…` or `vhost=…`: choose one", device.name);
                    return Err(Failure::Usage(why));
                }
                (Some(path), None) => {
                    let model = make(&options).map_err(usage)?;
                    let frontend = remote(builder, &*model, Path::new(&path))?;
                    place(builder, transport, device.name, frontend)
                }
            };
            attached.map_err(failed)
        }
    }
}

/// A device that the kernel serves, or this process, as far as it can.
fn by_the_kernel(
    builder: &Builder,
    vhost: &Vhost,
    options: &Options,
    addresses: Addresses,
) -> Result<KernelBackend<Served>, Failure> {
    let (model, kind) = (vhost.make)(options).map_err(|error| Failure::Usage(error.to_string()))?;
    let (inner, ram) = (workers(model, addresses), builder.ram().clone());
    match vhost.otherwise {
        Otherwise::Process => Ok(KernelBackend::new(inner, kind, ram)),
        Otherwise::Nobody(remedy) => KernelBackend::of_the_kernels_alone(inner, kind, ram)
            .map_err(|why| Failure::Failed(format!("{}: {why}; {remedy}", options.name()))),
    }
}

fn workers(model: Box<dyn DeviceModel>, addresses: Addresses) -> Served {
    match addresses {
        Addresses::Guest => Workers::new(model),
        Addresses::Platform => Workers::new(model).with_access_platform(),
    }
}

/// The server there has the guest's memory, its own doorbells, and the guest's interrupts.
fn attach_function(builder: &mut Builder, path: &Path) -> Result<(), Failure> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let failed =
        |why: &dyn std::fmt::Display| Failure::Failed(format!("vfio-user={}: {why}", path.display()));
    let function = RemoteFunction::connect(path, builder.ram(), PATIENCE).map_err(|error| failed(&error))?;
    builder.plug_remote("vfio-user", function).map(drop).map_err(|error| failed(&error))
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

/// The device that the server at `path` has, which is such as `model`.
fn remote(builder: &Builder, model: &dyn DeviceModel, path: &Path) -> Result<Frontend, Failure> {
    let failed = |error: vioduct_vhost_user::FrontendError| {
        Failure::Failed(format!("vhost-user={}: {error}", path.display()))
    };
    let regions = SharedRegion::all_of(builder.ram()).map_err(failed)?;
    Frontend::connect(path, model.info(), regions, Patience::default()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::has_server;

    #[test]
    fn servers_are_told_from_devices_of_this_process() {
        for (text, expected) in [
            ("entropy", false),
            ("block,path=/vhost-user=x", false),
            ("entropy,transport=mmio,vhost-user=/s", true),
            ("vfio-user=/s", true),
        ] {
            assert_eq!(has_server(text), expected, "{text}");
        }
    }
}
