//! Our drivers, built against one of the kernels; and those of Linux's own that the kernel has as modules.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::job::Log;
use super::kernel::{Prepared, Rig, copy};
use super::packages::{Found, IMAGE};
use super::place::Place;
use super::plan::Step;
use super::tree::{BUILD, CHECKOUT, Tree};

/// What Kbuild reads, below the checkout: the drivers, and the constants that they share with the devices.
const SOURCES: [&str; 2] = ["kernel", "crates/spec/src"];

/// Linux's own drivers of devices and transports of ours, which Debian's kernel has as modules: User-Mode Linux has them built in.
const STOCK: [&str; 3] = [
    "kernel/drivers/block/virtio_blk",
    "kernel/drivers/char/hw_random/virtio-rng",
    "kernel/drivers/virtio/virtio_mmio",
];

/// Ours that are of use to a host, and that a guest could not even load.
const FOR_HOSTS: [&str; 1] = ["vioduct_vhost_demo.ko"];

/// Modules for one kernel.
#[derive(Debug)]
pub(super) struct Modules {
    /// The folder with the `.ko` files, free of debug information.
    pub(super) folder: PathBuf,
    /// The same for a host that has this kernel.
    pub(super) for_hosts: PathBuf,
    pub(super) step: Step,
}

/// Builds the modules for one kernel.
pub(super) fn build(
    place: &Place,
    tree: &Tree,
    found: &Found,
    checkout: &Path,
    prepared: &Prepared,
) -> Result<Modules> {
    let mut inputs = prepared.step.inputs;
    for source in SOURCES {
        inputs = inputs.with_path(&checkout.join(source))?;
    }
    let rig = prepared.rig;
    let stock: &[&str] = if rig == Rig::Qemu { &STOCK } else { &[] };
    inputs = stock.iter().chain(&FOR_HOSTS).fold(inputs, |sum, name| sum.with(name));
    let step = Step { name: rig.modules_step(), title: "drivers", inputs };
    let products = place.products(&found.key())?;
    let folder = products.join(format!("modules-{}", rig.name()));
    let for_hosts = products.join(format!("modules-{}-for-hosts", rig.name()));
    step.run(place, |log| {
        let build = format!("{BUILD}/modules-{}", rig.name());
        tree.clear(&build)?;
        let mut make = tree.command("make");
        make.args(rig.make_arguments(&found.kernel));
        log.run(make.args([&format!("M={CHECKOUT}/kernel"), &format!("MO={build}"), "modules"]))?;
        log.report_warnings();
        let built = modules_in(&tree.outside(&build))?;
        if built.is_empty() {
            bail!("Kbuild has made no module");
        }
        for name in stock {
            unpack_stock(tree, &found.kernel.release, name, &build, log)?;
        }
        let built = modules_in(&tree.outside(&build))?;
        let files = built.iter().filter_map(|path| path.file_name());
        log.run(
            tree.command("strip").arg("--strip-debug").args(files.map(|name| Path::new(&build).join(name))),
        )?;
        let is_for_hosts = |file: &PathBuf| FOR_HOSTS.iter().any(|name| file.ends_with(name));
        let (hosts, guests): (Vec<_>, Vec<_>) = built.into_iter().partition(is_for_hosts);
        replace(&for_hosts, &hosts)?;
        replace(&folder, &guests)
    })?;
    Ok(Modules { folder, for_hosts, step })
}

/// Has the files, and nothing else, in a folder.
pub(super) fn replace(folder: &Path, files: &[PathBuf]) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    files.iter().try_for_each(|from| copy(from, &folder.join(from.file_name().unwrap_or_default())))
}

/// Puts a module of the kernel's own packages, which compress them, into `folder`.
pub(super) fn unpack_stock(tree: &Tree, release: &str, name: &str, folder: &str, log: &Log) -> Result<()> {
    let packed = format!("{IMAGE}/usr/lib/modules/{release}/{name}.ko.xz");
    let file = Path::new(name).file_name().unwrap_or_default().to_string_lossy();
    let script = format!("xz -dc {packed} >{folder}/{file}.ko");
    log.run(tree.command("sh").args(["-c", &script]))
}

/// The modules in a folder, by name.
pub(super) fn modules_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "ko"));
    files.sort();
    Ok(files)
}
