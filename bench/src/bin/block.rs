//! A disk in another process: random reads of 4 KiB, from our server and from QEMU's storage daemon.

use anyhow::Result;
use clap::Parser;
use rustix::thread::sched_getaffinity;
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use vioduct_bench::attach::measure::{Measure, table};
use vioduct_bench::attach::program;
use vioduct_bench::contest::{Plan, Windows, duel};
use vioduct_bench::cores::{pin, processor};
use vioduct_bench::disk::client::{Client, Waiting};
use vioduct_bench::disk::servers::{DISK_BYTES, Medium, Server};
use virtio_driver::VirtioFeatureFlags;

/// Measures a disk in another process; contenders take turns, and the best windows count
#[derive(Parser)]
struct Options {
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    windows: Windows,
}

/// One comparison, and how much time it may take by the peer's.
struct Case {
    file: bool,
    depth: usize,
    waiting: Waiting,
    goal: Option<f64>,
}

const CASES: [Case; 6] = [
    Case { file: false, depth: 1, waiting: Waiting::Polling, goal: Some(1.0) },
    Case { file: false, depth: 32, waiting: Waiting::Polling, goal: Some(1.0 / 1.5) },
    Case { file: false, depth: 1, waiting: Waiting::Eventfd, goal: Some(1.0) },
    Case { file: false, depth: 32, waiting: Waiting::Eventfd, goal: Some(1.0) },
    Case { file: true, depth: 1, waiting: Waiting::Polling, goal: None },
    Case { file: true, depth: 32, waiting: Waiting::Polling, goal: Some(1.0 / 1.2) },
];

fn main() -> Result<()> {
    let options = Options::parse();
    let program = program::build()?;
    let folder = tempfile::tempdir()?;
    let image = folder.path().join("image");
    fill(&image)?;
    let plan = Plan::from(options.windows);
    let mut measures = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        measures.extend(compare(&program, folder.path(), &image, plan, number, case)?);
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&measures)?);
    } else {
        print!("{}", table(&measures));
    }
    Ok(())
}

/// Written, so that it is in the page cache.
fn fill(image: &Path) -> Result<()> {
    let mut file = std::fs::File::create(image)?;
    let block = vec![0x5a; 1 << 20];
    for _ in 0..DISK_BYTES >> 20 {
        file.write_all(&block)?;
    }
    Ok(())
}

/// The peer has split rings only: ours are compared with it in both formats.
fn compare(
    program: &Path,
    folder: &Path,
    image: &Path,
    plan: Plan,
    number: usize,
    case: &Case,
) -> Result<Vec<Measure>> {
    let Case { file, depth, waiting, goal } = *case;
    let medium = if file { Medium::File(image) } else { Medium::Null };
    let allowed = sched_getaffinity(None)?;
    let mut measures = Vec::new();
    for (format, layout) in
        [(VirtioFeatureFlags::empty(), "split"), (VirtioFeatureFlags::RING_PACKED, "packed")]
    {
        let name =
            format!("{} {layout}, {depth} in flight, {waiting:?}", if file { "cached file" } else { "null" });
        eprintln!("{name} ...");
        let ours = Server::ours(program, medium, folder.join(format!("ours-{number}-{layout}")))?;
        let theirs = Server::theirs(medium, folder.join(format!("theirs-{number}-{layout}")))?;
        let event_idx = VirtioFeatureFlags::RING_EVENT_IDX;
        let mut our_client = Client::new(&ours.socket, format | event_idx, depth, waiting)?;
        let mut their_client = Client::new(&theirs.socket, event_idx, depth, waiting)?;
        // The client has a processor to itself, and so have the servers.
        pin(processor(&allowed, 0));
        if let Some(second) = processor(&allowed, 1) {
            ours.bind_to(&second);
            theirs.bind_to(&second);
        }
        let (here, there) = duel(
            plan,
            |length: Duration| our_client.window(length),
            |length: Duration| their_client.window(length),
        )?;
        pin(Some(allowed));
        let micros = |nanos: f64| nanos / 1e3;
        let peer = ("storage daemon", micros(there.best));
        measures.push(Measure::against(&name, micros(here.best), "us", peer, goal));
    }
    Ok(measures)
}
