//! Ring speed: our queue against `virtio-queue` and `virtio-drivers`, between two cores, and against itself without checks.

use anyhow::Result;
use clap::Parser;
use std::convert::Infallible;
use std::time::Duration;
use vioduct_bench::bounce::Bounce;
use vioduct_bench::checks::{self, Program};
use vioduct_bench::contest::{Contender, Figures, Plan, duel};
use vioduct_bench::driver_end::{Pieces, Publish};
use vioduct_bench::guest::SHAPES;
use vioduct_bench::report::{Row, table};
use vioduct_bench::{device_end, driver_end};
use vioduct_virtqueue::RingFormat;

/// The least ratio to `virtio-queue`.
const DEVICE_TARGET: f64 = 3.0;
/// The least ratio to `virtio-drivers`.
const DRIVER_TARGET: f64 = 2.0;
/// The least ratio to the build without checks, over all shapes: they cost less than 3 %. Two builds place their code
/// differently, which alone moves a single shape by more than that, either way.
const CHECKS_TARGET: f64 = 1.0 / 1.03;

/// Measures the queue against its peers; contenders take turns, and the best windows count
#[derive(Parser)]
struct Options {
    /// Print the rows as JSON
    #[arg(long)]
    json: bool,
    /// Only rows whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Windows per contender
    #[arg(long, default_value_t = Plan::FULL.windows, value_parser = clap::value_parser!(u32).range(1..))]
    windows: u32,
    /// Run windows as told on stdin
    #[arg(long, hide = true)]
    child: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if options.child {
        return checks::serve();
    }
    let plan = Plan { windows: options.windows, ..Plan::FULL };
    let wanted = |name: &str| name.contains(&options.only);
    let mut rows = device_rows(plan, &wanted);
    rows.extend(driver_rows(plan, &wanted));
    rows.extend(bounce_rows(plan, &wanted));
    rows.extend(check_rows(plan, &wanted)?);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print!("{}", table(&rows));
    }
    Ok(())
}

fn contest(plan: Plan, name: &str, mut ours: Contender<'_>, mut theirs: Contender<'_>) -> (Figures, Figures) {
    eprintln!("{name} ...");
    let Ok(figures) =
        duel::<Infallible>(plan, |length| Ok(ours.window(length)), |length| Ok(theirs.window(length)));
    figures
}

fn device_rows(plan: Plan, wanted: &dyn Fn(&str) -> bool) -> Vec<Row> {
    let named = SHAPES.map(|shape| (format!("device end: {}, per descriptor", shape.name), shape));
    let row = |(name, shape): (String, _)| {
        let figures =
            contest(plan, &name, device_end::ours(RingFormat::Split, shape), device_end::theirs(shape));
        Row::against(name, device_end::PEER, figures, Some(DEVICE_TARGET))
    };
    named.into_iter().filter(|(name, _)| wanted(name)).map(row).collect()
}

fn driver_rows(plan: Plan, wanted: &dyn Fn(&str) -> bool) -> Vec<Row> {
    let paces = [(Publish::Batch, ""), (Publish::Each, ", published each")];
    let cases = paces.into_iter().flat_map(|(publish, pace)| {
        Pieces::ALL.map(|(pieces, name)| (format!("driver end: {name}{pace}, per buffer"), pieces, publish))
    });
    let row = |(name, pieces, publish): (String, _, _)| {
        let figures = contest(plan, &name, driver_end::ours(pieces, publish), driver_end::theirs(pieces));
        let target = (publish == Publish::Batch).then_some(DRIVER_TARGET);
        Row::against(name, driver_end::PEER, figures, target)
    };
    cases.filter(|(name, ..)| wanted(name)).map(row).collect()
}

fn bounce_rows(plan: Plan, wanted: &dyn Fn(&str) -> bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for (format, layout) in [(RingFormat::Split, "split"), (RingFormat::Packed, "packed")] {
        for batch in [1, 8, 32] {
            let name = format!("two cores: {layout}, batch {batch}");
            if !wanted(&name) {
                continue;
            }
            eprintln!("{name} ...");
            let mut bounce = Bounce::new(format, batch);
            bounce.window(plan.window);
            let best = Figures::of((0..plan.windows).map(|_| bounce.window(plan.window)).collect()).best;
            rows.push(Row::alone(format!("{name}, per round trip"), best));
            rows.push(Row::alone(format!("{name}, per request"), best / f64::from(batch)));
        }
    }
    rows
}

fn check_rows(plan: Plan, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<Row>> {
    let cases: Vec<_> = checks::cases().into_iter().enumerate().filter(|(_, case)| wanted(&case.0)).collect();
    if cases.is_empty() {
        return Ok(Vec::new());
    }
    let mut checked = Program::start(&std::env::current_exe()?)?;
    let mut unchecked = Program::start(&checks::build_unchecked()?)?;
    let mut rows = Vec::new();
    for (number, (name, ..)) in cases {
        eprintln!("{name} ...");
        let figures = duel(
            plan,
            |length: Duration| checked.window(number, length),
            |length: Duration| unchecked.window(number, length),
        )?;
        rows.push(Row::against(name, checks::PEER, figures, None));
    }
    rows.push(Row::mean("checks: geometric mean", checks::PEER, &rows, Some(CHECKS_TARGET)));
    Ok(rows)
}
