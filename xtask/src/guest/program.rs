//! The guest's program: ours, static, so that the guest needs nothing else.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::fingerprint::Fingerprint;
use super::kernel::copy;
use super::packages::Found;
use super::place::Place;
use super::plan::Step;
use crate::process;

const PACKAGE: &str = "vioduct-guest";
const TARGET: &str = "x86_64-unknown-linux-gnu";
const FLAGS: &str = "-C target-feature=+crt-static -C strip=symbols";
/// What the program is made from, below the checkout.
const SOURCES: [&str; 5] = ["Cargo.toml", "Cargo.lock", "guest", "crates/spec/Cargo.toml", "crates/spec/src"];

/// Builds the program with the machine's own Rust.
pub(super) fn build(place: &Place, found: &Found, checkout: &Path) -> Result<(PathBuf, Step)> {
    let mut rustc = process::cargo(checkout);
    let version = process::capture(rustc.arg("--version"))?;
    let mut inputs = Fingerprint::EMPTY.with(version).with(FLAGS).with(found.key());
    for source in SOURCES {
        inputs = inputs.with_path(&checkout.join(source))?;
    }
    let step = Step { name: "program", title: "the guest's program", inputs };
    let program = place.products(&found.key())?.join(PACKAGE);
    step.run(place, |log| {
        let build = place.root().join("target");
        let mut command = process::cargo(checkout);
        command.args(["build", "--release", "--locked", "--package", PACKAGE, "--target", TARGET]);
        command.env("CARGO_TARGET_DIR", &build).env("RUSTFLAGS", FLAGS);
        log.run(&mut command)
            .context("a static program needs the C library's archive, in Debian of the package libc6-dev")?;
        copy(&build.join(TARGET).join("release").join(PACKAGE), &program)
    })?;
    Ok((program, step))
}
