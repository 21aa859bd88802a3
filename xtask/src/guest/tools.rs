//! The guest with programs of Debian's: for labs that need more than a driver, such as a file system under fio.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::cpio::{Archive, Permissions};
use super::initramfs;
use super::kernel::Prepared;
use super::kit::Guest;
use super::packages::Found;
use super::place::Place;
use super::plan::Step;
use super::stock::{self, Selection};
use super::tree::Tree;

const PACKAGES: [&str; 4] = ["fio", "iperf3", "iputils-ping", "e2fsprogs"];
/// What of the packages is wanted: that, and the libraries that it needs.
const PROGRAMS: [&str; 4] = ["/usr/bin/fio", "/usr/bin/iperf3", "/usr/bin/ping", "/usr/sbin/mkfs.ext4"];
/// Linux's own drivers of virtio devices, which are modules.
const WANTED: [&str; 5] =
    ["virtio_blk", "virtio-rng", "virtio_mmio", "virtio_net", "vmw_vsock_virtio_transport"];
/// Where programs and libraries lie.
const FOLDERS: [&str; 6] = ["usr", "usr/bin", "usr/sbin", "lib64", "tmp", "mnt"];

/// Installs the programs into the tree, and writes an initramfs with them.
pub(super) fn provision(
    place: &Place,
    tree: &Tree,
    found: &Found,
    prepared: &Prepared,
    (program, made): (&Path, Step),
) -> Result<Guest> {
    let selection = Selection { name: "modules-tools", modules: &WANTED, ours: None, before: prepared.step };
    let (modules, selected) = stock::provision(place, tree, found, &selection)?;
    let path = place.products(&found.key())?.join("initramfs-tools.cpio");
    let inputs = made.inputs.with(selected.inputs.to_string());
    let inputs = PACKAGES.iter().chain(&PROGRAMS).chain(&FOLDERS).fold(inputs, |sum, name| sum.with(name));
    let step = Step { name: "initramfs-tools", title: "fio, iperf3 and others as a file system", inputs };
    step.run(place, |log| {
        log.run(tree.command("apt-get").args(["install", "-y"]).args(PACKAGES))?;
        log.run(tree.command("apt-get").arg("clean"))?;
        let mut archive = initramfs::archive(program, &modules)?;
        add(&mut archive, tree)?;
        std::fs::write(&path, archive.finish()).with_context(|| format!("cannot write {}", path.display()))
    })?;
    Ok(Guest { kernel: prepared.image.clone(), initramfs: path, modules })
}

/// Adds the programs with their libraries, at the paths that these have in the tree.
fn add(archive: &mut Archive, tree: &Tree) -> Result<()> {
    let mut words = vec!["ldd"];
    words.extend(PROGRAMS);
    let needed = tree.capture(&words)?;
    let libraries = libraries(&needed)?;
    let files: Vec<&str> = PROGRAMS.into_iter().chain(libraries).collect();
    let folders = files.iter().flat_map(|file| Path::new(file).ancestors().skip(1));
    let folders: BTreeSet<&Path> = folders.filter_map(|folder| folder.strip_prefix("/").ok()).collect();
    let wanted = FOLDERS.iter().map(Path::new).filter(|folder| !folders.contains(folder));
    for folder in folders.iter().copied().chain(wanted).filter(|folder| !folder.as_os_str().is_empty()) {
        archive.folder(&folder.to_string_lossy());
    }
    for file in files {
        let from = tree.outside(file);
        let content = std::fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        archive.file(file.trim_start_matches('/'), Permissions(0o755), &content);
    }
    Ok(())
}

/// The files that `ldd` names, the loader among them.
fn libraries(needed: &str) -> Result<BTreeSet<&str>> {
    if let Some(line) = needed.lines().find(|line| line.ends_with("not found")) {
        bail!("a program lacks a library: {}", line.trim());
    }
    let words = needed.lines().filter(|line| !line.ends_with(':')).flat_map(str::split_whitespace);
    Ok(words.filter(|word| word.starts_with('/')).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_says() {
        let says = "/usr/bin/fio:\n\tlinux-vdso.so.1 (0x7f)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x7e)\n\
                    \t/lib64/ld.so (0x7d)\n/usr/bin/ping:\n\tlibc.so.6 => /lib/x/libc.so.6 (0x7e)\n";
        let expected = ["/lib/x/libc.so.6", "/lib64/ld.so"];
        assert_eq!(libraries(says).unwrap().into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_library_that_is_missing_is_named() {
        let error = libraries("/usr/bin/fio:\n\tlibx.so.1 => not found\n").unwrap_err();
        assert!(error.to_string().contains("libx.so.1"), "{error}");
    }
}
