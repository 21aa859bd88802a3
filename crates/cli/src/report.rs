//! What a lab has to say: steps, then costs; as text, or as one JSON object.

use crate::Failure;
use crate::args::Ring;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

/// One line of a lab's transcript, with what lies behind it where there is more to show.
#[derive(Serialize)]
pub(crate) struct Step {
    pub(crate) text: String,
    pub(crate) ok: bool,
    /// Tables and rings as they stand after the step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) state: Vec<String>,
}

/// What a number of operations cost, done one way.
#[derive(Serialize)]
pub(crate) struct Cost {
    /// Which way: `emulated PCI`, or virtio in batches of so many.
    pub(crate) way: String,
    pub(crate) operations: u64,
    /// Requests published by one doorbell; 1 where there are no doorbells.
    pub(crate) batch: u64,
    /// Register reads: each a trap in a virtual machine. None where they are not counted.
    pub(crate) register_reads: Option<u64>,
    /// Register writes, doorbells among them: each a trap in a virtual machine.
    pub(crate) register_writes: Option<u64>,
    /// Notifications that the device has taken, and sent. None where they are not counted.
    pub(crate) doorbells: Option<u64>,
    pub(crate) interrupts: Option<u64>,
    /// Bytes of requests and replies.
    pub(crate) bytes_moved: u64,
    /// In guests: how often processes of ours copy them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) copies: Option<Copies>,
    /// From submission to completion of one operation. None where nothing was timed.
    pub(crate) median_ns: Option<u64>,
    pub(crate) p99_ns: Option<u64>,
    /// Whole time by the number of operations.
    pub(crate) per_operation_ns: Option<u64>,
    /// What the host has executed, the guest's instructions not among them. None where nobody counts.
    pub(crate) host_instructions_per_operation: Option<u64>,
    /// Of a network, whose operations are packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) carried: Option<Carried>,
}

/// How often what the guest sends is copied, and what it receives.
#[derive(Serialize)]
pub(crate) struct Copies {
    pub(crate) sent: u32,
    pub(crate) received: u32,
}

/// What a network has carried, and how.
#[derive(Serialize)]
pub(crate) struct Carried {
    /// What arrived, in kbit/s. None where that was not measured.
    pub(crate) to_host_kbits: Option<u64>,
    pub(crate) from_host_kbits: Option<u64>,
    /// A ping's round trip, on average.
    pub(crate) ping_ns: Option<u64>,
    /// Processor time of the threads that serve the queues, for a packet of 1,400 bytes of payload: not of the guest and its exits, nor of
    /// whoever has the packets then.
    pub(crate) server_ns_per_packet: Option<u64>,
}

impl Cost {
    /// Traps by the number of operations.
    fn traps_per_operation(&self) -> Option<String> {
        self.per_operation(self.register_reads? + self.register_writes?)
    }

    /// In hundredths.
    fn per_operation(&self, count: u64) -> Option<String> {
        let hundredths = (count * 100).checked_div(self.operations)?;
        Some(format!("{}.{:02}", hundredths / 100, hundredths % 100))
    }
}

/// The costs of a lab, by the way in which the job was done.
#[derive(Serialize, Default)]
pub(crate) struct Costs {
    pub(crate) ways: Vec<Cost>,
}

/// A lab that has run.
#[derive(Serialize)]
pub(crate) struct LabReport {
    pub(crate) lab: &'static str,
    pub(crate) on: &'static str,
    pub(crate) transport: &'static str,
    pub(crate) ring: Option<Ring>,
    pub(crate) ok: bool,
    pub(crate) steps: Vec<Step>,
    pub(crate) cost: Costs,
}

/// Where a lab writes its transcript: printed as it comes, or kept for JSON.
pub(crate) struct Transcript {
    pub(crate) steps: Vec<Step>,
    prints: Prints,
}

/// Whether a transcript is printed as it comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prints {
    Lines,
    Nothing,
}

impl Transcript {
    pub(crate) fn new(prints: Prints) -> Self {
        Self { steps: Vec::new(), prints }
    }

    /// For what is done on the side.
    pub(crate) fn unheard() -> Self {
        Self::new(Prints::Nothing)
    }

    /// Something that happened, as it should.
    pub(crate) fn say(&mut self, text: impl Into<String>) {
        self.push(text.into(), true, Vec::new());
    }

