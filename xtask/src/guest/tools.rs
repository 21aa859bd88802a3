//! Guests with programs of Debian's, for labs that need more than a driver: a file system under fio, a network under iperf3. A host has
//! some, too.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::cpio::{Archive, Permissions};
use super::fingerprint::Fingerprint;
use super::initramfs;
use super::job::Log;
use super::kernel::Prepared;
use super::kit::Guest;
use super::packages::Found;
use super::place::Place;
use super::plan::Step;
use super::stock::{self, Selection};
use super::tree::Tree;

/// Programs, where they are from, and Linux's own drivers of virtio devices, which are modules.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tools {
    /// Names the steps and the file.
    modules_step: &'static str,
    step: &'static str,
    title: &'static str,
    modules: &'static [&'static str],
    pub(super) programs: Programs,
}

/// What is wanted of packages: that, and the libraries that it needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Programs {
    pub(super) packages: &'static [&'static str],
    pub(super) paths: &'static [&'static str],
}

/// What iperf3 ends its threads by, and looks for only then.
pub(super) const THREADS_END: &str = "/usr/lib/x86_64-linux-gnu/libgcc_s.so.1";

pub(super) const TOOLS: Tools = Tools {
    modules_step: "modules-tools",
    step: "initramfs-tools",
    title: "fio, iperf3 and others as a file system",
    modules: &["virtio_blk", "virtio-rng", "virtio_mmio", "virtio_net", "vmw_vsock_virtio_transport"],
    programs: Programs {
        packages: &["fio", "iperf3", "iputils-ping", "e2fsprogs"],
        paths: &["/usr/bin/fio", "/usr/bin/iperf3", THREADS_END, "/usr/bin/ping", "/usr/sbin/mkfs.ext4"],
    },
};

/// What networks need, and no more: it is small.
pub(super) const NETWORK: Tools = Tools {
    modules_step: "modules-network",
    step: "initramfs-network",
    title: "ip, iperf3 and others as a file system",
    modules: &["virtio_mmio", "virtio_net"],
    programs: Programs {
        packages: &["iperf3", "iputils-ping", "iproute2", "ethtool"],
        paths: &["/usr/bin/iperf3", THREADS_END, "/usr/bin/ping", "/usr/sbin/ip", "/usr/sbin/ethtool"],
    },
};

/// Where programs and libraries lie.
const FOLDERS: [&str; 6] = ["usr", "usr/bin", "usr/sbin", "lib64", "tmp", "mnt"];

/// Installs the programs into the tree, and writes an initramfs with them.
pub(super) fn provision(
    place: &Place,
    tree: &Tree,
    found: &Found,
    prepared: &Prepared,
    (program, made): (&Path, Step),
    tools: &Tools,
) -> Result<Guest> {
    let Tools { modules_step, step, title, modules, programs } = *tools;
    let selection = Selection { name: modules_step, modules, ours: None, before: prepared.step };
    let (modules, selected) = stock::provision(place, tree, found, &selection)?;
    let path = place.products(&found.key())?.join(format!("{step}.cpio"));
    let inputs = programs.inputs(made.inputs.with(selected.inputs.to_string()));
    let step = Step { name: step, title, inputs };
    step.run(place, |log| {
        programs.install(tree, log)?;
        let mut archive = initramfs::archive(program, &modules)?;
        programs.add(&mut archive, tree)?;
        std::fs::write(&path, archive.finish()).with_context(|| format!("cannot write {}", path.display()))
    })?;
    Ok(Guest { kernel: prepared.image.clone(), initramfs: path, modules })
}

impl Programs {
    /// What depends on them depends on this.
    pub(super) fn inputs(self, before: Fingerprint) -> Fingerprint {
        self.packages.iter().chain(self.paths).chain(&FOLDERS).fold(before, |sum, name| sum.with(name))
    }

    pub(super) fn install(self, tree: &Tree, log: &Log) -> Result<()> {
        log.run(tree.command("apt-get").args(["install", "-y"]).args(self.packages))?;
        log.run(tree.command("apt-get").arg("clean"))
    }

    /// Adds them with their libraries, at the paths that these have in the tree.
    pub(super) fn add(self, archive: &mut Archive, tree: &Tree) -> Result<()> {
        add(archive, tree, self.paths)
    }
}

fn add(archive: &mut Archive, tree: &Tree, programs: &[&str]) -> Result<()> {
    let mut words = vec!["ldd"];
    words.extend(programs);
    let needed = tree.capture(&words)?;
    let libraries = libraries(&needed)?;
    let files: Vec<&str> = programs.iter().copied().chain(libraries).collect();
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
