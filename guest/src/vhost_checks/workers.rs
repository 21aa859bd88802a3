//! The kernel's threads that serve queues: more of them, and a queue that goes from one to another.

use std::collections::BTreeSet;
use std::fs;
use std::io::Error;

use rustix::io::Errno;
use vioduct_spec::demo::OP_READ;
use vioduct_spec::vhost::RESET_OWNER;

use super::machine::{Machine, WITH_EVENT_INDEX};
use super::module::await_that;
use super::random::Random;
use crate::verdict::{must_be, must_hold};

/// How the kernel's threads for this process's devices are called, before its number.
const NAME: &str = "vhost-";
const MOVES_UNDER_LOAD: usize = 100;
/// More than a thread has to do with a queue that comes or goes.
const SLEEPS: u64 = 10;

/// By their numbers, which are those of this process's threads.
fn threads() -> Result<BTreeSet<String>, Error> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc/self/task")? {
        let thread = entry?.path();
        // It may end meanwhile.
        if fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.starts_with(NAME)) {
            found.insert(thread.display().to_string());
        }
    }
    Ok(found)
}

/// How often a thread has gone to sleep, which it does whenever it has nothing to do.
fn sleeps(thread: &str) -> Result<u64, Error> {
    let status = fs::read_to_string(format!("{thread}/status"))?;
    let number = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    number
        .and_then(|number| number.trim().parse().ok())
        .ok_or_else(|| Error::other("the status has no number"))
}

/// A thread that is made for a device: its number as the device has it, and where it is.
fn another(machine: &Machine) -> Result<(u32, String), Error> {
    let before = threads()?;
    let worker = machine.device.new_worker()?;
    let new: Vec<_> = threads()?.difference(&before).cloned().collect();
    match new.as_slice() {
        [thread] => Ok((worker, thread.clone())),
        _ => Err(Error::other(format!("{} threads have come", new.len()))),
    }
}

pub(super) fn take_over() -> Result<(), Error> {
    let before = threads()?;
    let mut machine = Machine::started(WITH_EVENT_INDEX)?;
    let first = machine.device.worker()?;
    let (second, third) = (another(&machine)?, another(&machine)?);
    machine.works()?;
    for (worker, thread) in [&second, &third, &second] {
        machine.device.attach_worker(*worker)?;
        must_hold(machine.device.worker()? == *worker, "another thread has the queue")?;
        must_be(machine.device.free_worker(*worker), Errno::BUSY)?;
        let enough = sleeps(thread)? + SLEEPS;
        await_that("the thread does not serve the queue", || {
            machine.works()?;
            Ok(sleeps(thread)? >= enough)
        })?;
    }
    under_load(&mut machine, [first, second.0, third.0])?;
    machine.device.attach_worker(first)?;
    for (worker, _) in [second, third] {
        machine.device.free_worker(worker)?;
        must_be(machine.device.free_worker(worker), Errno::NODEV)?;
        must_be(machine.device.attach_worker(worker), Errno::NODEV)?;
    }
    must_be(machine.device.attach_worker(u32::MAX), Errno::NODEV)?;
    machine.works()?;
    another(&machine)?;
    machine.device.call(RESET_OWNER, &mut [])?;
    await_that("threads outlast the owner", || Ok(threads()?.is_subset(&before)))
}

/// Whichever has it when, each request is answered once.
fn under_load(machine: &mut Machine, workers: [u32; 3]) -> Result<(), Error> {
    let mut random = Random(2);
    machine.write_request(OP_READ, 0);
    machine.describe(&machine.descriptors(&[8], &[8]));
    for _ in 0..MOVES_UNDER_LOAD {
        for _ in 0..=random.below(100) {
            machine.ring.make_available(&machine.memory, 0);
        }
        machine.kick.signal()?;
        machine.device.attach_worker(random.one_of(&workers))?;
        while machine.ring.seen != machine.ring.made {
            must_hold(machine.next_used()? == (0, 8), "another answer")?;
        }
    }
    machine.works()
}
