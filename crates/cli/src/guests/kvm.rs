//! Our own machine, on KVM, in this process.

use super::boot::Guest;
use super::labs::{DataPath, GuestLab};
use super::machine::Booted;
use super::served::{Counts, offer, workers};
use super::{KERNEL_WORDS, Kit};
use crate::Failure;
use crate::args::{Ring, Transport};
use crate::host::usable_kvm;
use crate::labs::{ServerProcess, Setup, failed};
use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::Duration;
use vioduct_machine::{BootSources, Builder, Doorbells, Pages, Parts};
use vioduct_pci_demo::PciDemo;
use vioduct_spec::vhost_demo;
use vioduct_vhost_kernel::{KernelBackend, Kind};
use vioduct_vhost_user::{Frontend, Patience, SharedRegion};
use vioduct_virtio_device::Backend;

const RAM_BYTES: u64 = 512 << 20;

/// What the command line and the traps call the lab's device.
const DEVICE: &str = "lab";

/// Boots the guest with the lab's device in it.
pub(super) fn boot(
    kit: &Kit,
    lab: GuestLab,
    setup: &Setup,
    room: &Path,
    limit: Duration,
    received: Sender<String>,
) -> Result<Booted, Failure> {
    usable_kvm()?;
    let mut builder = machine()?;
    let device_type = lab.device_type();
    let mut server = None;
    let in_process = |builder: &mut Builder| {
        let device = workers(lab.model(device_type, &received)?, setup.ring);
        let counts = Counts::of(device.meter());
        attach(builder, setup, DEVICE, device)?;
        Ok(counts)
    };
    let (how, counts) = match lab {
        GuestLab::PciDemo => {
            builder.plug(DEVICE, PciDemo::default()).map_err(failed("attach the device"))?;
            ("in the machine's process, which every access traps into", Counts::Elsewhere)
        }
        GuestLab::Demo(DataPath::OtherProcess) => {
            let socket = room.join("device.sock");
            server = Some(ServerProcess::start("virtio-demo", &socket)?);
            let info = lab.model(device_type, &received)?.info();
            let regions = SharedRegion::all_of(builder.ram()).map_err(failed("share the memory"))?;
            let frontend = Frontend::connect(&socket, info, regions, Patience::default());
            let frontend = frontend.map_err(failed("attach the device"))?.offering(offer(setup.ring));
            attach(&mut builder, setup, DEVICE, frontend)?;
            ("in another process, over vhost-user", Counts::Elsewhere)
        }
        GuestLab::Demo(DataPath::Kernel) => {
            let device = workers(lab.model(device_type, &received)?, setup.ring);
            let counts = Counts::Spare(device.meter());
            let device = KernelBackend::new(device, Kind::Demo, builder.ram().clone());
            attach(&mut builder, setup, DEVICE, device)?;
            ("in the host's kernel, by vhost", counts)
        }
        GuestLab::Demo(DataPath::Trapped) => {
            builder.set_doorbells(Doorbells::Trapped);
            ("in the machine's process, which every notification traps into", in_process(&mut builder)?)
        }
        GuestLab::Demo(DataPath::InProcess) | GuestLab::Factorial | GuestLab::Echo => {
            ("in the machine's process", in_process(&mut builder)?)
        }
    };
    let words = lab.kernel_words(device_type).join(" ");
    let sources = BootSources {
        kernel: kit.qemu.kernel.clone(),
        initrd: Some(kit.qemu.initramfs.clone()),
        command_line: format!("{KERNEL_WORDS} {words}"),
    };
    let guest = Guest::start(limit, |console| {
        builder.boot(&sources, console).map_err(|error| Failure::Failed(error.to_string()))
    })?;
    Ok(Booted { guest, counts, how: how.to_owned(), device: Some(DEVICE), server: None, process: server })
}

/// Why the kernel of this host cannot have the data path of vhost-demo, if it cannot.
pub(super) fn why_not_in_the_kernel(ring: Ring) -> Option<String> {
    let node = vhost_demo::NODE;
    match (ring, Path::new(node).exists()) {
        (Ring::Packed, _) => Some("vhost has split rings alone, which --ring split asks for".to_owned()),
        (Ring::Split, true) => None,
        (Ring::Split, false) => {
            Some(format!("there is no {node}: build and load our module, see kernel/README.md"))
        }
    }
}

/// A machine of one processor.
pub(super) fn machine() -> Result<Builder, Failure> {
    let parts = Parts { processors: 1, ram_bytes: RAM_BYTES, pages: Pages::Small };
    Builder::new(parts).map_err(failed("set up the machine"))
}

/// Attaches a virtio device as the command line says; the traps call it `name`.
pub(super) fn attach(
    builder: &mut Builder,
    setup: &Setup,
    name: &'static str,
    backend: impl Backend + 'static,
) -> Result<(), Failure> {
    match setup.transport {
        Transport::Pci => builder.plug_virtio(name, backend).map(drop),
        Transport::Mmio => builder.add_window(name, backend),
    }
    .map_err(failed("attach the device"))
}
