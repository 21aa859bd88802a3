//! The labs on our machine, as a user runs them.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::check::Check;
use super::net;
use crate::rig::Finished;

pub(super) const CHECKS: &[Check] = &[
    Check::command("virtio-pci, split rings", &["lab", "run", "all", "--on", "kvm", "--json"])
        .judged(|said| are_done_and_compared(said).and_then(|()| net::is_compared(said))),
    Check::command(
        "virtio-mmio, packed rings",
        &["lab", "run", "all", "--on", "kvm", "--transport", "mmio", "--ring", "packed", "--json"],
    )
    .judged(are_done),
];

/// Labs that run in guests.
const LABS_IN_GUESTS: usize = 6;

/// What the lab of vhost compares, and whether its requests leave the guest for the machine's process.
const PATHS: [(&str, Traps); 5] = [
    ("in the machine's process, which every access traps into", Traps::Requests),
    ("in the machine's process, which every notification traps into", Traps::Requests),
    ("in the machine's process", Traps::SetUp),
    ("in another process, over vhost-user", Traps::SetUp),
    ("in the host's kernel, by vhost", Traps::SetUp),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Traps {
    /// Most of a thousand requests.
    Requests,
    /// What the driver does before and after.
    SetUp,
}

impl Traps {
    /// By the number of register accesses.
    fn of(accesses: u64) -> Option<Self> {
        match accesses {
            1..100 => Some(Self::SetUp),
            500.. => Some(Self::Requests),
            _ => None,
        }
    }
}

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
    let labs = labs(said)?;
    let lab = labs.iter().find(|lab| lab["lab"] == "vhost-demo").context("there is no vhost-demo")?;
    let ways = lab["cost"]["ways"].as_array().context("the lab has no costs")?;
    for (path, expected) in PATHS {
        let is_it = |way: &&Value| way["way"].as_str().is_some_and(|words| words.ends_with(path));
        let way = ways.iter().find(is_it).with_context(|| format!("nothing is served {path}"))?;
        let accesses = way["register_reads"].as_u64().zip(way["register_writes"].as_u64());
        let traps = accesses.and_then(|(reads, writes)| Traps::of(reads + writes));
        if traps != Some(expected) {
            bail!("{path}: traps are not those of {expected:?}: {way:#}");
        }
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

    /// A lab that has served so many paths, with these accesses to registers where requests are not to trap.
    fn compared(paths: usize, accesses: u64) -> Value {
        let way = |(path, traps): &(&str, Traps)| {
            let accesses = if *traps == Traps::Requests { 1000 } else { accesses };
            json!({"way": format!("one, {path}"), "register_reads": 0, "register_writes": accesses})
        };
        let ways: Vec<Value> = PATHS[..paths].iter().map(way).collect();
        json!({"lab": "vhost-demo", "on": "kvm", "ok": true, "cost": {"ways": ways}})
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
        judge(compared(5, 60)).unwrap();
        for (lab, why) in [
            (lab(true), "no vhost-demo"),
            (compared(4, 60), "nothing is served in the host's kernel"),
            (compared(5, 1000), "not those of SetUp"),
            (compared(5, 0), "not those of SetUp"),
        ] {
            let error = judge(lab).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