    /// Something that happened, and how things stand after it.
    pub(crate) fn show(&mut self, text: impl Into<String>, state: Vec<String>) {
        self.push(text.into(), true, state);
    }

    /// Something that should be so.
    pub(crate) fn check(&mut self, text: impl Into<String>, holds: Check) {
        self.push(text.into(), holds == Check::Holds, Vec::new());
    }

    fn push(&mut self, text: String, ok: bool, state: Vec<String>) {
        if self.prints == Prints::Lines {
            let mut out = format!("  {text}{}\n", if ok { "" } else { "   <-- wrong" });
            for line in &state {
                let _ = writeln!(out, "      {line}");
            }
            // A reader that has gone away ends the program where results are complete, in `print_json` or `print_costs`.
            let _ = io::stdout().write_all(out.as_bytes());
        }
        self.steps.push(Step { text, ok, state });
    }

    /// Whether every step went as it should.
    pub(crate) fn ok(&self) -> bool {
        self.steps.iter().all(|step| step.ok)
    }
}

/// Whether what should be so is so.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    Holds,
    Fails,
}

impl Check {
    /// Whether two values are the same.
    pub(crate) fn equal<T: PartialEq>(found: &T, expected: &T) -> Self {
        if found == expected { Self::Holds } else { Self::Fails }
    }
}

/// The middle value and the one that 99 of 100 do not exceed, in nanoseconds; sorts `samples`.
pub(crate) fn percentiles(samples: &mut [Duration]) -> (u64, u64) {
    samples.sort_unstable();
    let at = |percent: usize| {
        let index = (samples.len() * percent / 100).min(samples.len().saturating_sub(1));
        samples.get(index).map_or(0, |sample| u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX))
    };
    (at(50), at(99))
}

/// Prints a value as JSON on stdout.
pub(crate) fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::Failed(format!("cannot write the result as JSON: {error}")))?;
    print_text(&format!("{text}\n"))
}

/// Prints text on stdout; a result that cannot be written is a failure, not silence.
pub(crate) fn print_text(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::Failed(format!("cannot write to stdout: {error}")))
}

