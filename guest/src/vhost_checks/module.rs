//! The module itself: held while it is used, gone when it is told, and the kernel sound after all of it.

use std::fs;
use std::io::{BufRead, BufReader, Error, Write};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::system::delete_module;
use vioduct_spec::demo::OP_READ;
use vioduct_spec::vhost_demo::NODE;

use super::another;
use super::machine::{Machine, WITH_EVENT_INDEX};
use crate::Failure;
use crate::first_process::load_again;
use crate::kernel_log::KernelLog;
use crate::verdict::{must_be, must_hold, verdict};

const MODULE: &str = "vioduct_vhost_demo";
const MODULE_NAME: &std::ffi::CStr = c"vioduct_vhost_demo";
const PATIENCE: Duration = Duration::from_secs(20);
/// What the kernel says when something in it is broken.
const ALARMS: [&str; 9] = [
    "WARNING:",
    "BUG:",
    "Oops",
    "KASAN",
    "UBSAN",
    "general protection",
    "refcount_t:",
    "blocked for more than",
    "Call Trace",
];
/// What a victim says when its requests are under way.
const UNDER_WAY: &str = "under way";

/// Runs the checks; then nobody holds the module, and the kernel's log has no alarm.
pub(super) fn is_sound_after(checks: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let mut log = KernelLog::from_now_on()?;
    checks()?;
    verdict("nobody holds the module", unused())?;
    let lines = log.lines()?;
    let alarm = lines.iter().find(|line| ALARMS.iter().any(|alarm| line.contains(alarm)));
    let outcome = alarm.map_or(Ok(()), |line| Err(Error::other(format!("it says: {line}"))));
    verdict("the kernel's log has no alarm", outcome)
}

pub(super) fn twice() -> Result<(), Error> {
    once()?;
    once()
}

fn once() -> Result<(), Error> {
    let mut machine = Machine::started(WITH_EVENT_INDEX)?;
    must_be(delete_module(MODULE_NAME, 0).map_err(Error::from), Errno::AGAIN)?;
    machine.works()?;
    // A device that is shared lives until the last who has it closes it.
    let shared = machine.device.file().try_clone()?;
    drop(machine);
    must_be(delete_module(MODULE_NAME, 0).map_err(Error::from), Errno::AGAIN)?;
    drop(shared);
    kill_a_victim()?;
    unused()?;
    delete_module(MODULE_NAME, 0)?;
    must_hold(!Path::new(NODE).exists(), "the node outlives its module")?;
    load_again(MODULE)?;
    await_that("the node does not come back", || Ok(Path::new(NODE).exists()))?;
    Machine::started(WITH_EVENT_INDEX)?.works()
}

fn kill_a_victim() -> Result<(), Error> {
    let mut victim = another("victim").stdout(Stdio::piped()).spawn()?;
    let output = victim.stdout.take().ok_or_else(|| Error::other("no output"))?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    victim.kill()?;
    victim.wait()?;
    must_hold(line.trim() == UNDER_WAY, "the victim never came to it")
}

/// Has requests in flight until it is killed.
pub(super) fn victim() -> Result<(), Error> {
    let mut machine = Machine::started(WITH_EVENT_INDEX)?;
    machine.write_request(OP_READ, 0);
    machine.describe(&machine.descriptors(&[8], &[8]));
    let mut announced = false;
    loop {
        while machine.ring.made.wrapping_sub(machine.ring.seen) < machine.ring.size {
            machine.ring.make_available(&machine.memory, 0);
        }
        machine.kick.signal()?;
        machine.next_used()?;
        if !announced {
            println!("{UNDER_WAY}");
            std::io::stdout().flush()?;
            announced = true;
        }
    }
}

/// Processes that are killed may take a moment to close what they had.
fn unused() -> Result<(), Error> {
    await_that("somebody holds the module", || Ok(users(&fs::read_to_string("/proc/modules")?) == Some(0)))
}

/// How many hold the module, by the text of `/proc/modules`.
fn users(modules: &str) -> Option<u32> {
    let line = modules.lines().find_map(|line| line.strip_prefix(MODULE)?.strip_prefix(' '))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

pub(super) fn await_that(
    otherwise: &str,
    mut holds: impl FnMut() -> Result<bool, Error>,
) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    while !holds()? {
        must_hold(Instant::now() < deadline, otherwise)?;
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::users;

    #[test]
    fn a_modules_users_are_in_the_third_column() {
        let text = "vioduct_vhost_demo_x 1 9 - Live\nvioduct_vhost_demo 24576 2 - Live 0x0 (OE)\nvhost 1 3 x, Live\n";
        assert_eq!(users(text), Some(2));
        assert_eq!(users("vhost 1 3 vioduct_vhost_demo, Live\n"), None);
    }
}
