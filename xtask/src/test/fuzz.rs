//! Fuzz smoke: every target of `fuzz/` for a few seconds, starting from its seeds.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{Counts, Place, skip};
use crate::process::{self, cargo};
use crate::tools::CARGO_FUZZ;
use crate::workspace::Workspace;

/// Each target counts as one test.
pub(super) fn smoke(workspace: &Workspace, seconds: u32) -> Result<Counts> {
    let folder = workspace.fuzz();
    if !folder.join("Cargo.toml").is_file() {
        return Ok(skip(Place::of_this_run(), "fuzz smoke", "there is no fuzz/Cargo.toml"));
    }
    if !process::probe(cargo(&workspace.root).args(["+nightly", "--version"])) {
        let why = "no nightly toolchain, which the sanitizer needs: `rustup toolchain install nightly --profile minimal`";
        return Ok(skip(Place::of_this_run(), "fuzz smoke", why));
    }
    let targets = targets(&folder)?;
    if targets.is_empty() {
        bail!("fuzz/Cargo.toml names no target");
    }
    if !process::succeeds(cargo_fuzz(&workspace.root)?.arg("build"))? {
        bail!("the fuzz targets do not build");
    }
    let mut counts = Counts::default();
    for target in targets {
        counts += smoke_one(workspace, &target, seconds)?;
    }
    Ok(counts)
}

/// `cargo +nightly fuzz`, of the pinned version.
fn cargo_fuzz(root: &Path) -> Result<Command> {
    let program = CARGO_FUZZ.program()?;
    let folder = program.parent().context("cargo-fuzz lies in no folder")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_path_buf()).chain(std::env::split_paths(&path));
    let mut command = cargo(root);
    command.args(["+nightly", "fuzz"]).env("PATH", std::env::join_paths(folders)?);
    Ok(command)
}

/// The same as one types it, for the pinned version is not on everyone's PATH.
fn typed_cargo_fuzz() -> Result<String> {
    let program = CARGO_FUZZ.program()?;
    let folder = program.parent().context("cargo-fuzz lies in no folder")?;
    Ok(format!("PATH={}:$PATH cargo +nightly fuzz", folder.display()))
}

/// An input that takes longer than this many seconds is reported like a crash.
const INPUT_TIMEOUT: &str = "-timeout=10";

fn smoke_one(workspace: &Workspace, target: &str, seconds: u32) -> Result<Counts> {
    let folder = workspace.fuzz();
    let seeds = folder.join("seeds").join(target);
    if !has_files(&seeds) {
        println!("FAILED: fuzz target {target}: no seeds in fuzz/seeds/{target}/");
        return Ok(Counts::ONE_FAILED);
    }
    // libFuzzer writes what it finds into the first folder and only reads the second.
    let corpus = folder.join("corpus").join(target);
    std::fs::create_dir_all(&corpus).with_context(|| format!("cannot create {}", corpus.display()))?;
    let artifacts = Artifacts::of(&folder.join("artifacts").join(target));
    let mut command = cargo_fuzz(&workspace.root)?;
    command.args(["run", target]).arg(&corpus).arg(&seeds);
    command.args(["--", &format!("-max_total_time={seconds}"), INPUT_TIMEOUT, "-print_final_stats=1"]);
    if process::succeeds(&mut command)? {
        println!("ok: fuzz target {target}, {seconds} s");
        return Ok(Counts::ONE_PASSED);
    }
    println!("FAILED: fuzz target {target}");
    for artifact in artifacts.new_ones() {
        println!("  artifact: {}", artifact.display());
        println!("  reproduce: {} run {target} {}", typed_cargo_fuzz()?, artifact.display());
    }
    Ok(Counts::ONE_FAILED)
}

/// The crash files that were there before a run.
struct Artifacts {
    folder: PathBuf,
    before: Vec<PathBuf>,
}

impl Artifacts {
    fn of(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf(), before: files(folder) }
    }

    fn new_ones(&self) -> Vec<PathBuf> {
        files(&self.folder).into_iter().filter(|file| !self.before.contains(file)).collect()
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

fn has_files(folder: &Path) -> bool {
    !files(folder).is_empty()
}

/// The binaries of the fuzz workspace, which are its targets.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let mut command = cargo(folder);
    command.args(["metadata", "--format-version", "1", "--no-deps"]);
    target_names(&process::capture(&mut command)?)
}

fn target_names(metadata: &str) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        targets: Vec<Target>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        kind: Vec<String>,
    }
    let metadata: Metadata = serde_json::from_str(metadata).context("cargo metadata changed its format")?;
    let all = metadata.packages.into_iter().flat_map(|package| package.targets);
    let binaries = all.filter(|target| target.kind.iter().any(|kind| kind == "bin"));
    let mut names: Vec<String> = binaries.map(|target| target.name).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binaries_are_the_targets() {
        let metadata = r#"{"packages":[{"targets":[
            {"name":"ring","kind":["bin"]}, {"name":"fuzz","kind":["lib"]}, {"name":"pci","kind":["bin"]}]}]}"#;
        assert_eq!(target_names(metadata).unwrap(), ["pci", "ring"]);
    }

    #[test]
    fn only_new_artifacts_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("crash-old"), "").unwrap();
        let artifacts = Artifacts::of(folder.path());
        assert!(artifacts.new_ones().is_empty());
        std::fs::write(folder.path().join("crash-new"), "").unwrap();
        assert_eq!(artifacts.new_ones(), [folder.path().join("crash-new")]);
    }
}
