//! Devices in other processes: how soon they are ready, how much memory they take, and what a request and an access cost.

use anyhow::{Context, Result};
use clap::Parser;
use rustix::thread::{CpuSet, sched_getaffinity};
use std::path::Path;
use std::time::Duration;
use vioduct_bench::attach::access::{self, Access, Operation};
use vioduct_bench::attach::measure::{Measure, table};
use vioduct_bench::attach::program::{self, Program, Wire};
use vioduct_bench::attach::requests::Requests;
use vioduct_bench::contest::{Figures, Plan, duel};
use vioduct_bench::cores::{pin, processor};
use vioduct_bench::resident::Resident;
use vioduct_virtqueue::RingFormat;

/// From the start of a process to a connected client.
const START_GOAL_MS: f64 = 5.0;
/// Beyond the guest's memory, with a client.
const RESIDENT_GOAL_MIB: f64 = 5.0;
/// A request's round trip to another process, both sides polling.
const ROUND_TRIP_GOAL_US: f64 = 2.0;
/// The same by what it takes within one process.
const ROUND_TRIP_GOAL_RATIO: f64 = 1.2;
/// An access by what it takes with the other server.
const ACCESS_GOAL_RATIO: f64 = 1.0;

/// Measures devices in other processes; contenders take turns, and the best windows count
#[derive(Parser)]
struct Options {
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    /// Windows per contender
    #[arg(long, default_value_t = Plan::FULL.windows, value_parser = clap::value_parser!(u32).range(1..))]
    windows: u32,
    /// Starts per wire
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    starts: u32,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let program = program::build()?;
    let folder = tempfile::tempdir()?;
    let allowed = sched_getaffinity(None)?;
    let plan = Plan { windows: options.windows, ..Plan::FULL };
    let mut measures = starts(&program, folder.path(), options.starts)?;
    // From here on the client has a processor to itself.
    pin(processor(&allowed, 0));
    let second = processor(&allowed, 1);
    for (format, layout) in [(RingFormat::Split, "split"), (RingFormat::Packed, "packed")] {
        measures.extend(requests(&program, folder.path(), plan, (format, layout), second.as_ref())?);
    }
    measures.extend(accesses(folder.path(), plan, second)?);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&measures)?);
    } else {
        print!("{}", table(&measures));
    }
    Ok(())
}

/// The two wires take turns.
fn starts(program: &Path, folder: &Path, count: u32) -> Result<Vec<Measure>> {
    eprintln!("starts ...");
    let mut times = [const { Vec::new() }; Wire::ALL.len()];
    for number in 0..count {
        for (wire, times) in Wire::ALL.into_iter().zip(&mut times) {
            let (_program, time) = Program::start(program, wire, folder.join(format!("start-{number}")))?;
            times.push(time.as_secs_f64() * 1e3);
        }
    }
    let mut measures = Vec::new();
    for (wire, mut times) in Wire::ALL.into_iter().zip(times) {
        times.sort_by(f64::total_cmp);
        for (percent, name) in [(50, "median"), (99, "99th percentile")] {
            let time = times.get(times.len() * percent / 100).copied().context("there were starts")?;
            let name = format!("start to ready, {}, {name}", wire.name());
            measures.push(Measure::alone(&name, time, "ms", Some(START_GOAL_MS)));
        }
    }
    Ok(measures)
}

/// Processes, and pairs of contenders, one after the other: where their memory happens to lie moves a round trip by a quarter.
const ROUNDS: u32 = 8;

/// Memory after a thousand requests, then round trips.
fn requests(
    program: &Path,
    folder: &Path,
    plan: Plan,
    (format, layout): (RingFormat, &str),
    second: Option<&CpuSet>,
) -> Result<Vec<Measure>> {
    eprintln!("requests, {layout} ...");
    let mib = |kib: u64| kib as f64 / 1024.0;
    let number = second.and_then(|second| (0..CpuSet::MAX_CPU).find(|number| second.is_set(*number)));
    let plan = Plan { windows: plan.windows.div_ceil(ROUNDS), ..plan };
    let (mut resident, mut ours, mut theirs) = (Resident::default(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let path = folder.join(format!("{layout}-{round}"));
        let (program, _) = Program::start(program, Wire::VhostUser, path)?;
        if let Some(second) = second {
            program.bind_to(second);
        }
        let mut there = Requests::over_vhost_user(program.path(), format)?;
        (0..1000).try_for_each(|_| there.round_trip())?;
        let now = program.resident()?;
        resident = if now.all > resident.all { now } else { resident };
        let mut here = Requests::in_process(number.into_iter().collect(), format)?;
        let (there, here) =
            duel(plan, |length: Duration| there.window(length), |length: Duration| here.window(length))?;
        ours.push(there);
        theirs.push(here);
    }
    let (there, here) = (Figures::of_rounds(&ours), Figures::of_rounds(&theirs));
    let name = format!("round trip over vhost-user, {layout}");
    let micros = |nanos: f64| nanos / 1e3;
    Ok(vec![
        Measure::alone(
            &format!("resident, serving {layout}"),
            mib(resident.all),
            "MiB",
            Some(RESIDENT_GOAL_MIB),
        ),
        Measure::alone(&format!("private, serving {layout}"), mib(resident.private), "MiB", None),
        Measure::alone(&name, micros(there.best), "us", Some(ROUND_TRIP_GOAL_US)),
        Measure::against(
            &format!("{name}, best"),
            micros(there.best),
            "us",
            ("in one process", micros(here.best)),
            Some(ROUND_TRIP_GOAL_RATIO),
        ),
        Measure::against(
            &format!("{name}, median"),
            micros(there.median),
            "us",
            ("in one process", micros(here.median)),
            None,
        ),
    ])
}

fn accesses(folder: &Path, plan: Plan, second: Option<CpuSet>) -> Result<Vec<Measure>> {
    let mut ours = Access::ours(second)?;
    let mut theirs = Access::theirs(&folder.join("peer"), second)?;
    let mut measures = Vec::new();
    for (operation, name) in Operation::ALL {
        eprintln!("{name} ...");
        let (ours, theirs) = duel(
            plan,
            |length: Duration| ours.window(operation, length),
            |length: Duration| theirs.window(operation, length),
        )?;
        let best = (ours.best, theirs.best, "best", Some(ACCESS_GOAL_RATIO));
        for (ours, theirs, which, goal) in [best, (ours.median, theirs.median, "median", None)] {
            let peer = (access::PEER, theirs / 1e3);
            let name = format!("vfio-user: {name}, {which}");
            measures.push(Measure::against(&name, ours / 1e3, "us", peer, goal));
        }
    }
    Ok(measures)
}
