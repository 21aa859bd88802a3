//! `cargo xtask lint`: every rule of the house that a machine can check.
//!
//! Each check is one row of [`CHECKS`]; all of them run, and what they find is printed together with
//! the remedy. CONTRIBUTING.md explains the rules.

mod attributes;
mod budgets;
mod commands;
mod conformance;
mod directions;
mod documents;
mod layers;
mod manifests;
mod names;
mod panics;
mod unsafety;

use anyhow::Result;

use crate::Outcome;
use crate::source::{self, SourceFile};
use crate::workspace::Workspace;

/// What every check looks at.
struct Project {
    workspace: Workspace,
    files: Vec<SourceFile>,
    unreadable: Vec<anyhow::Error>,
}

/// One thing that is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// A path below the workspace's folder, with `:line` where a line is meant.
    place: String,
    problem: String,
}

impl Finding {
    fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into() }
    }

    fn at(file: &SourceFile, line: usize, problem: impl Into<String>) -> Self {
        Self::new(format!("{}:{line}", file.place), problem)
    }
}

/// What a check came to.
#[derive(Debug)]
enum Verdict {
    /// Passed when there are none.
    Findings(Vec<Finding>),
    /// Could not be checked here; the text says why.
    Skipped(String),
}

struct Check {
    name: &'static str,
    remedy: &'static str,
    run: fn(&Project) -> Result<Verdict>,
}

/// Quick checks first, so that their findings are on the screen while cargo builds.
const CHECKS: &[Check] = &[
    Check { name: "syntax", remedy: "make the file valid Rust", run: syntax },
    Check { name: "budgets", remedy: budgets::REMEDY, run: budgets::check },
    Check { name: "names", remedy: names::REMEDY, run: names::check },
    Check { name: "unsafe", remedy: unsafety::REMEDY, run: unsafety::check },
    Check { name: "panics", remedy: panics::REMEDY, run: panics::check },
    Check { name: "directions", remedy: directions::REMEDY, run: directions::check },
    Check { name: "crate attributes", remedy: attributes::REMEDY, run: attributes::check },
    Check { name: "manifests", remedy: manifests::REMEDY, run: manifests::check },
    Check { name: "conformance", remedy: conformance::REMEDY, run: conformance::check },
    Check { name: "documents", remedy: documents::REMEDY, run: documents::check },
    Check { name: "format", remedy: "run `cargo fmt --all`", run: commands::format },
    Check { name: "fuzz format", remedy: "run `cargo fmt` in fuzz/", run: commands::fuzz_format },
    Check { name: "dependencies", remedy: commands::DEPENDENCIES_REMEDY, run: commands::dependencies },
    Check { name: "advisories", remedy: commands::ADVISORIES_REMEDY, run: commands::advisories },
    Check { name: "clippy", remedy: "mend what clippy shows above", run: commands::clippy },
    Check { name: "fuzz clippy", remedy: "mend what clippy shows above", run: commands::fuzz_clippy },
    Check { name: "rustdoc", remedy: "mend the documentation comments shown above", run: commands::rustdoc },
];

/// Runs every check, prints a line for each, and fails when one of them did.
pub(crate) fn run() -> Result<Outcome> {
    let workspace = Workspace::load()?;
    let (files, unreadable) = source::load(&workspace)?;
    let project = Project { workspace, files, unreadable };
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for check in CHECKS {
        match (check.run)(&project).unwrap_or_else(|error| broken(check, &error)) {
            Verdict::Findings(findings) if findings.is_empty() => {
                passed += 1;
                println!("ok       {}", check.name);
            }
            Verdict::Findings(findings) => {
                failed += 1;
                print_failure(check, &findings);
            }
            Verdict::Skipped(why) => {
                skipped += 1;
                println!("SKIPPED  {}: {why}", check.name);
            }
        }
    }
    println!("lint: {passed} passed, {failed} failed, {skipped} skipped");
    Ok(if failed == 0 { Outcome::Done } else { Outcome::Failed })
}

/// A check that could not do its work has failed, never passed.
fn broken(check: &Check, error: &anyhow::Error) -> Verdict {
    Verdict::Findings(vec![Finding::new(check.name, format!("the check could not run: {error:#}"))])
}

fn print_failure(check: &Check, findings: &[Finding]) {
    println!("FAILED   {}", check.name);
    for finding in findings {
        println!("           {}: {}", finding.place, finding.problem);
    }
    println!("         remedy: {}", check.remedy);
}

fn syntax(project: &Project) -> Result<Verdict> {
    let finding = |error: &anyhow::Error| Finding::new("syntax", format!("{error:#}"));
    Ok(Verdict::Findings(project.unreadable.iter().map(finding).collect()))
}

/// Runs a check of single files over all of them.
fn each_file(project: &Project, check: impl Fn(&SourceFile) -> Vec<Finding>) -> Result<Verdict> {
    Ok(Verdict::Findings(project.files.iter().flat_map(check).collect()))
}
