//! The embedded labs, through the program as a user runs it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Counts;
use crate::process::{self, cargo};
use crate::workspace::Workspace;

const TRANSPORTS: [&str; 2] = ["mmio", "pci"];
const RINGS: [&str; 2] = ["split", "packed"];

/// Every lab over every transport and ring counts as one test.
pub(super) fn run(workspace: &Workspace) -> Result<Counts> {
    let program = program(workspace)?;
    let mut counts = Counts::default();
    for transport in TRANSPORTS {
        for ring in RINGS {
            let mut command = Command::new(&program);
            command.args([
                "lab",
                "run",
                "all",
                "--json",
                "--on",
                "loopback",
                "--transport",
                transport,
                "--ring",
                ring,
            ]);
            let (succeeded, output) = process::capture_any(&mut command)?;
            counts += judge(&format!("{transport}, {ring}"), succeeded, &output);
        }
    }
    Ok(counts)
}

/// The program, built.
pub(super) fn program(workspace: &Workspace) -> Result<PathBuf> {
    let mut build = cargo(&workspace.root);
    build.args(["build", "--release", "--locked", "--package", "vioduct"]);
    if !process::succeeds(&mut build)? {
        bail!("the program does not build");
    }
    Ok(workspace.build.join("release/vioduct"))
}

/// Prints a line for each lab. The program must agree with its own report.
pub(super) fn judge(variant: &str, succeeded: bool, output: &str) -> Counts {
    let labs = match reports(output) {
        Ok(labs) => labs,
        Err(error) => {
            println!("FAILED: labs ({variant}): {error:#}");
            return Counts::ONE_FAILED;
        }
    };
    let mut counts = Counts::default();
    for lab in labs {
        if lab.get("ok") == Some(&Value::Bool(true)) {
            println!("ok: lab {} ({variant})", name(&lab));
            counts += Counts::ONE_PASSED;
        } else {
            println!("FAILED: lab {} ({variant}): {lab}", name(&lab));
            counts += Counts::ONE_FAILED;
        }
    }
    if !succeeded && counts.failed == 0 {
        println!(
            "FAILED: labs ({variant}): every lab reports ok, yet the program's exit status is a failure"
        );
        counts += Counts::ONE_FAILED;
    }
    counts
}

/// The JSON objects of an output: one after the other, or in an array. None at all is an error.
fn reports(output: &str) -> Result<Vec<Value>> {
    let mut labs = Vec::new();
    for value in serde_json::Deserializer::from_str(output).into_iter::<Value>() {
        match value.context("the output is not JSON")? {
            Value::Array(many) => labs.extend(many),
            one => labs.push(one),
        }
    }
    if labs.is_empty() {
        bail!("no lab reported anything");
    }
    Ok(labs)
}

fn name(lab: &Value) -> &str {
    ["lab", "name"].iter().find_map(|key| lab.get(key)?.as_str()).unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(succeeded: bool, output: &str) -> (u64, u64) {
        let counts = judge("mmio, split", succeeded, output);
        (counts.passed, counts.failed)
    }

    #[test]
    fn objects_in_a_row_and_in_an_array_are_counted() {
        assert_eq!(judged(true, "{\"lab\":\"a\",\"ok\":true}\n{\"lab\":\"b\",\"ok\":true}\n"), (2, 0));
        assert_eq!(judged(true, "[{\"ok\":true},{\"ok\":true}]"), (2, 0));
    }

    #[test]
    fn anything_but_ok_true_fails() {
        for lab in [r#"{"ok":false}"#, r#"{"ok":"true"}"#, r#"{"lab":"a"}"#, "7"] {
            assert_eq!(judged(true, lab), (0, 1), "{lab}");
        }
    }

    #[test]
    fn no_report_no_json_and_a_failing_program_fail() {
        assert_eq!(judged(true, ""), (0, 1));
        assert_eq!(judged(true, "all well"), (0, 1));
        assert_eq!(judged(false, r#"{"ok":true}"#), (1, 1));
    }
}
