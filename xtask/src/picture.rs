//! `cargo xtask picture`: what the lab of vhost has measured, as a picture of each data path (SVG).
//!
//! The way of one request through guest, kernel and processes is drawn as a sequence, with the lab's figures beside it.

mod drawing;
mod paths;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::Outcome;
#[cfg(test)]
pub(crate) use paths::Path;
pub(crate) use paths::{PATHS, Requests};

/// The command line of `picture`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What `vioduct lab run vhost-demo --on kvm --json` has printed
    report: PathBuf,
}

/// Draws to stdout.
pub(crate) fn run(options: &Options) -> Result<Outcome> {
    let shown = options.report.display();
    let text = std::fs::read_to_string(&options.report).with_context(|| format!("cannot read {shown}"))?;
    let report = serde_json::from_str(&text).with_context(|| format!("{shown} is not JSON"))?;
    let figures = figures(&report).with_context(|| {
        format!("{shown} is not of `vioduct lab run vhost-demo --on kvm --json`, with all data paths")
    })?;
    print!("{}", drawing::of(&figures));
    Ok(Outcome::Done)
}

/// What was measured on one path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Accesses to registers, each of which leaves the guest for the machine's process.
    pub(crate) traps: u64,
    operations: u64,
    /// What the host has executed for each of them, the guest's instructions not among them; `None` where nobody has counted.
    pub(crate) host_instructions: Option<u64>,
    median_ns: u64,
}

impl Figures {
    /// Traps by the number of operations, in hundredths.
    fn traps_per_operation(&self) -> String {
        let hundredths = self.traps * 100 / self.operations.max(1);
        format!("{}.{:02}", hundredths / 100, hundredths % 100)
    }
}

/// Of each path, in the order of [`PATHS`].
pub(crate) fn figures(report: &Value) -> Result<Vec<Figures>> {
    let labs = report.as_array().context("there is no list of labs")?;
    let lab = labs.iter().find(|lab| lab["lab"] == "vhost-demo").context("there is no vhost-demo")?;
    if lab["on"] != "kvm" {
        bail!("vhost-demo was run on {}", lab["on"]);
    }
    let ways = lab["cost"]["ways"].as_array().context("the lab has no costs")?;
    PATHS.iter().map(|path| of_way(ways, path.way)).collect()
}

fn of_way(ways: &[Value], name: &str) -> Result<Figures> {
    let is_it = |way: &&Value| way["way"].as_str().is_some_and(|words| words.ends_with(name));
    let way = ways.iter().find(is_it).with_context(|| format!("nothing is served {name}"))?;
    let number = |field: &str| way[field].as_u64().with_context(|| format!("{name}: there is no {field}"));
    Ok(Figures {
        traps: number("register_reads")? + number("register_writes")?,
        operations: number("operations")?,
        host_instructions: way["host_instructions_per_operation"].as_u64(),
        median_ns: number("median_ns")?,
    })
}
