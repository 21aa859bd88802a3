//! Real guests: the kit is provisioned, every lab runs in every machine that boots it, and then the tests that need one.

use std::process::Command;

use anyhow::Result;

use super::{Counts, Place, labs, skip, suite};
use crate::guest;
use crate::process;
use crate::workspace::Workspace;

const MACHINES: [&str; 2] = ["uml", "qemu"];
const RINGS: [&str; 2] = ["split", "packed"];

/// The kit counts as one test, and every lab in every machine and ring. With a filter, the tests with such names alone run.
pub(super) fn run(workspace: &Workspace, filter: Option<&str>) -> Result<Counts> {
    if !guest::may_provision() {
        let why = "the guest kit is provisioned by root: sudo cargo xtask test";
        return Ok(skip(Place::of_this_run(), "real guests", why));
    }
    guest::provision()?;
    println!("ok: the guest kit");
    if let Some(words) = filter {
        return suite::run_guests_named(workspace, words);
    }
    let mut counts = Counts::ONE_PASSED;
    let program = labs::program(workspace)?;
    for machine in MACHINES {
        for ring in RINGS {
            let mut command = Command::new(&program);
            command.args(["lab", "run", "all", "--json", "--on", machine, "--ring", ring]);
            let (succeeded, output) = process::capture_any(&mut command)?;
            counts += labs::judge(&format!("{machine}, {ring}"), succeeded, &output);
        }
    }
    counts += suite::run_guests(workspace)?;
    Ok(counts)
}
