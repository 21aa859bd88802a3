//! A Debian sid tree of the kit's own: kernel source and toolchain newer than most machines have.
//!
//! Commands run in it as root under chroot, each in its own mount and process namespace: nothing stays mounted and
//! nothing keeps running when they, or this program, end. They see the checkout at [`CHECKOUT`], read-only.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::fingerprint::Fingerprint;
use super::job::Log;
use super::place::Place;
use super::plan::Step;
use crate::{apt, process};

/// Where the checkout is in the tree.
pub(super) const CHECKOUT: &str = "/checkout";
/// Where sources are unpacked and built in the tree.
pub(super) const BUILD: &str = "/build";

const SUITE: &str = "sid";
const MIRROR: &str = "http://deb.debian.org/debian";
/// What makes the tree, as packages of Debian and its derivatives.
const HOST_PACKAGES: [(&str, &str); 2] = [
    ("debootstrap", "/usr/sbin/debootstrap"),
    ("debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg"),
];

/// Mirrors of snapshots have expired release files; what they list is signed all the same.
const APT_OPTIONS: &str = "Acquire::Check-Valid-Until \"false\";\nAPT::Install-Recommends \"false\";\n";
/// The tree can be made again: no package waits for the disk, and nobody reads manuals in it.
const DPKG_OPTIONS: &str = "force-unsafe-io\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\n\
     path-exclude=/usr/share/locale/*\n";
/// Packages must not start services.
const POLICY: &str = "#!/bin/sh\nexit 101\n";

const ENTER: &str = r#"tree=$0 checkout=$1; shift
mount -t proc proc "$tree/proc" || exit
mount --bind "$checkout" "$tree/checkout" && mount -o remount,bind,ro "$tree/checkout" || exit
exec chroot "$tree" "$@""#;
const ENVIRONMENT: [&str; 4] = [
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LC_ALL=C",
    // No package asks questions.
    "DEBIAN_FRONTEND=noninteractive",
];

/// Whether this user may enter the tree.
pub(super) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// The tree, and the checkout that it is shown.
#[derive(Debug)]
pub(super) struct Tree {
    folder: PathBuf,
    checkout: PathBuf,
}

impl Tree {
    /// Makes the tree unless it is there.
    pub(super) fn provision(place: &Place, checkout: &Path) -> Result<(Self, Step)> {
        let tree = Self::of(place, checkout);
        let recipe = [SUITE, MIRROR, APT_OPTIONS, DPKG_OPTIONS, POLICY];
        let inputs = recipe.iter().fold(Fingerprint::EMPTY, |sum, piece| sum.with(piece));
        let step = Step { name: "tree", title: "a Debian sid tree", inputs };
        step.run(place, |log| tree.make(log))?;
        Ok((tree, step))
    }

    /// The tree, which has been made.
    pub(super) fn of(place: &Place, checkout: &Path) -> Self {
        Self { folder: place.root().join(SUITE), checkout: checkout.to_path_buf() }
    }

    /// A command that runs `program` in the tree.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]);
        command.args(["--pid", "--fork", "--kill-child", "sh", "-c", ENTER]);
        command.arg(&self.folder).arg(&self.checkout);
        command.args(["env", "-i"]).args(ENVIRONMENT).arg(program);
        command
    }

    /// What a command in the tree prints.
    pub(super) fn capture(&self, words: &[&str]) -> Result<String> {
        let (program, arguments) = words.split_first().context("no program was named")?;
        process::capture(self.command(program).args(arguments))
    }

    /// Where a file of the tree is, seen from outside; `path` begins with `/`.
    pub(super) fn outside(&self, path: &str) -> PathBuf {
        self.folder.join(path.trim_start_matches('/'))
    }

    /// Empties a folder of the tree.
    pub(super) fn clear(&self, path: &str) -> Result<PathBuf> {
        let folder = self.outside(path);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }

    fn make(&self, log: &Log) -> Result<()> {
        if !is_root() {
            bail!(
                "the tree is entered with chroot: run this as root, for instance by `sudo -E cargo xtask guest`"
            );
        }
        install_on_the_host(log)?;
        if self.folder.exists() {
            std::fs::remove_dir_all(&self.folder)
                .with_context(|| format!("cannot remove {}", self.folder.display()))?;
        }
        let mut command = Command::new("debootstrap");
        command.args(["--variant=minbase", "--include=ca-certificates", SUITE]).arg(&self.folder).arg(MIRROR);
        log.run(&mut command)?;
        for folder in [CHECKOUT, BUILD] {
            std::fs::create_dir_all(self.outside(folder))?;
        }
        self.write("/etc/apt/apt.conf.d/80vioduct", APT_OPTIONS)?;
        self.write("/etc/dpkg/dpkg.cfg.d/80vioduct", DPKG_OPTIONS)?;
        self.write("/usr/sbin/policy-rc.d", POLICY)?;
        log.run(Command::new("chmod").arg("755").arg(self.outside("/usr/sbin/policy-rc.d")))
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.outside(path);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Installs what makes the tree, which is all that this task ever changes on the machine.
fn install_on_the_host(log: &Log) -> Result<()> {
    let missing: Vec<&str> = HOST_PACKAGES
        .iter()
        .filter(|(_, file)| !Path::new(file).exists())
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("guest: this machine lacks {0}: apt-get install {0}", missing.join(" "));
    apt::install(&missing, |command| log.run(command))
}
