//! `vioduct lab`: which labs there are, and running them.

use crate::Failure;
use crate::args::{Format, On, RunOptions};
use crate::labs::{LABS, Lab, Setup};
use crate::nearest::unknown;
use crate::report::{self, Check, Costs, LabReport, Prints, Transcript};
use serde::Serialize;

#[derive(Serialize)]
struct Listed {
    lab: &'static str,
    shows: &'static str,
    on: Vec<&'static str>,
}

/// Prints every lab and what it shows.
pub(crate) fn list(format: Format) -> Result<(), Failure> {
    let labs: Vec<Listed> =
        LABS.iter().map(|lab| Listed { lab: lab.name, shows: lab.shows, on: lab.machines() }).collect();
    if format.json {
        return report::print_json(&labs);
    }
    let line = |lab: &Listed| format!("{:<22} {} ({})\n", lab.lab, lab.shows, lab.on.join(", "));
    let lines: String = labs.iter().map(line).collect();
    report::print_text(&lines)
}

/// Runs one lab or all of them; fails if a step of one did not go as it should.
pub(crate) fn run(options: &RunOptions) -> Result<(), Failure> {
    let setup = Setup { on: options.on, transport: options.transport, ring: options.ring };
    let prints = if options.format.json { Prints::Nothing } else { Prints::Lines };
    let reports: Vec<LabReport> = chosen(&options.lab, options.on)?
        .iter()
        .map(|lab| run_one(lab, &setup, prints))
        .collect::<Result<_, _>>()?;
    if options.format.json {
        report::print_json(&reports)?;
    }
    let wrong: Vec<&str> = reports.iter().filter(|report| !report.ok).map(|report| report.lab).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(format!("these labs did not go as they should: {}", wrong.join(", "))))
}

fn chosen(name: &str, on: On) -> Result<Vec<&'static Lab>, Failure> {
    if name == "all" {
        return Ok(LABS.iter().filter(|lab| lab.machines().contains(&on.machine())).collect());
    }
    match LABS.iter().find(|lab| lab.name == name) {
        Some(lab) => Ok(vec![lab]),
        None => {
            let names = LABS.iter().map(|lab| lab.name).chain(["all"]);
            Err(Failure::Usage(unknown("lab", name, names)))
        }
    }
}

fn run_one(lab: &'static Lab, setup: &Setup, prints: Prints) -> Result<LabReport, Failure> {
    let on = setup.on.machine();
    let place = lab.place(setup)?;
    if prints == Prints::Lines {
        report::print_text(&format!("{} on {on}, {}\n", lab.name, place.description()))?;
    }
    let mut transcript = Transcript::new(prints);
    let cost = match lab.run(setup, &place, &mut transcript) {
        Ok(cost) => cost,
        Err(Failure::Failed(message)) => {
            // The other labs still run, and the report says how far this one came.
            transcript.check(message, Check::Fails);
            Costs::default()
        }
        Err(other) => return Err(other),
    };
    if prints == Prints::Lines {
        let heading = "what it cost; each access to a register is a trap in a virtual machine";
        report::print_text(&format!("  {heading}:\n{}\n", report::cost_table(&cost)))?;
    }
    let ok = transcript.ok();
    let steps = transcript.steps;
    Ok(LabReport { lab: lab.name, on, transport: place.transport, ring: place.ring, ok, steps, cost })
}
