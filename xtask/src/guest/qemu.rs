//! QEMU from sid, newer than most machines have.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::packages::Found;
use super::place::Place;
use super::plan::Step;
use super::tree::Tree;
use crate::process;
use crate::workspace::Workspace;

const PACKAGES: [&str; 3] = ["qemu-system-x86", "seabios", "ipxe-qemu"];
/// The first version that is a vfio-user client.
const OLDEST: (u32, u32) = (10, 1);
const PROGRAM: &str = "qemu-system-x86_64";
/// Where it is, in the tree and where [`closure`] is put.
pub(crate) const PLACE: &str = "/usr/bin/qemu-system-x86_64";
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
/// What tells the loader where libraries are, so that it need not look.
const LOADER_CACHE: &str = "/etc/ld.so.cache";
const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";
/// The same folder as the cache has it.
const CACHED_LIBRARIES: &str = "/lib/x86_64-linux-gnu";
/// What microvm runs first, and the ROMs that it looks for.
const FIRMWARE: [&str; 4] = [
    "/usr/share/qemu/qboot.rom",
    "/usr/share/qemu/linuxboot_dma.bin",
    "/usr/share/qemu/pvh.bin",
    "/usr/share/seabios/bios-microvm.bin",
];

/// Installs QEMU into the tree; the result is a script that runs it outside.
pub(super) fn provision(place: &Place, tree: &Tree, found: &Found, before: Step) -> Result<PathBuf> {
    let inputs = PACKAGES.iter().fold(before.inputs, |sum, package| sum.with(package));
    let step = Step { name: "qemu", title: "QEMU from sid", inputs };
    let script = place.products(&found.key())?.join(PROGRAM);
    step.run(place, |log| {
        log.run(tree.command("apt-get").args(["install", "-y"]).args(PACKAGES))?;
        log.run(tree.command("apt-get").arg("clean"))?;
        let says = tree.capture(&[PROGRAM, "--version"])?;
        let (major, minor) = version(&says)?;
        eprintln!("guest: qemu: {major}.{minor}");
        if (major, minor) < OLDEST {
            bail!("sid has QEMU {major}.{minor}, and {}.{} is the first that will do", OLDEST.0, OLDEST.1);
        }
        std::fs::write(&script, launcher(tree))?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {} executable", script.display()))
    })?;
    Ok(script)
}

/// What QEMU needs where there is nothing else to boot a kernel in its microvm: where each file is here, and where it is to be there.
pub(crate) fn closure() -> Result<Vec<(PathBuf, PathBuf)>> {
    let place = Place::of_this_user()?;
    let tree = Tree::of(&place, Workspace::folder()?);
    let list = process::capture(
        Command::new(tree.outside(LOADER))
            .arg("--library-path")
            .arg(tree.outside(LIBRARIES))
            .arg("--list")
            .arg(tree.outside(PLACE)),
    )?;
    let same = [PLACE, LOADER, LOADER_CACHE].into_iter().chain(FIRMWARE);
    let same = same.map(|path| (tree.outside(path), PathBuf::from(path)));
    Ok(libraries(&list).map(|name| tree_library(&tree, name)).chain(same).collect())
}

/// A library, at the place that the loader's cache names.
fn tree_library(tree: &Tree, name: &str) -> (PathBuf, PathBuf) {
    let path = format!("{CACHED_LIBRARIES}/{name}");
    (tree.outside(&path), path.into())
}

/// The names in `libz.so.1 => /usr/lib/x86_64-linux-gnu/libz.so.1 (0x00007f0000000000)`, as the loader lists libraries, and itself by
/// its path.
fn libraries(list: &str) -> impl Iterator<Item = &str> {
    let names = list.lines().filter_map(|line| Some(line.split_once(" => ")?.0.trim()));
    names.filter(|name| !name.starts_with('/'))
}

/// Runs the tree's program with the tree's loader and libraries: no chroot, so it sees the machine's files.
fn launcher(tree: &Tree) -> String {
    let at = |path: &str| tree.outside(path).display().to_string();
    let libraries = at(LIBRARIES);
    format!(
        "#!/bin/sh\n\
         # QEMU finds neither its modules nor its firmware when another loader starts it.\n\
         export QEMU_MODULE_DIR='{libraries}/qemu'\n\
         exec '{loader}' --library-path '{libraries}' '{program}' -L '{data}' -L '{bios}' -L '{roms}' \"$@\"\n",
        loader = at(LOADER),
        program = at(PLACE),
        data = at("/usr/share/qemu"),
        bios = at("/usr/share/seabios"),
        roms = at("/usr/lib/ipxe/qemu"),
    )
}

/// Reads `QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1)`.
fn version(says: &str) -> Result<(u32, u32)> {
    let number = says.split_whitespace().skip_while(|word| *word != "version").nth(1).unwrap_or_default();
    let mut parts = number.split('.').map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => bail!("`{PROGRAM} --version` says no version: {says}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_that_the_loader_has_found() {
        let list = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibz.so.1 => /usr/lib/libz.so.1 (0x7f)\n\t/lib64/ld-linux-x86-64.so.2 => /x/ld.so (0x7f)\n";
        assert_eq!(libraries(list).collect::<Vec<_>>(), ["libz.so.1"]);
    }

    #[test]
    fn a_version_is_read_from_what_qemu_says() {
        assert_eq!(version("QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1)\n").unwrap(), (11, 1));
        assert_eq!(version("QEMU emulator version 9.2.0\n").unwrap(), (9, 2));
        assert!(version("QEMU emulator version eleven").is_err() && version("").is_err());
    }
}
