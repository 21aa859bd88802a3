//! `cargo test` over the whole workspace, its totals read from its own words.

use std::process::Command;

use anyhow::Result;

use super::Counts;
use crate::process::{self, cargo};
use crate::workspace::Workspace;

/// Unit, integration and documentation tests of every member; cargo builds the examples along with them.
pub(super) fn run(workspace: &Workspace) -> Result<Counts> {
    let mut command = cargo(&workspace.root);
    command.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    count(&mut command)
}

/// The tests that boot guests of the kit.
pub(super) fn run_guests(workspace: &Workspace) -> Result<Counts> {
    count(&mut guests(workspace))
}

/// Those of them whose names hold these words, which may be none.
pub(super) fn run_guests_named(workspace: &Workspace, words: &str) -> Result<Counts> {
    let mut command = guests(workspace);
    let (counts, succeeded) = sum(command.args(["--", words]))?;
    Ok(if succeeded { counts } else { settle(counts, succeeded) })
}

fn guests(workspace: &Workspace) -> Command {
    let mut command = cargo(&workspace.root);
    command.args(["test", "--package", "vioduct", "--features", "guest-tests", "--test", "guests"]);
    command.args(["--locked", "--no-fail-fast"]);
    command
}

/// What the tests of a command came to.
fn count(command: &mut Command) -> Result<Counts> {
    let (counts, succeeded) = sum(command)?;
    Ok(settle(counts, succeeded))
}

/// What its result lines say, and whether it has succeeded.
fn sum(command: &mut Command) -> Result<(Counts, bool)> {
    let mut counts = Counts::default();
    let succeeded = process::stream(command, |line| {
        if let Some(more) = test_result(line) {
            counts += more;
        }
    })?;
    Ok((counts, succeeded))
}

/// A failure that no result line told of (a crate that does not build, a test program that died) counts as one,
/// and so does a run without a single test.
fn settle(mut counts: Counts, succeeded: bool) -> Counts {
    if (!succeeded && counts.failed == 0) || counts == Counts::default() {
        counts += Counts::ONE_FAILED;
    }
    counts
}

/// Reads `test result: ok. 5 passed; 0 failed; 1 ignored; …`.
fn test_result(line: &str) -> Option<Counts> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number =
        |what: &str| numbers.split("; ").find_map(|part| part.strip_suffix(what)?.trim().parse::<u64>().ok());
    Some(Counts { passed: number(" passed")?, failed: number(" failed")?, skipped: number(" ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_read() {
        let ok =
            "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.02s";
        assert_eq!(test_result(ok), Some(Counts { passed: 12, failed: 0, skipped: 3 }));
        let failed = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(test_result(failed), Some(Counts { passed: 1, failed: 2, skipped: 0 }));
    }

    #[test]
    fn other_lines_are_not() {
        for line in
            ["", "test a ... ok", "running 3 tests", "test result: nothing", "1 passed; 0 failed; 0 ignored"]
        {
            assert_eq!(test_result(line), None, "{line}");
        }
    }

    #[test]
    fn a_failure_that_no_line_told_of_is_counted() {
        let passed = Counts { passed: 5, failed: 0, skipped: 0 };
        assert_eq!(settle(passed, true), passed);
        assert_eq!(settle(passed, false).failed, 1);
        assert_eq!(settle(Counts { failed: 2, ..passed }, false).failed, 2);
        assert_eq!(settle(Counts::default(), true).failed, 1);
    }
}
