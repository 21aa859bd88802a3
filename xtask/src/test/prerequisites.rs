//! What the steps need on this machine, each with what to do when it is absent.

use std::process::Command;

use anyhow::Result;

use super::Counts;
use crate::process;

struct Prerequisite {
    name: &'static str,
    probe: &'static [&'static str],
    remedy: &'static str,
}

const PREREQUISITES: &[Prerequisite] = &[
    Prerequisite {
        name: "rustfmt and clippy",
        probe: &["cargo", "clippy", "--version"],
        remedy: "rustup component add clippy rustfmt",
    },
    Prerequisite { name: "git", probe: &["git", "--version"], remedy: "install git" },
    Prerequisite {
        name: "a C++ compiler (for libFuzzer)",
        probe: &["c++", "--version"],
        remedy: "install g++ or clang, as the command c++",
    },
    Prerequisite {
        name: "QEMU's storage daemon (a vhost-user server that is not ours)",
        probe: &["qemu-storage-daemon", "--version"],
        remedy: "apt-get install qemu-utils",
    },
];

/// Every prerequisite counts as a test.
pub(super) fn check() -> Result<Counts> {
    let mut counts = Counts::default();
    for prerequisite in PREREQUISITES {
        let (program, arguments) = prerequisite.probe.split_first().unwrap_or((&"false", &[]));
        if process::probe(Command::new(program).args(arguments)) {
            println!("found: {}", prerequisite.name);
            counts += Counts::ONE_PASSED;
        } else {
            println!("MISSING: {}: {}", prerequisite.name, prerequisite.remedy);
            counts += Counts::ONE_FAILED;
        }
    }
    Ok(counts)
}
