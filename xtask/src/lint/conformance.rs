//! `docs/conformance.md`: every row names tests, and every named test exists.
//!
//! The document's tables are of two forms, told apart by their header: clauses of the specification and
//! attacks of a hostile peer.

mod table;
mod test_names;

use std::collections::HashSet;

use anyhow::{Context, Result};

use self::table::Row;
use self::test_names::{Resolution, TestNames};
use super::{Finding, Project, Verdict};

pub(super) const REMEDY: &str = "correct the row, or write the test that it promises; \
     the form of a row is told at the top of docs/conformance.md";

const DOCUMENT: &str = "docs/conformance.md";

/// What the header of each form of table says, in lower case.
const CLAUSES: [&str; 4] = ["section", "clause", "side", "test"];
const ATTACKS: [&str; 4] = ["row", "attack", "must", "test"];

/// Which end of the ring or the register a clause binds.
const SIDES: [&str; 3] = ["driver", "device", "both"];

pub(super) fn check(project: &Project) -> Result<Verdict> {
    let path = project.workspace.root.join(DOCUMENT);
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {DOCUMENT}"))?;
    Ok(Verdict::Findings(judge(&text, &TestNames::of(&project.files))))
}

fn judge(document: &str, tests: &TestNames) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut report = |line: usize, problem: String| {
        findings.push(Finding::new(format!("{DOCUMENT}:{line}"), problem));
    };
    let mut seen = HashSet::new();
    let mut forms = HashSet::new();
    for table in table::tables(document) {
        let Some(form) = [CLAUSES, ATTACKS].into_iter().find(|form| table.header == *form) else {
            report(
                table.line,
                format!("a table's header is `{}` or `{}`", CLAUSES.join(" | "), ATTACKS.join(" | ")),
            );
            continue;
        };
        forms.insert(form);
        for row in &table.rows {
            for problem in judge_row(row, form, &mut seen, tests) {
                report(row.line, problem);
            }
        }
    }
    for form in [CLAUSES, ATTACKS].iter().filter(|form| !forms.contains(*form)) {
        report(1, format!("no table with the header `{}`", form.join(" | ")));
    }
    findings
}

fn judge_row(row: &Row, form: [&str; 4], seen: &mut HashSet<String>, tests: &TestNames) -> Vec<String> {
    let [subject, text, third, cited] = row.cells.as_slice() else {
        return vec![format!("{} cells in a row of 4", row.cells.len())];
    };
    let mut problems = Vec::new();
    for (cell, name) in row.cells.iter().zip(form) {
        if cell.is_empty() {
            problems.push(format!("no {name}"));
        }
    }
    // One section has many clauses; one attack has one row.
    let key = if form == CLAUSES { format!("§{subject} {text}") } else { format!("row {subject}") };
    if !seen.insert(key.to_lowercase()) {
        problems.push(format!("{} stands twice", if form == CLAUSES { "this clause" } else { "this row" }));
    }
    if form == CLAUSES && !third.is_empty() && !SIDES.contains(&third.as_str()) {
        problems.push(format!("the side is one of {}, not `{third}`", SIDES.join(", ")));
    }
    problems.extend(table::test_paths(cited).iter().filter_map(|path| unresolved(path, tests)));
    problems
}

/// Why a cited path is not one test.
fn unresolved(path: &str, tests: &TestNames) -> Option<String> {
    match tests.resolve(path) {
        Resolution::One => None,
        Resolution::None => Some(format!("no test is named `{path}`")),
        Resolution::Ignored => Some(format!("the test `{path}` is #[ignore]d: it proves nothing")),
        Resolution::Several(found) => {
            Some(format!("`{path}` is any of {}: write more of the path", found.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests;
