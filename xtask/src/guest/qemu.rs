//! QEMU from sid, newer than most machines have.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::packages::Found;
use super::place::Place;
use super::plan::Step;
use super::tree::Tree;

const PACKAGES: [&str; 3] = ["qemu-system-x86", "seabios", "ipxe-qemu"];
/// The first version that is a vfio-user client.
const OLDEST: (u32, u32) = (10, 1);
const PROGRAM: &str = "qemu-system-x86_64";

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

/// Runs the tree's program with the tree's loader and libraries: no chroot, so it sees the machine's files.
fn launcher(tree: &Tree) -> String {
    let at = |path: &str| tree.outside(path).display().to_string();
    let libraries = at("/usr/lib/x86_64-linux-gnu");
    format!(
        "#!/bin/sh\n\
         # QEMU finds neither its modules nor its firmware when another loader starts it.\n\
         export QEMU_MODULE_DIR='{libraries}/qemu'\n\
         exec '{loader}' --library-path '{libraries}' '{program}' -L '{data}' -L '{bios}' -L '{roms}' \"$@\"\n",
        loader = at("/usr/lib64/ld-linux-x86-64.so.2"),
        program = at(&format!("/usr/bin/{PROGRAM}")),
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
    fn a_version_is_read_from_what_qemu_says() {
        assert_eq!(version("QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1)\n").unwrap(), (11, 1));
        assert_eq!(version("QEMU emulator version 9.2.0\n").unwrap(), (9, 2));
        assert!(version("QEMU emulator version eleven").is_err() && version("").is_err());
    }
}
