//! What it costs to start a guest: ours and QEMU's microvm with the same kernel, initial RAM disk and device, on a host with KVM.
//!
//! `cargo xtask bench boot` runs it on the emulated host, where time follows the instructions: a millisecond is a million of them.

use anyhow::{Context, Result};
use clap::Parser;
use std::io::Write;
use std::path::{Path, PathBuf};
use vioduct_bench::attach::measure::{Measure, table};
use vioduct_bench::boot::first_instruction;
use vioduct_bench::boot::monitor::{Guest, Monitor, Programs, Transport};
use vioduct_bench::boot::start::Start;

/// What the guest's first process says first, in the kit's initial RAM disk.
const INIT: &[u8] = b"vioduct-guest:";
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1";
/// By what it costs in the best of the others.
const GOAL_RATIO: f64 = 1.0;
/// From process start to the guest's first instruction.
const FIRST_INSTRUCTION_GOAL_MS: f64 = 10.0;
/// Beyond the guest's RAM.
const RESIDENT_GOAL_MIB: f64 = 5.0;

/// Measures starts of guests on this host's KVM, for root; the best of each contender's starts counts
#[derive(Parser)]
struct Options {
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    /// The program `vioduct`
    #[arg(long)]
    vioduct: PathBuf,
    /// QEMU
    #[arg(long)]
    qemu: PathBuf,
    /// The kernel of the guests
    #[arg(long)]
    kernel: PathBuf,
    /// Their initial RAM disk, from the guest kit
    #[arg(long)]
    initrd: PathBuf,
    /// Starts of each
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    starts: u32,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let programs = Programs { vioduct: options.vioduct, qemu: options.qemu };
    let mut measures = Vec::new();
    for (transport, name) in [(Transport::Mmio, "virtio-mmio"), (Transport::Pci, "virtio-pci")] {
        let guest = Guest {
            kernel: &options.kernel,
            initrd: Some(&options.initrd),
            command_line: COMMAND_LINE,
            transport,
        };
        if measures.is_empty() {
            // A new host's first start takes longer than all that follow.
            Start::to(INIT, &mut Monitor::Vioduct.command(&programs, &guest))?;
        }
        let contest = Contest::run(INIT, &guest, &programs, options.starts)?;
        measures.extend(contest.to_init(name)?);
    }
    let mut tiny = tempfile::NamedTempFile::new()?;
    tiny.write_all(&first_instruction::kernel())?;
    measures.extend(first(tiny.path(), &programs, options.starts)?);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&measures)?);
    } else {
        print!("{}", table(&measures));
    }
    Ok(())
}

/// The starts of all contenders.
struct Contest(Vec<(Monitor, Vec<Start>)>);

impl Contest {
    /// The contenders take turns.
    fn run(sign: &[u8], guest: &Guest<'_>, programs: &Programs, count: u32) -> Result<Self> {
        let all = [Monitor::Vioduct].into_iter().chain(Monitor::PEERS);
        let mut starts: Vec<_> = all.map(|monitor| (monitor, Vec::new())).collect();
        for _ in 0..count {
            for (monitor, starts) in &mut starts {
                let start = Start::to(sign, &mut monitor.command(programs, guest))?;
                eprintln!("{}: {start:?}", monitor.name());
                starts.push(start);
            }
        }
        Ok(Self(starts))
    }

    /// Figures of ours.
    fn all_of_ours(&self, figure: fn(&Start) -> f64) -> impl Iterator<Item = f64> {
        let ours = self.0.iter().filter(|(monitor, _)| *monitor == Monitor::Vioduct);
        ours.flat_map(|(_, starts)| starts).map(figure)
    }

    /// The least of them.
    fn ours(&self, figure: fn(&Start) -> f64) -> Result<f64> {
        self.all_of_ours(figure).min_by(f64::total_cmp).context("vioduct has not started")
    }

    /// The greatest of them.
    fn ours_most(&self, figure: fn(&Start) -> f64) -> Result<f64> {
        self.all_of_ours(figure).max_by(f64::total_cmp).context("vioduct has not started")
    }

    /// The least figure of the best of the others, and which it is.
    fn best_peer(&self, figure: fn(&Start) -> f64) -> Result<(&'static str, f64)> {
        let peers = self.0.iter().filter(|(monitor, _)| *monitor != Monitor::Vioduct);
        let figures = peers.filter_map(|(monitor, starts)| Some((monitor.name(), least(starts, figure)?)));
        figures.min_by(|(_, one), (_, other)| one.total_cmp(other)).context("no other has started")
    }

    fn measure(
        &self,
        name: &str,
        unit: &'static str,
        figure: fn(&Start) -> f64,
        goal: Option<f64>,
    ) -> Result<Measure> {
        Ok(Measure::against(name, self.ours(figure)?, unit, self.best_peer(figure)?, goal))
    }

    fn to_init(&self, transport: &str) -> Result<Vec<Measure>> {
        type Row = (&'static str, &'static str, fn(&Start) -> f64, Option<f64>);
        const ROWS: [Row; 5] = [
            ("start to init", "ms", milliseconds, Some(GOAL_RATIO)),
            ("exits to init", "", |start| start.exits.all as f64, Some(GOAL_RATIO)),
            ("- for ports", "", |start| start.exits.ports as f64, None),
            ("- for registers in memory", "", |start| start.exits.mmio as f64, None),
            ("- for untouched pages", "", |start| start.exits.pages as f64, None),
        ];
        let mut rows: Vec<_> = ROWS
            .iter()
            .map(|(name, unit, figure, goal)| {
                self.measure(&format!("{transport}: {name}"), unit, *figure, *goal)
            })
            .collect::<Result<_>>()?;
        let name = format!("{transport}: memory beyond the guest's");
        // A limit is kept by every start.
        rows.push(Measure::alone(&name, self.ours_most(mebibytes)?, "MiB", Some(RESIDENT_GOAL_MIB)));
        Ok(rows)
    }
}

/// To the first instruction of a guest with nothing to load.
fn first(kernel: &Path, programs: &Programs, count: u32) -> Result<Vec<Measure>> {
    let guest = Guest { kernel, initrd: None, command_line: "", transport: Transport::Mmio };
    let contest = Contest::run(first_instruction::SIGN, &guest, programs, count)?;
    let name = "start to the kernel's first instruction";
    Ok(vec![
        Measure::alone(name, contest.ours(milliseconds)?, "ms", Some(FIRST_INSTRUCTION_GOAL_MS)),
        contest.measure("- by the others'", "ms", milliseconds, None)?,
    ])
}

fn least(starts: &[Start], figure: fn(&Start) -> f64) -> Option<f64> {
    starts.iter().map(figure).min_by(f64::total_cmp)
}

fn milliseconds(start: &Start) -> f64 {
    start.time.as_secs_f64() * 1e3
}

fn mebibytes(start: &Start) -> f64 {
    start.resident_kib as f64 / 1024.0
}
