//! The guest's program, and those that run where a guest stands for a host: static, so that they need nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::fingerprint::Fingerprint;
use super::kernel::copy;
use super::packages::Found;
use super::place::Place;
use super::plan::Step;
use crate::process;
use crate::workspace::Workspace;

const PACKAGE: &str = "vioduct-guest";
const VIODUCT: &str = "vioduct";
const BENCHMARKS: &str = "vioduct-bench";
const COUNTER: &str = "vioduct-counter";
const COUNTER_LIBRARY: &str = "libvioduct_counter.so";
const TARGET: &str = "x86_64-unknown-linux-gnu";
const FLAGS: &str = "-C strip=symbols";
const STATIC_FLAGS: &str = "-C target-feature=+crt-static -C strip=symbols";
const REMEDY: &str = "a static program needs the C library's archive, in Debian of the package libc6-dev";
/// What the program is made from, below the checkout.
const SOURCES: [&str; 5] = ["Cargo.toml", "Cargo.lock", "guest", "crates/spec/Cargo.toml", "crates/spec/src"];

/// Builds the program with the machine's own Rust.
pub(super) fn build(place: &Place, found: &Found, checkout: &Path) -> Result<(PathBuf, Step)> {
    let mut rustc = process::cargo(checkout);
    let version = process::capture(rustc.arg("--version"))?;
    let mut inputs = Fingerprint::EMPTY.with(version).with(STATIC_FLAGS).with(found.key());
    for source in SOURCES {
        inputs = inputs.with_path(&checkout.join(source))?;
    }
    let step = Step { name: "program", title: "the guest's program", inputs };
    let program = place.products(&found.key())?.join(PACKAGE);
    step.run(place, |log| {
        let (mut command, built) = release_build(place, checkout, Target::Package(PACKAGE))?;
        log.run(&mut command).context(REMEDY)?;
        copy(&built, &program)
    })?;
    Ok((program, step))
}

/// Builds `vioduct` so that it needs no library, in a folder of its own; cargo knows whether anything is to do.
pub(crate) fn vioduct() -> Result<PathBuf> {
    for_hosts(Target::Package(VIODUCT))
}

/// The same of an example of a package's.
pub(crate) fn example(package: &str, name: &str) -> Result<PathBuf> {
    for_hosts(Target::Example { package, name })
}

/// The same of a benchmark.
pub(crate) fn benchmark(name: &str) -> Result<PathBuf> {
    for_hosts(Target::Program { package: BENCHMARKS, name })
}

/// What counts an emulated host's instructions: a plugin for QEMU, which is a library.
pub(crate) fn counter() -> Result<PathBuf> {
    for_hosts(Target::Counter)
}

/// What is built.
#[derive(Debug, Clone, Copy)]
enum Target<'a> {
    /// The program that is called as its package is.
    Package(&'a str),
    Program {
        package: &'a str,
        name: &'a str,
    },
    Example {
        package: &'a str,
        name: &'a str,
    },
    Counter,
}

impl Target<'_> {
    fn flags(self) -> &'static str {
        match self {
            Self::Package(_) | Self::Program { .. } | Self::Example { .. } => STATIC_FLAGS,
            Self::Counter => FLAGS,
        }
    }
}

fn for_hosts(target: Target<'_>) -> Result<PathBuf> {
    let place = Place::of_this_user()?;
    let _lock = place.lock()?;
    let (mut command, built) = release_build(&place, Workspace::folder()?, target)?;
    if !process::succeeds(&mut command)? {
        bail!("the program does not build; {REMEDY}");
    }
    Ok(built)
}

/// What builds a target, and where that will be; the caller holds the kit's lock.
fn release_build(place: &Place, checkout: &Path, target: Target<'_>) -> Result<(Command, PathBuf)> {
    let build = place.root().join("target");
    let cargo = |task: &str| {
        let mut command = process::cargo(checkout);
        command.args([task, "--release", "--locked", "--target", TARGET]);
        command.env("CARGO_TARGET_DIR", &build).env("RUSTFLAGS", target.flags());
        command
    };
    // Cargo tells our crates of one checkout from those of another only by the age of their files.
    let mark = build.join("checkout");
    let name = checkout.to_string_lossy();
    if std::fs::read_to_string(&mark).is_ok_and(|last| last != name) {
        process::capture(cargo("clean").args(["--quiet", "--workspace"]))?;
    }
    std::fs::create_dir_all(&build)
        .and_then(|()| std::fs::write(&mark, name.as_bytes()))
        .with_context(|| format!("cannot write {}", mark.display()))?;
    let mut command = cargo("build");
    let folder = build.join(TARGET).join("release");
    let built = match target {
        Target::Package(package) => {
            command.args(["--package", package]);
            folder.join(package)
        }
        Target::Program { package, name } => {
            command.args(["--package", package, "--bin", name]);
            folder.join(name)
        }
        Target::Example { package, name } => {
            command.args(["--package", package, "--example", name]);
            folder.join("examples").join(name)
        }
        Target::Counter => {
            command.args(["--package", COUNTER]);
            folder.join(COUNTER_LIBRARY)
        }
    };
    Ok((command, built))
}
