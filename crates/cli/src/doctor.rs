//! `vioduct doctor`: what this host can do, one line each, with the remedy for what it cannot.

mod checks;

use crate::Failure;
use crate::args::Format;
use serde::Serialize;

/// How far the host goes.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It is there and works.
    Ok,
    /// It is there, and not of full use.
    Limited,
    /// It is not there.
    Missing,
}

/// One line of the report.
#[derive(Serialize)]
pub(crate) struct Finding {
    name: &'static str,
    state: State,
    detail: String,
    /// What to install, load or set; none where all is well.
    remedy: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: State::Ok, detail: detail.into(), remedy: None }
    }

    fn limited(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, state: State::Limited, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    fn missing(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, state: State::Missing, detail: detail.into(), remedy: Some(remedy.into()) }
    }
}

/// Looks at the host and prints what it found. What is missing is a finding, not a failure.
pub(crate) fn run(format: Format) -> Result<(), Failure> {
    let findings = checks::all();
    if format.json {
        return crate::report::print_json(&findings);
    }
    for Finding { name, state, detail, remedy } in &findings {
        let mark = match state {
            State::Ok => "ok",
            State::Limited => "limited",
            State::Missing => "missing",
        };
        let remedy = remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        println!("{mark:<8} {name:<11} {detail}{remedy}");
    }
    Ok(())
}
