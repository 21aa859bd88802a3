//! `vioduct` on a host with KVM: on an emulated one, so that it runs where there is none.
//!
//! A topic is a table of checks in a file of its own; they run on one host, one after the other.
//! `cargo xtask test --only nested --filter WORDS` runs those whose topic or name holds the words.

mod boots;
mod check;
mod disk;
mod host;
mod hostile;
mod labs;
mod net;
mod refusals;
mod servers;
#[cfg(test)]
mod tests;
mod vhost;
mod vhost_module;
mod vsock;

use std::num::NonZero;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Error, Result, anyhow, bail};

use super::{Counts, Place, skip};
use crate::guest;
use crate::rig::{Counted, Run};
use check::Check;

/// Checks that belong together.
struct Topic {
    name: &'static str,
    checks: &'static [Check],
    /// How many processors the host has.
    processors: u8,
    counted: Counted,
    /// Makes files in a folder, which is `{files}` in the checks' words.
    files: fn(&Path) -> Result<()>,
}

const TOPICS: &[Topic] = &[
    Topic::of("host", host::CHECKS),
    Topic { counted: Counted::HostsInstructions, ..Topic::of("labs on PCI", labs::ON_PCI) },
    Topic { counted: Counted::HostsInstructions, ..Topic::of("labs on MMIO", labs::ON_MMIO) },
    Topic::of("boots", boots::CHECKS),
    Topic::of("disk", disk::CHECKS),
    Topic::of("servers", servers::CHECKS),
    Topic::of("net", net::CHECKS),
    Topic { counted: Counted::HostsInstructions, ..Topic::of("net by others, and its lab", net::COMPARED) },
    Topic { processors: 2, ..Topic::of("vhost module", vhost_module::CHECKS) },
    Topic { files: vhost::files, ..Topic::of("vhost", vhost::CHECKS) },
    Topic::of("vsock", vsock::CHECKS),
    Topic { files: refusals::files, ..Topic::of("refusals", refusals::CHECKS) },
    Topic { files: hostile::files, ..Topic::of("hostile", hostile::CHECKS) },
];

impl Topic {
    const fn of(name: &'static str, checks: &'static [Check]) -> Self {
        Self { name, checks, processors: 1, counted: Counted::Nothing, files: |_| Ok(()) }
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
    Ok(of_all_topics(filter))
}

/// Runs the topics: as many hosts at once as there are processors here, for each emulates on one.
fn of_all_topics(filter: Option<&str>) -> Counts {
    let chosen = TOPICS.iter().map(|topic| (topic, topic.chosen(filter).collect::<Vec<_>>()));
    let left = Mutex::new(chosen.filter(|(_, checks)| !checks.is_empty()));
    let sum = Mutex::new(Counts::default());
    let run_some = || {
        while let Some((topic, checks)) = { lock(&left).next() } {
            let counts = topic.run(&checks);
            *lock(&sum) += counts;
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(run_some);
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Runs one that has failed again, alone, up to twice, and says so: QEMU's emulation of virtualization is not without faults (a guest's
    /// processor that never comes back, an error inside of KVM). What fails three times fails.
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
        let run = Run { processors: self.processors, counted: self.counted, ..Run::of(commands) };
        let finished = run.finish()?;
        Ok(checks.iter().zip(finished).map(|(check, finished)| check.verdict(&finished?)).collect())
    }
}
