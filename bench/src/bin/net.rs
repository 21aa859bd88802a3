//! Packets through another process: our card and our driver, each against DPDK's, with DPDK's other end.

use anyhow::{Context, Result};
use clap::Parser;
use rustix::thread::{CpuSet, sched_getaffinity};
use std::path::{Path, PathBuf};
use vioduct_bench::attach::program;
use vioduct_bench::contest::{Plan, Windows, duel};
use vioduct_bench::cores::processor;
use vioduct_bench::packets::circuit::{Circuit, Server, Shape, Vioduct};
use vioduct_bench::packets::forwarder::Forwarder;
use vioduct_bench::packets::pages::Pages;
use vioduct_bench::packets::testpmd;
use vioduct_bench::report::{Row, table};

/// Measures packets that go round between two processes, a processor each; contenders take turns, and the best windows count
#[derive(Parser)]
struct Options {
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    windows: Windows,
    /// Only comparisons whose name has these words
    #[arg(long)]
    filter: Option<String>,
}

/// Lengths of packets, in bytes.
const FRAMES: [u32; 2] = [64, 1518];
/// What is to be reached, of DPDK's speed.
const GOAL: f64 = 1.0;
/// Processes of DPDK's at a time.
const PROCESSES: u64 = 4;

/// Where everything happens.
struct Bench {
    program: PathBuf,
    folder: tempfile::TempDir,
    plan: Plan,
    /// Numbers of the processors of front-end and back-end.
    processors: [usize; 2],
    back: CpuSet,
    front: CpuSet,
}

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Our card and DPDK's, both with DPDK's driver.
    Device,
    /// Our driver and DPDK's, both with DPDK's card.
    Driver,
}

fn main() -> Result<()> {
    let options = Options::parse();
    testpmd::check()?;
    let _pages = Pages::reserve(PROCESSES * testpmd::PAGES)?;
    let bench = Bench::new(&options)?;
    let mut rows = Vec::new();
    for (name, side, shape) in cases() {
        if options.filter.as_ref().is_none_or(|words| name.contains(words.as_str())) {
            eprintln!("{name} ...");
            rows.push(bench.compare(name, side, shape)?);
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print!("{}", table(&rows));
    }
    Ok(())
}

fn cases() -> Vec<(String, Side, Shape)> {
    let mut cases = Vec::new();
    for (side, who) in [(Side::Device, "card"), (Side::Driver, "driver")] {
        for frame_len in FRAMES {
            for (packed, layout) in [(false, "split"), (true, "packed")] {
                for (mergeable, buffers) in [(false, "one buffer"), (true, "mergeable")] {
                    let name = format!("{who}: {frame_len} B, {layout}, {buffers}");
                    cases.push((name, side, Shape { frame_len, packed, mergeable }));
                }
            }
        }
    }
    cases
}

impl Bench {
    fn new(options: &Options) -> Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let numbers: Vec<_> = (0..CpuSet::MAX_CPU).filter(|number| allowed.is_set(*number)).take(2).collect();
        let processors = numbers.try_into().ok().context("it takes two processors")?;
        let alone = |number| processor(&allowed, number).context("it takes two processors");
        Ok(Self {
            program: program::build()?,
            folder: tempfile::tempdir()?,
            plan: options.windows.into(),
            processors,
            front: alone(0)?,
            back: alone(1)?,
        })
    }

    fn socket(&self, whose: &str) -> PathBuf {
        self.folder.path().join(whose)
    }

    /// DPDK's ends on both sides.
    fn theirs(&self, shape: Shape) -> Result<Circuit> {
        let [front, back] = self.processors;
        let socket = self.socket("theirs");
        // DPDK leaves its socket behind.
        let _ = std::fs::remove_file(&socket);
        Circuit::new(Server::theirs(&socket, back)?, &socket, shape, front)
    }

    fn our_card(&self, shape: Shape) -> Result<Circuit> {
        let [front, _] = self.processors;
        let socket = self.socket("ours");
        let server = Vioduct::start(&self.program, &socket, &self.back)?;
        let circuit = Circuit::new(Server::Ours(server), &socket, shape, front)?;
        if let Server::Ours(server) = circuit.server() {
            server.bind_to(&self.back);
        }
        Ok(circuit)
    }

    fn our_driver(&self, shape: Shape) -> Result<Forwarder> {
        let [_, back] = self.processors;
        let socket: &Path = &self.socket("driven");
        let _ = std::fs::remove_file(socket);
        Forwarder::new(Server::theirs(socket, back)?, socket, shape)
    }

    fn compare(&self, name: String, side: Side, shape: Shape) -> Result<Row> {
        let mut theirs = self.theirs(shape)?;
        let figures = match side {
            Side::Device => {
                let mut ours = self.our_card(shape)?;
                duel(self.plan, |length| ours.window(length), |length| theirs.window(length))?
            }
            Side::Driver => {
                let mut ours = self.our_driver(shape)?;
                let window = |length| ours.window(length, Some(self.front));
                duel(self.plan, window, |length| theirs.window(length))?
            }
        };
        Ok(Row::against(name, "DPDK", figures, Some(GOAL)))
    }
}
