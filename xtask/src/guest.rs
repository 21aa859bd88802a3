//! `cargo xtask guest`: what real guests need, kept in the project's cache by versions.
//!
//! Steps, each with a stamp of its inputs: a Debian sid tree; kernel source and toolchain in it; User-Mode Linux; what
//! modules for Debian's stock kernel need; our drivers for both; the guest's program; an initramfs for each. QEMU is
//! a step of its own, for it is large. A second run looks at the stamps and is done.
//!
//! `kit.json` in the kit's folder says what is there and where.

mod cpio;
mod fingerprint;
mod initramfs;
mod job;
mod kernel;
mod kernel_source;
mod kit;
mod modules;
mod packages;
mod place;
mod plan;
mod program;
mod qemu;
mod tree;

use anyhow::Result;
use clap::Args;

use crate::Outcome;
use crate::workspace::Workspace;
use kit::{Guest, Kit};
use place::Place;
use plan::Step;
use tree::Tree;

/// The command line of `guest`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Print what the kit holds as JSON
    #[arg(long)]
    json: bool,
    /// Provision QEMU too: some hundreds of megabytes
    #[arg(long)]
    qemu: bool,
}

/// Makes what is missing, and prints what there is.
pub(crate) fn run(options: &Options) -> Result<Outcome> {
    let checkout = Workspace::folder()?;
    let place = Place::of_this_user()?;
    let _lock = place.lock()?;
    let (tree, made) = Tree::provision(&place, checkout)?;
    let (found, packages) = packages::provision(&place, &tree, made)?;
    let source = kernel_source::provision(&place, &tree, &found, packages)?;
    let (program, built) = program::build(&place, &found, checkout)?;
    let guest = |prepared: &kernel::Prepared| -> Result<Guest> {
        let modules = modules::build(&place, &tree, &found, checkout, prepared)?;
        let initramfs = initramfs::write(&place, &found, prepared.rig, (&program, built), &modules)?;
        Ok(Guest { kernel: prepared.image.clone(), initramfs, modules: modules.folder })
    };
    let uml = guest(&kernel::build_uml(&place, &tree, &found, checkout, source)?)?;
    let qemu = guest(&kernel::prepare_stock(&place, &tree, &found, source)?)?;
    let emulator = emulator(options, &place, &tree, &found, packages)?;
    let kit = Kit { found, uml, qemu, emulator };
    kit.save(&place)?;
    println!("{}", if options.json { kit.to_json()? } else { kit.to_string() });
    Ok(Outcome::Done)
}

/// QEMU where it was asked for, now or before.
fn emulator(
    options: &Options,
    place: &Place,
    tree: &Tree,
    found: &packages::Found,
    before: Step,
) -> Result<Option<std::path::PathBuf>> {
    if !options.qemu && !place.stamp("qemu").exists() {
        return Ok(None);
    }
    qemu::provision(place, tree, found, before).map(Some)
}
