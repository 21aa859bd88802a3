//! `cargo xtask test`: prerequisites, fuzz smoke, every test, the embedded labs, real guests and nested KVM,
//! with one summary.
//!
//! Every step runs, whatever the ones before it came to. A step that could not run is counted as skipped and
//! said so, and where `CI=true` a skipped prerequisite is a failure: a test that did not run has not passed.

mod fuzz;
mod guests;
mod labs;
mod nested;
mod prerequisites;
mod suite;

use std::ops::AddAssign;
use std::time::Instant;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::Outcome;
use crate::workspace::Workspace;

/// The command line of `test`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Run this step alone
    #[arg(long, value_name = "STEP")]
    only: Option<Step>,
    /// How long to fuzz each target, in seconds
    #[arg(long, value_name = "N", default_value_t = 10)]
    fuzz_seconds: u32,
    /// Of the tests with guests and the nested checks, run those whose topic or name holds these words
    #[arg(long, value_name = "WORDS")]
    filter: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// What the other steps need on this machine
    Prerequisites,
    /// Every fuzz target for a moment, from its seeds
    Fuzz,
    /// Unit, integration and documentation tests of every crate; examples are built
    Cargo,
    /// The embedded labs, through the program as a user runs it
    Labs,
    /// The labs in real guests, and the tests that need one; provisions the guest kit
    Guests,
    /// The program on an emulated host that has KVM; provisions the guest kit
    Nested,
}

impl Step {
    fn title(self) -> &'static str {
        match self {
            Self::Prerequisites => "prerequisites",
            Self::Fuzz => "fuzz smoke",
            Self::Cargo => "cargo test",
            Self::Labs => "embedded labs",
            Self::Guests => "real guests",
            Self::Nested => "nested KVM",
        }
    }

    /// Whether a filter chooses among its tests.
    fn is_filtered(self) -> bool {
        matches!(self, Self::Guests | Self::Nested)
    }

    fn run(self, workspace: &Workspace, options: &Options) -> Result<Counts> {
        match self {
            Self::Prerequisites => prerequisites::check(),
            Self::Fuzz => fuzz::smoke(workspace, options.fuzz_seconds),
            Self::Cargo => suite::run(workspace),
            Self::Labs => labs::run(workspace),
            Self::Guests => guests::run(workspace, options.filter.as_deref()),
            Self::Nested => nested::run(options.filter.as_deref()),
        }
    }
}

/// How many tests came to what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Counts {
    const ONE_PASSED: Self = Self { passed: 1, failed: 0, skipped: 0 };
    const ONE_FAILED: Self = Self { passed: 0, failed: 1, skipped: 0 };
    const ONE_SKIPPED: Self = Self { passed: 0, failed: 0, skipped: 1 };
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.passed += more.passed;
        self.failed += more.failed;
        self.skipped += more.skipped;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Runs the steps in order and prints a line for each; the last line is the total.
pub(crate) fn run(options: &Options) -> Result<Outcome> {
    let workspace = Workspace::load()?;
    let chosen = |step: &&Step| options.only.is_none_or(|only| only == **step);
    let mut lines = Vec::new();
    let (mut total, mut of_filter) = (Counts::default(), Counts::default());
    for step in Step::value_variants().iter().filter(chosen) {
        eprintln!("\n==== {} ====", step.title());
        let start = Instant::now();
        let counts = step.run(&workspace, options).unwrap_or_else(|error| {
            eprintln!("error: {}: {error:#}", step.title());
            Counts::ONE_FAILED
        });
        total += counts;
        if step.is_filtered() {
            of_filter += counts;
        }
        lines.push(format!("{:<14} {counts} ({} s)", step.title(), start.elapsed().as_secs()));
    }
    total += unmatched(options.filter.as_deref(), of_filter);
    println!("\n==== summary ====");
    for line in lines {
        println!("{line}");
    }
    println!("{total}");
    Ok(if total.failed == 0 { Outcome::Done } else { Outcome::Failed })
}

/// A filter that lets nothing through is a failure: that nothing ran is no success.
fn unmatched(filter: Option<&str>, counts: Counts) -> Counts {
    match filter {
        Some(words) if counts == Counts::default() => {
            println!("FAILED: no test with a guest and no nested check has `{words}` in its name");
            Counts::ONE_FAILED
        }
        _ => Counts::default(),
    }
}

/// Where the tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Ci,
    Desk,
}

impl Place {
    fn of_this_run() -> Self {
        if std::env::var("CI").is_ok_and(|value| value == "true") { Self::Ci } else { Self::Desk }
    }
}

/// Says loudly that something did not run. At a desk that is counted as skipped; in CI it is a failure.
fn skip(place: Place, what: &str, why: &str) -> Counts {
    let (verdict, counts) = match place {
        Place::Ci => ("FAILED, for in CI nothing may be skipped", Counts::ONE_FAILED),
        Place::Desk => ("SKIPPED", Counts::ONE_SKIPPED),
    };
    println!("{verdict}: {what}: {why}");
    counts
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{Cli, Task};

    #[test]
    fn what_did_not_run_is_skipped_at_a_desk_and_a_failure_in_ci() {
        assert_eq!(skip(Place::Desk, "fuzz smoke", "no nightly"), Counts::ONE_SKIPPED);
        assert_eq!(skip(Place::Ci, "fuzz smoke", "no nightly"), Counts::ONE_FAILED);
    }

    #[test]
    fn a_filter_that_lets_nothing_through_fails() {
        assert_eq!(unmatched(Some("nonsense"), Counts::default()), Counts::ONE_FAILED);
        assert_eq!(unmatched(Some("vsock"), Counts::ONE_PASSED), Counts::default());
        assert_eq!(unmatched(None, Counts::default()), Counts::default());
    }

    #[test]
    fn counts_add_up_and_read_as_the_last_line() {
        let mut total = Counts { passed: 1, failed: 2, skipped: 3 };
        total += Counts { passed: 10, failed: 20, skipped: 30 };
        assert_eq!(total.to_string(), "11 passed, 22 failed, 33 skipped");
    }

    #[test]
    fn the_command_line_has_defaults_and_refuses_unknown_steps() {
        let Task::Test(options) = Cli::try_parse_from(["xtask", "test"]).unwrap().task else {
            panic!("not a test")
        };
        assert_eq!((options.only, options.fuzz_seconds), (None, 10));
        let error = Cli::try_parse_from(["xtask", "test", "--only", "fuz"]).err().unwrap();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("'fuzz'"), "{error}");
    }
}
