//! `cargo xtask guest`: what real guests need, kept in the project's cache by versions.
//!
//! Steps, each with a stamp of its inputs: a Debian sid tree; kernel source and toolchain in it; User-Mode Linux; what
//! modules for Debian's stock kernel need; our drivers for both; the guest's program; an initramfs for each, one for
//! a guest that stands for a host, one with programs such as fio, and one with those of networks. QEMU is a step of its own, too. A second run looks at the stamps and is done.
//!
//! `kit.json` in the kit's folder says what is there and where.

mod cpio;
mod fingerprint;
mod host;
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
mod stock;
mod tools;
mod tree;

use anyhow::Result;
use clap::Args;

use crate::Outcome;
use crate::workspace::Workspace;
pub(crate) use cpio::{Archive, Permissions};
use kit::Guest;
pub(crate) use kit::Kit;
use modules::Modules;
use place::Place;
pub(crate) use program::{benchmark, counter, example, vioduct};
pub(crate) use qemu::{PLACE as EMULATOR, closure as emulator_files};
use tree::Tree;

/// The command line of `guest`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Print what the kit holds as JSON
    #[arg(long)]
    json: bool,
}

/// Makes what is missing, and prints what there is.
pub(crate) fn run(options: &Options) -> Result<Outcome> {
    let kit = provision()?;
    println!("{}", if options.json { kit.to_json()? } else { kit.to_string() });
    Ok(Outcome::Done)
}

/// Whether this user may make what is missing: parts of the kit are built in a system tree of their own.
pub(crate) fn may_provision() -> bool {
    tree::is_root()
}

/// Where the kit's files are by names that no version is in.
pub(crate) fn current() -> Result<std::path::PathBuf> {
    Ok(Place::of_this_user()?.current())
}

/// Makes what is missing.
pub(crate) fn provision() -> Result<Kit> {
    let checkout = Workspace::folder()?;
    let place = Place::of_this_user()?;
    let _lock = place.lock()?;
    let (tree, made) = Tree::provision(&place, checkout)?;
    let (found, packages) = packages::provision(&place, &tree, made)?;
    let source = kernel_source::provision(&place, &tree, &found, packages)?;
    let (program, built) = program::build(&place, &found, checkout)?;
    let guest = |prepared: &kernel::Prepared, modules: &Modules| -> Result<Guest> {
        let initramfs = initramfs::write(&place, &found, prepared.rig, (&program, built), modules)?;
        Ok(Guest { kernel: prepared.image.clone(), initramfs, modules: modules.folder.clone() })
    };
    let uml = kernel::build_uml(&place, &tree, &found, checkout, source)?;
    let uml = guest(&uml, &modules::build(&place, &tree, &found, checkout, &uml)?)?;
    let stock = kernel::prepare_stock(&place, &tree, &found, source)?;
    let ours = modules::build(&place, &tree, &found, checkout, &stock)?;
    let qemu = guest(&stock, &ours)?;
    let host = host::provision(&place, &tree, &found, &stock, &ours, (&program, built))?;
    let with = |tools| tools::provision(&place, &tree, &found, &stock, (&program, built), tools);
    let (tools, network) = (with(&tools::TOOLS)?, with(&tools::NETWORK)?);
    let emulator = qemu::provision(&place, &tree, &found, packages)?;
    let kit = Kit { found, uml, qemu, host, tools, network, emulator };
    place.make_current(&kit.found.key())?;
    kit.save(&place)?;
    Ok(kit)
}
