//! The guest that stands for a host: the stock kernel with its own KVM, vhost and TAP and our vhost device, in which `vioduct`
//! runs, and programs that hosts of networks have.

use std::path::Path;

use anyhow::{Context, Result};

use super::initramfs;
use super::kernel::Prepared;
use super::kit::Guest;
use super::modules::Modules;
use super::packages::Found;
use super::place::Place;
use super::plan::Step;
use super::stock::{self, Selection};
use super::tools::{Programs, THREADS_END};
use super::tree::Tree;

/// What a host of virtual machines has. QEMU emulates AMD's virtualization, and not Intel's.
const WANTED: [&str; 8] =
    ["kvm-amd", "vhost_net", "vhost_vsock", "tun", "vduse", "virtio_vdpa", "virtio_blk", "virtio_net"];
/// What makes interfaces there, and the other end of a network.
const PROGRAMS: Programs =
    Programs { packages: &["iperf3", "iproute2"], paths: &["/usr/bin/iperf3", THREADS_END, "/usr/sbin/ip"] };

/// Unpacks the modules and writes the part of the initramfs that no run changes.
pub(super) fn provision(
    place: &Place,
    tree: &Tree,
    found: &Found,
    prepared: &Prepared,
    ours: &Modules,
    (program, made): (&Path, Step),
) -> Result<Guest> {
    let selection =
        Selection { name: "modules-host", modules: &WANTED, ours: Some(&ours.for_hosts), before: ours.step };
    let (modules, selected) = stock::provision(place, tree, found, &selection)?;
    let path = place.products(&found.key())?.join("initramfs-host.cpio");
    let inputs = PROGRAMS.inputs(made.inputs.with(selected.inputs.to_string()));
    let step =
        Step { name: "initramfs-host", title: "program and modules of a host as a file system", inputs };
    step.run(place, |log| {
        PROGRAMS.install(tree, log)?;
        let mut archive = initramfs::archive(program, &modules)?;
        PROGRAMS.add(&mut archive, tree)?;
        std::fs::write(&path, archive.finish()).with_context(|| format!("cannot write {}", path.display()))
    })?;
    Ok(Guest { kernel: prepared.image.clone(), initramfs: path, modules })
}
