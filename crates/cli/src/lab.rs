//! `vioduct lab`: which labs there are, and running them.

use crate::Failure;
use crate::args::{Format, On, RunOptions, Transport};
use crate::guests::{Kit, Machine};
use crate::host::why_no_kvm;
use crate::labs::{LABS, Lab, Setup};
use crate::nearest::unknown;
use crate::report::{self, Check, Costs, LabReport, Prints, Transcript};
use serde::Serialize;

/// The name that stands for every lab.
const ALL: &str = "all";

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
    let guests = machine(options.on, options.transport);
    let setup = Setup { guests, transport: options.transport, ring: options.ring };
    let prints = if options.format.json { Prints::Nothing } else { Prints::Lines };
    let mut reports: Vec<LabReport> = Vec::new();
    for lab in chosen(&options.lab, options.on, guests)? {
        let setup = setup_of(lab, setup, options.on);
        match lab.why_not(&setup) {
            None => reports.push(run_one(lab, &setup, prints)?),
            Some(why) if options.lab == ALL => eprintln!("vioduct: LEFT OUT: {}: {why}", lab.name),
            Some(why) if setup.guests.is_some() => {
                return Err(Failure::Failed(format!("{}: {why}", lab.name)));
            }
            Some(why) => return Err(Failure::Usage(format!("{}: {why}", lab.name))),
        }
    }
    if options.format.json {
        report::print_json(&reports)?;
    }
    let wrong: Vec<&str> = reports.iter().filter(|report| !report.ok).map(|report| report.lab).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(format!("these labs did not go as they should: {}", wrong.join(", "))))
}

/// The machine that boots guests, if one does.
fn machine(on: On, transport: Transport) -> Option<Machine> {
    match on {
        On::Loopback => None,
        On::Uml => Some(Machine::Uml),
        On::Qemu => Some(Machine::Qemu),
        On::Kvm => Some(Machine::Kvm),
        On::Auto => {
            let (machine, why) = best(Kit::load().err(), why_no_kvm(), transport);
            eprintln!("vioduct: labs run on {}: {why}", machine_name(machine));
            machine
        }
    }
}

/// The nearest to a real machine that there is, and why no nearer one.
fn best(no_kit: Option<Failure>, no_kvm: Option<String>, transport: Transport) -> (Option<Machine>, String) {
    match (no_kit, no_kvm, transport) {
        (Some(no_kit), ..) => (None, no_kit.into_message()),
        (None, None, _) => (Some(Machine::Kvm), "KVM runs guests here".to_owned()),
        (None, Some(no_kvm), Transport::Pci) => (Some(Machine::Uml), no_kvm),
        // Only our own machines have virtio-mmio devices.
        (None, Some(no_kvm), Transport::Mmio) => (None, no_kvm),
    }
}

fn machine_name(machine: Option<Machine>) -> &'static str {
    machine.map_or("loopback", Machine::name)
}

/// Where a machine was not asked for by name, a lab that boots no guest runs without one.
fn setup_of(lab: &Lab, setup: Setup, on: On) -> Setup {
    let here = on != On::Auto || lab.machines().contains(&machine_name(setup.guests));
    Setup { guests: setup.guests.filter(|_| here), ..setup }
}

fn chosen(name: &str, on: On, guests: Option<Machine>) -> Result<Vec<&'static Lab>, Failure> {
    if name == ALL {
        let runs = |lab: &&Lab| on == On::Auto || lab.machines().contains(&machine_name(guests));
        return Ok(LABS.iter().filter(runs).collect());
    }
    match LABS.iter().find(|lab| lab.name == name) {
        Some(lab) => Ok(vec![lab]),
        None => {
            let names = LABS.iter().map(|lab| lab.name).chain([ALL]);
            Err(Failure::Usage(unknown("lab", name, names)))
        }
    }
}

fn run_one(lab: &'static Lab, setup: &Setup, prints: Prints) -> Result<LabReport, Failure> {
    let on = machine_name(setup.guests);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_to_a_real_machine_is_chosen() {
        let kit = || Some(Failure::Failed("no kit".to_owned()));
        let kvm = || Some("no KVM".to_owned());
        let rows = [
            (None, None, Transport::Pci, Some(Machine::Kvm), "KVM runs guests"),
            (None, None, Transport::Mmio, Some(Machine::Kvm), "KVM runs guests"),
            (None, kvm(), Transport::Pci, Some(Machine::Uml), "no KVM"),
            (None, kvm(), Transport::Mmio, None, "no KVM"),
            (kit(), None, Transport::Pci, None, "no kit"),
            (kit(), kvm(), Transport::Mmio, None, "no kit"),
        ];
        for (no_kit, no_kvm, transport, machine, why) in rows {
            let (chosen, said) = best(no_kit, no_kvm, transport);
            assert_eq!(chosen, machine, "{said}");
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn every_lab_runs_where_a_machine_is_chosen_for_it() {
        let setup =
            Setup { guests: Some(Machine::Uml), transport: Transport::Pci, ring: crate::args::Ring::Split };
        let guests = |on: On| {
            let labs = chosen("all", on, setup.guests).unwrap_or_default();
            labs.into_iter().map(|lab| setup_of(lab, setup, on).guests).collect::<Vec<_>>()
        };
        assert!(guests(On::Uml).iter().all(Option::is_some));
        assert_eq!(guests(On::Auto).len(), LABS.len());
        assert!(guests(On::Auto).contains(&None) && guests(On::Auto).contains(&Some(Machine::Uml)));
    }
}
