//! What the steps need on this machine: installed where that is a package of Debian's, or with what to do.

use std::process::Command;

use anyhow::{Result, bail};

use super::Counts;
use crate::{apt, guest, process};

struct Prerequisite {
    name: &'static str,
    probe: &'static [&'static str],
    /// Debian's packages that have it; several where one release has it in the one, and another in the other.
    packages: &'static [&'static str],
    remedy: &'static str,
}

const PREREQUISITES: &[Prerequisite] = &[
    Prerequisite {
        name: "rustfmt and clippy",
        probe: &["cargo", "clippy", "--version"],
        packages: &[],
        remedy: "rustup component add clippy rustfmt",
    },
    Prerequisite { name: "git", probe: &["git", "--version"], packages: &["git"], remedy: "install git" },
    Prerequisite {
        name: "a C++ compiler (for libFuzzer)",
        probe: &["c++", "--version"],
        packages: &["g++"],
        remedy: "install g++ or clang, as the command c++",
    },
    Prerequisite {
        name: "Python (host programs of docs/vsock.md are in it)",
        probe: &["python3", "--version"],
        packages: &["python3"],
        remedy: "install python3",
    },
    Prerequisite {
        name: "QEMU's storage daemon (a vhost-user server that is not ours)",
        probe: &["qemu-storage-daemon", "--version"],
        packages: &["qemu-utils", "qemu-system-common"],
        remedy: "apt-get install qemu-utils qemu-system-common",
    },
];

impl Prerequisite {
    fn is_there(&self) -> bool {
        let (program, arguments) = self.probe.split_first().unwrap_or((&"false", &[]));
        process::probe(Command::new(program).args(arguments))
    }

    /// Installs its package, where this user may; whether it is there afterwards.
    fn install(&self) -> bool {
        if self.packages.is_empty() || !guest::may_provision() {
            return false;
        }
        eprintln!("this machine lacks {}: apt-get install {}", self.name, self.packages.join(" "));
        let run = |command: &mut Command| match process::succeeds(command)? {
            true => Ok(()),
            false => bail!("apt-get failed"),
        };
        match apt::install(self.packages, run) {
            Ok(()) => self.is_there(),
            Err(error) => {
                eprintln!("error: {error:#}");
                false
            }
        }
    }
}

/// Every prerequisite counts as a test.
pub(super) fn check() -> Result<Counts> {
    let mut counts = Counts::default();
    for prerequisite in PREREQUISITES {
        if prerequisite.is_there() || prerequisite.install() {
            println!("found: {}", prerequisite.name);
            counts += Counts::ONE_PASSED;
        } else {
            println!("MISSING: {}: {}", prerequisite.name, prerequisite.remedy);
            counts += Counts::ONE_FAILED;
        }
    }
    Ok(counts)
}
