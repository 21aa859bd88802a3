//! `vioduct` on a host with KVM: on an emulated one, so that it runs where there is none.
//!
//! A topic is a table of checks in a file of its own; they run on one host, one after the other. `cargo xtask test --only nested --filter WORDS` runs those whose topic or name
//! holds the words.

mod boots;
mod check;
mod disk;
mod host;
mod hostile;
mod labs;
mod refusals;
mod servers;
#[cfg(test)]
mod tests;
mod vhost;
mod vhost_module;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Error, Result, anyhow, bail};

use super::{Counts, Place, skip};
use crate::guest;
use crate::rig::Run;
use check::Check;

/// Checks that belong together.
struct Topic {
    name: &'static str,
    checks: &'static [Check],
    /// Makes files in a folder, which is `{files}` in the checks' words.
    files: fn(&Path) -> Result<()>,
}

const TOPICS: &[Topic] = &[
    Topic::of("host", host::CHECKS),
    Topic::of("labs", labs::CHECKS),
    Topic::of("boots", boots::CHECKS),
    Topic::of("disk", disk::CHECKS),
    Topic::of("servers", servers::CHECKS),
    Topic::of("vhost module", vhost_module::CHECKS),
    Topic::of("vhost", vhost::CHECKS),
    Topic { files: refusals::files, ..Topic::of("refusals", refusals::CHECKS) },
    Topic { files: hostile::files, ..Topic::of("hostile", hostile::CHECKS) },
];

impl Topic {
    const fn of(name: &'static str, checks: &'static [Check]) -> Self {
        Self { name, checks, files: |_| Ok(()) }
    }

    /// Those that the filter lets through: all of them when there is none.
    fn chosen(&self, filter: Option<&str>) -> impl Iterator<Item = &'static Check> {
        let whole = filter.is_none_or(|words| self.name.contains(words));
        self.checks
            .iter()
            .filter(move |check| whole || filter.is_some_and(|words| check.name.contains(words)))
    }
}

/// Every check counts as one test.
pub(super) fn run(filter: Option<&str>) -> Result<Counts> {
    if !guest::may_provision() {
        let why = "the guest kit is provisioned by root: sudo cargo xtask test";
        return Ok(skip(Place::of_this_run(), "nested KVM", why));
    }
    let mut counts = Counts::default();
    for topic in TOPICS {
        let checks: Vec<&Check> = topic.chosen(filter).collect();
        if !checks.is_empty() {
            counts += topic.run(&checks);
        }
    }
    if counts == Counts::default() {
        println!("FAILED: nested: no check has `{}` in its name", filter.unwrap_or_default());
        counts += Counts::ONE_FAILED;
    }
    Ok(counts)
}

impl Topic {
    fn run(&self, checks: &[&Check]) -> Counts {
        let start = Instant::now();
        let mut counts = Counts::default();
        for (check, verdict) in checks.iter().zip(self.verdicts_of_all(checks)) {
            let verdict = verdict.or_else(|error| self.again(check, &error));
            counts += match verdict {
                Ok(()) => {
                    println!("ok: nested: {}: {}", self.name, check.name);
                    Counts::ONE_PASSED
                }
                Err(error) => {
                    println!("FAILED: nested: {}: {}: {error:#}", self.name, check.name);
                    Counts::ONE_FAILED
                }
            };
        }
        eprintln!("nested: {}: {:.1} s", self.name, start.elapsed().as_secs_f64());
        counts
    }

    fn verdicts_of_all(&self, checks: &[&Check]) -> Vec<Result<()>> {
        self.verdicts(checks).unwrap_or_else(|error| {
            let all = format!("{error:#}");
            checks.iter().map(|_| Err(anyhow!(all.clone()))).collect()
        })
    }

    /// Runs one that has failed again, alone, up to twice. QEMU's emulation of virtualization is not without faults: now and then a host's kernel dies
    /// of an instruction that is patched while it runs, or a guest's processor never comes back. What fails three times fails.
    fn again(&self, check: &Check, error: &Error) -> Result<()> {
        println!("AGAIN: nested: {}: {}: it failed: {error:#}", self.name, check.name);
        let once_more =
            || self.verdicts_of_all(&[check]).pop().unwrap_or_else(|| bail!("there is no verdict"));
        once_more().or_else(|error| {
            println!("AGAIN: nested: {}: {}: it failed twice: {error:#}", self.name, check.name);
            once_more()
        })
    }

    /// Runs them on a new host.
    fn verdicts(&self, checks: &[&Check]) -> Result<Vec<Result<()>>> {
        let folder = tempfile::tempdir().context("cannot make a folder for temporary files")?;
        (self.files)(folder.path())?;
        let (kit, files) = (guest::current()?.display().to_string(), folder.path().display().to_string());
        let commands: Vec<_> = checks.iter().map(|check| check.on_the_rig(&kit, &files)).collect();
        for command in &commands {
            eprintln!("+ {} {}", command.program.name(), command.arguments.join(" "));
        }
        let finished = Run::of(commands).finish()?;
        Ok(checks.iter().zip(finished).map(|(check, finished)| check.verdict(&finished?)).collect())
    }
}