/// A heading, and what is below it; a dash for what is not known.
type Column = (&'static str, fn(&Cost) -> Option<String>);

const OPERATIONS: &[Column] = &[
    ("way", |cost| Some(cost.way.clone())),
    ("reg reads", |cost| Some(cost.register_reads?.to_string())),
    ("reg writes", |cost| Some(cost.register_writes?.to_string())),
    ("traps/op", Cost::traps_per_operation),
    ("doorbells", |cost| Some(cost.doorbells?.to_string())),
    ("interrupts", |cost| Some(cost.interrupts?.to_string())),
    ("bytes moved", |cost| Some(cost.bytes_moved.to_string())),
    ("median", |cost| nanoseconds(cost.median_ns)),
    ("p99", |cost| nanoseconds(cost.p99_ns)),
    ("per op", |cost| nanoseconds(cost.per_operation_ns)),
];

const IN_GUESTS: &[Column] = &[
    ("way", |cost| Some(cost.way.clone())),
    ("operations", |cost| Some(cost.operations.to_string())),
    ("reg reads", |cost| Some(cost.register_reads?.to_string())),
    ("reg writes", |cost| Some(cost.register_writes?.to_string())),
    ("traps/op", Cost::traps_per_operation),
    ("doorbells/op", |cost| cost.per_operation(cost.doorbells?)),
    ("interrupts/op", |cost| cost.per_operation(cost.interrupts?)),
    ("copies out", |cost| Some(cost.copies.as_ref()?.sent.to_string())),
    ("copies in", |cost| Some(cost.copies.as_ref()?.received.to_string())),
    ("host instr/op", |cost| Some(cost.host_instructions_per_operation?.to_string())),
    ("op/s", |cost| Some(SECOND_NS.checked_div(cost.per_operation_ns?)?.to_string())),
    ("median", |cost| nanoseconds(cost.median_ns)),
    ("p99", |cost| nanoseconds(cost.p99_ns)),
];
const SECOND_NS: u64 = 1_000_000_000;

const PACKETS: &[Column] = &[
    ("way", |cost| Some(cost.way.clone())),
    ("packets", |cost| Some(cost.operations.to_string())),
    ("bytes", |cost| Some(cost.bytes_moved.to_string())),
    ("traps/packet", Cost::traps_per_operation),
    ("doorbells/packet", |cost| cost.per_operation(cost.doorbells?)),
    ("interrupts/packet", |cost| cost.per_operation(cost.interrupts?)),
    ("copies out", |cost| Some(cost.copies.as_ref()?.sent.to_string())),
    ("copies in", |cost| Some(cost.copies.as_ref()?.received.to_string())),
    ("host instr/packet", |cost| Some(cost.host_instructions_per_operation?.to_string())),
    ("server CPU/packet", |cost| nanoseconds(cost.carried.as_ref()?.server_ns_per_packet)),
    ("to host", |cost| megabits(cost.carried.as_ref()?.to_host_kbits)),
    ("from host", |cost| megabits(cost.carried.as_ref()?.from_host_kbits)),
    ("ping", |cost| nanoseconds(cost.carried.as_ref()?.ping_ns)),
];

fn nanoseconds(number: Option<u64>) -> Option<String> {
    Some(format!("{} ns", number?))
}

fn megabits(kbits: Option<u64>) -> Option<String> {
    let kbits = kbits?;
    Some(format!("{}.{} Mbit/s", kbits / 1000, kbits % 1000 / 100))
}

/// The cost table as text.
pub(crate) fn cost_table(costs: &Costs) -> String {
    let columns = match costs.ways.iter().find_map(|cost| Some((cost.copies.as_ref()?, &cost.carried))) {
        None => OPERATIONS,
        Some((_, None)) => IN_GUESTS,
        Some((_, Some(_))) => PACKETS,
    };
    let mut rows: Vec<Vec<String>> =
        vec![columns.iter().map(|(heading, _)| String::from(*heading)).collect()];
    let cells =
        |cost: &Cost| columns.iter().map(|(_, cell)| cell(cost).unwrap_or_else(|| "-".to_owned())).collect();
    rows.extend(costs.ways.iter().map(cells));
    let longest = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns.len()).map(longest).collect();
    let mut text = String::new();
    for row in &rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(text, "  {cell:<width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Carried, Copies, Cost, Costs, cost_table, percentiles};
    use std::time::Duration;

    fn cost(traps: Option<u64>, operations: u64) -> Cost {
        Cost {
            way: "by hand".to_owned(),
            operations,
            batch: 1,
            register_reads: Some(0),
            register_writes: traps,
            doorbells: None,
            interrupts: None,
            bytes_moved: 0,
            copies: None,
            median_ns: None,
            p99_ns: None,
            per_operation_ns: Some(40_000),
            host_instructions_per_operation: None,
            carried: None,
        }
    }

    #[test]
    fn traps_are_counted_for_each_operation() {
        let shown = |traps, operations| cost(traps, operations).traps_per_operation();
        assert_eq!(shown(Some(2014), 1007).as_deref(), Some("2.00"));
        assert_eq!(shown(Some(63), 1000).as_deref(), Some("0.06"));
        assert_eq!((shown(None, 1000), shown(Some(1), 0)), (None, None));
    }

    #[test]
    fn a_table_shows_what_its_lab_measures_and_a_dash_for_what_nobody_counts() {
        let table = |cost| cost_table(&Costs { ways: vec![cost] });
        let on_loopback = table(cost(Some(1), 10));
        assert!(on_loopback.contains("  per op") && !on_loopback.contains("host instr"), "{on_loopback}");
        let in_a_guest = |counted| Cost { copies: Some(Copies { sent: 1, received: 0 }), ..counted };
        let counted = Cost { host_instructions_per_operation: Some(12_345), ..cost(Some(1), 10) };
        let text = table(in_a_guest(counted));
        assert!(text.contains("host instr/op") && text.contains("12345") && text.contains("25000"), "{text}");
        let text = table(in_a_guest(cost(Some(1), 10)));
        assert_eq!(text.matches("  -").count(), 5, "{text}");
        let carried =
            Carried { to_host_kbits: None, from_host_kbits: None, ping_ns: None, server_ns_per_packet: None };
        let text = table(in_a_guest(Cost { carried: Some(carried), ..cost(Some(1), 10) }));
        assert!(text.contains("host instr/packet") && text.contains("server CPU/packet"), "{text}");
    }

    #[test]
    fn percentiles_of_a_hundred_and_of_none() {
        let mut samples: Vec<Duration> = (1..=100).rev().map(Duration::from_nanos).collect();
        assert_eq!(percentiles(&mut samples), (51, 100));
        assert_eq!(percentiles(&mut []), (0, 0));
    }
}
