//! The labs on our machine, as a user runs them.

use std::ops::{Range, RangeFrom};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::check::Check;
use super::net;
use crate::picture::{self, PATHS, Requests};
use crate::rig::Finished;

/// A host for each transport: they run side by side, for they take longer than any others.
pub(super) const ON_PCI: &[Check] =
    &[Check::command("virtio-pci, split rings", &["lab", "run", "all", "--on", "kvm", "--json"])
        .within(LIMIT)
        .judged(|said| are_done_and_compared(said).and_then(|()| net::is_compared(said)))];

pub(super) const ON_MMIO: &[Check] = &[Check::command(
    "virtio-mmio, packed rings",
    &["lab", "run", "all", "--on", "kvm", "--transport", "mmio", "--ring", "packed", "--json"],
)
.within(LIMIT)
.judged(are_done)];

/// The labs start a dozen guests, each of which takes between 15 s and a minute here; `lab` itself ends one that stands still.
const LIMIT: Duration = Duration::from_mins(25);

/// Labs that run in guests.
const LABS_IN_GUESTS: usize = 6;

/// Register accesses that are the driver's setting up, and those that are most of a thousand requests.
const SET_UP: Range<u64> = 1..100;
const OF_REQUESTS: RangeFrom<u64> = 500..;
/// What the host executes for one request: some 8,000 instructions for an exit to a process, some 30,000 with an interrupt as its answer.
const OF_ONE_REQUEST: Range<u64> = 2000..150_000;
/// What it executes while a guest starts, does the lab and ends, in millions. The guest executes 3300 and more meanwhile (decision 12),
/// which are not to be among them.
const OF_ONE_GUEST: Range<u64> = 10..1000;
/// How the lab says it.
const WHOLE: &str = "from start to end, the host has executed ";

pub(super) fn labs(said: &Finished) -> Result<Vec<Value>> {
    serde_json::from_str(&said.output).context("the labs' report is not JSON")
}

fn are_done(said: &Finished) -> Result<()> {
    let labs = labs(said)?;
    if labs.len() < LABS_IN_GUESTS {
        bail!("only {} labs have run", labs.len());
    }
    match labs.iter().find(|lab| lab["ok"] != true || lab["on"] != "kvm") {
        None => Ok(()),
        Some(lab) => bail!("a lab did not go as it should: {lab:#}"),
    }
}

fn are_done_and_compared(said: &Finished) -> Result<()> {
    are_done(said)?;
    let figures = picture::figures(&Value::from(labs(said)?))?;
    for (path, figures) in PATHS.iter().zip(&figures) {
        let holds = match path.requests {
            Requests::Trap => OF_REQUESTS.contains(&figures.traps),
            Requests::Pass => SET_UP.contains(&figures.traps),
        };
        if !holds {
            bail!("{}: requests should {:?}: {figures:?}", path.way, path.requests);
        }
        if !figures.host_instructions.is_some_and(|each| OF_ONE_REQUEST.contains(&each)) {
            bail!("{}: these are not the host's instructions for a request: {figures:?}", path.way);
        }
    }
    guests_are_apart(&labs(said)?)
}

/// Of each guest's whole run the lab says what the host has executed, and that is not what the guest has.
fn guests_are_apart(labs: &[Value]) -> Result<()> {
    let lab = labs.iter().find(|lab| lab["lab"] == "vhost-demo").context("there is no vhost-demo")?;
    let steps = lab["steps"].as_array().context("the lab has no steps")?;
    let millions = |step: &Value| step["text"].as_str()?.strip_prefix(WHOLE)?.split(' ').next()?.parse().ok();
    let guests: Vec<u64> = steps.iter().filter_map(millions).collect();
    if guests.len() != PATHS.len() || !guests.iter().all(|millions| OF_ONE_GUEST.contains(millions)) {
        bail!("these are not the host's instructions, in millions, of {} guests: {guests:?}", PATHS.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(labs: &[Value]) -> Finished {
        Finished { status: 0, output: json!(labs).to_string(), errors: String::new() }
    }

    fn lab(ok: bool) -> Value {
        json!({"lab": "x", "on": "kvm", "ok": ok})
    }

    /// A lab that has served so many paths, with these accesses to registers where requests are not to trap, these instructions for each
    /// request, and so many millions for each guest.
    fn compared(paths: usize, accesses: u64, instructions: Option<u64>, millions: u64) -> Value {
        let way = |path: &picture::Path| {
            let accesses = if path.requests == Requests::Trap { 1000 } else { accesses };
            json!({"way": format!("one, {}", path.way), "register_reads": 0, "register_writes": accesses,
                   "operations": 1000, "median_ns": 1, "host_instructions_per_operation": instructions})
        };
        let ways: Vec<Value> = PATHS[..paths].iter().map(way).collect();
        let words = format!("{WHOLE}{millions} million instructions beside the guest's");
        let steps = vec![json!({"text": words, "ok": true}); paths];
        json!({"lab": "vhost-demo", "on": "kvm", "ok": true, "steps": steps, "cost": {"ways": ways}})
    }

    #[test]
    fn labs_are_done_when_all_of_them_are_ok() {
        are_done(&said(&vec![lab(true); LABS_IN_GUESTS])).unwrap();
        assert!(are_done(&said(&vec![lab(false); LABS_IN_GUESTS])).is_err() && are_done(&said(&[])).is_err());
    }

    #[test]
    fn every_path_must_serve_and_trap_as_it_should() {
        let judge = |lab_of_vhost| {
            are_done_and_compared(&said(&[vec![lab(true); LABS_IN_GUESTS - 1], vec![lab_of_vhost]].concat()))
        };
        judge(compared(5, 60, Some(20_000), 200)).unwrap();
        for (lab, why) in [
            (lab(true), "no vhost-demo"),
            (compared(4, 60, Some(20_000), 200), "nothing is served in the host's kernel"),
            (compared(5, 1000, Some(20_000), 200), "should Pass"),
            (compared(5, 0, Some(20_000), 200), "should Pass"),
            (compared(5, 60, None, 200), "instructions for a request"),
            (compared(5, 60, Some(0), 200), "instructions for a request"),
            (compared(5, 60, Some(20_000), 2000), "of 5 guests: [2000"),
            (compared(5, 60, Some(20_000), 0), "of 5 guests: [0"),
        ] {
            let error = judge(lab).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
