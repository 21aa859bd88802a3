//! `cargo xtask bench boot`: starts of guests on the emulated host, where time follows the instructions, so that figures repeat.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::Outcome;
use crate::guest;
use crate::rig::{self, Clock, Command, Run};

/// Where the host has the benchmark.
const BENCHMARK: &str = "/bin/boot";
/// Where it has what is measured.
const VIODUCT: &str = "/bin/vioduct";
/// How long all starts may take; some are tried several times.
const LIMIT: Duration = Duration::from_mins(25);

/// What the figures are, for those who read the table.
const NOTE: &str = "
Time is the emulated host's: 1 ms is 1,000,000 instructions of the host, the monitor and the guest together, or a wait with nothing to do.
Exits are those that KVM counts. Each figure is the least of a contender's starts, and the peer's that of the best of QEMU's set-ups.
Not compared: Cloud Hypervisor and Firecracker, which neither Debian nor crates.io has.";

/// Builds the benchmark and runs it there; its output is this task's.
pub(super) fn run(json: bool) -> Result<Outcome> {
    let kit = guest::provision()?;
    let mut files = guest::emulator_files()?;
    files.push((guest::benchmark("boot")?, PathBuf::from(BENCHMARK)));
    files.push((guest::vioduct()?, PathBuf::from(VIODUCT)));
    let (kernel, initrd) = (kit.qemu.kernel.display().to_string(), kit.qemu.initramfs.display().to_string());
    let options =
        [("--vioduct", VIODUCT), ("--qemu", guest::EMULATOR), ("--kernel", &kernel), ("--initrd", &initrd)];
    let mut arguments = vec![BENCHMARK.to_owned()];
    arguments.extend(options.iter().flat_map(|(option, path)| [*option, *path]).map(String::from));
    arguments.extend(json.then(|| "--json".to_owned()));
    let command = Command { program: rig::Program::Host, limit: LIMIT, ..Command::of(arguments) };
    let outcome = Run { files, clock: Clock::Instructions, ..Run::of(vec![command]) }.pass_on()?;
    if outcome == Outcome::Done && !json {
        println!("{NOTE}");
    }
    Ok(outcome)
}
