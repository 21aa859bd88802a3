//! What Linux counts of a network card.

use std::fs;
use std::path::Path;

use super::programs::{Program, run};
use crate::Failure;
use crate::bus::features_of;
use crate::interrupts;
use vioduct_spec::Features;

const CARDS: &str = "/sys/class/net";

/// Since the card is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counters {
    /// Received and sent, as the driver has them: with offloads, a packet has up to 64 KiB.
    pub(super) packets: u64,
    /// In these.
    pub(super) bytes: u64,
    /// Notifications of the device.
    pub(super) kicks: u64,
    pub(super) interrupts: u64,
}

impl Counters {
    pub(super) fn read(card: &str) -> Result<Self, Failure> {
        let count = |name: &str| number(&Path::new(CARDS).join(card).join("statistics").join(name));
        let both = |name: &str| Ok(count(&format!("rx_{name}"))? + count(&format!("tx_{name}"))?);
        let device = fs::read_link(Path::new(CARDS).join(card).join("device"));
        let device = device.ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        Ok(Self {
            packets: both("packets")?,
            bytes: both("bytes")?,
            kicks: kicks(&run(&Program::of("ethtool").with(&["-S", card]))?, is_of_a_queue),
            interrupts: device.map_or(0, |device| interrupts::of(&device)),
        })
    }

    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            packets: self.packets - before.packets,
            bytes: self.bytes - before.bytes,
            kicks: self.kicks - before.kicks,
            interrupts: self.interrupts - before.interrupts,
        }
    }
}

pub(super) fn exists(card: &str) -> bool {
    Path::new(CARDS).join(card).exists()
}

pub(super) fn has_link(card: &str) -> bool {
    number(&Path::new(CARDS).join(card).join("carrier")) == Ok(1)
}

/// The features that its driver and the device agreed on.
pub(super) fn features(card: &str) -> Result<Features, Failure> {
    let path = Path::new(CARDS).join(card).join("device/features");
    let text = fs::read_to_string(&path);
    let text = text.map_err(|error| Failure::Lab(format!("cannot read {}: {error}", path.display())))?;
    Ok(Features(features_of(&text)))
}

/// How often the device was told of packets to send in this pair of queues.
pub(super) fn sent_by(card: &str, pair: u8) -> Result<u64, Failure> {
    let queue = format!("tx{pair}");
    Ok(kicks(&run(&Program::of("ethtool").with(&["-S", card]))?, |name| name == queue))
}

fn number(path: &Path) -> Result<u64, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::Lab(format!("cannot read {}: {error}", path.display())))?;
    text.trim().parse().map_err(|error| Failure::Lab(format!("{}: {error}", path.display())))
}

/// `rx0`, and not `rx` for all of them.
fn is_of_a_queue(name: &str) -> bool {
    name.ends_with(|digit: char| digit.is_ascii_digit())
}

/// Reads `ethtool -S`: lines such as `     rx0_kicks: 17`.
fn kicks(text: &str, wanted: impl Fn(&str) -> bool) -> u64 {
    let of_a_queue = |line: &str| {
        let (queue, count) = line.trim().split_once("_kicks: ")?;
        wanted(queue).then(|| count.parse::<u64>().ok())?
    };
    text.lines().filter_map(of_a_queue).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kicks_are_those_of_queues() {
        let text = "NIC statistics:\n     rx_kicks: 9\n     rx0_kicks: 1\n     tx0_kicks: 20\n     tx1_kicks: 300\n     tx1_drops: 7\n";
        assert_eq!(kicks(text, is_of_a_queue), 321);
        assert_eq!(kicks(text, |name| name == "tx1"), 300);
    }
}
