//! Checks that other programs make: rustfmt, clippy, rustdoc and cargo-deny.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Finding, Project, Verdict};
use crate::process::{self, cargo};
use crate::tools::CARGO_DENY;

pub(super) const DEPENDENCIES_REMEDY: &str = "read cargo-deny's report above; deny.toml says which licences, sources \
     and crates are allowed, and a new exception there needs its reason beside it";

pub(super) const ADVISORIES_REMEDY: &str = "update the crate that the advisory above names (`cargo update -p <crate>`), \
     or replace it";

pub(super) fn format(project: &Project) -> Result<Verdict> {
    verdict(cargo(&project.workspace.root).args(["fmt", "--all", "--check"]))
}

pub(super) fn clippy(project: &Project) -> Result<Verdict> {
    verdict(cargo(&project.workspace.root).args(["clippy", "--workspace"]).args(CLIPPY_STRICT))
}

const CLIPPY_STRICT: &[&str] = &["--all-targets", "--locked", "--", "-D", "warnings"];

pub(super) fn rustdoc(project: &Project) -> Result<Verdict> {
    let mut command = cargo(&project.workspace.root);
    command.args(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-Dwarnings");
    verdict(&mut command)
}

pub(super) fn fuzz_format(project: &Project) -> Result<Verdict> {
    in_fuzz(project, |folder| verdict(cargo(folder).args(["fmt", "--check"])))
}

pub(super) fn fuzz_clippy(project: &Project) -> Result<Verdict> {
    in_fuzz(project, |folder| verdict(cargo(folder).arg("clippy").args(CLIPPY_STRICT)))
}

/// The fuzz targets are a workspace of their own.
fn in_fuzz(project: &Project, check: impl FnOnce(&Path) -> Result<Verdict>) -> Result<Verdict> {
    let folder = project.workspace.fuzz();
    if folder.join("Cargo.toml").is_file() {
        check(&folder)
    } else {
        Ok(Verdict::Skipped("there is no fuzz/".into()))
    }
}

pub(super) fn dependencies(project: &Project) -> Result<Verdict> {
    verdict(deny(project)?.args(["check", "bans", "licenses", "sources"]))
}

/// Known vulnerabilities. Their database is fetched from the network: without one, nothing is known.
pub(super) fn advisories(project: &Project) -> Result<Verdict> {
    if !process::probe(&mut fetch_of_advisories(project)?) {
        return Ok(Verdict::Skipped(
            "the advisory database cannot be fetched from here: NO dependency was checked for known vulnerabilities".into(),
        ));
    }
    verdict(deny(project)?.args(["check", "--disable-fetch", "advisories"]))
}

/// Cargo-deny leaves the fetching to git, which may wait for an answer or a password for ever.
fn fetch_of_advisories(project: &Project) -> Result<Command> {
    let mut command = Command::new("timeout");
    command.arg(ADVISORIES_SECONDS).arg(CARGO_DENY.program()?).args([
        "--workspace",
        "--locked",
        "fetch",
        "db",
    ]);
    command.current_dir(&project.workspace.root).env("GIT_TERMINAL_PROMPT", "0");
    Ok(command)
}

/// How long fetching the advisory database may take.
const ADVISORIES_SECONDS: &str = "90";

fn deny(project: &Project) -> Result<Command> {
    let mut command = Command::new(CARGO_DENY.program()?);
    command.current_dir(&project.workspace.root).args(["--workspace", "--locked"]);
    Ok(command)
}

/// What the command itself has shown is the detail; the finding says which command to repeat.
fn verdict(command: &mut Command) -> Result<Verdict> {
    let failed = !process::succeeds(command)?;
    let finding = || Finding::new(process::display(command), "failed, its report is above");
    Ok(Verdict::Findings(failed.then(finding).into_iter().collect()))
}
