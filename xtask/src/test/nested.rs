//! `vioduct` on a host with KVM: on an emulated one, so that it runs where there is none.
//!
//! A topic is a table of checks in a file of its own. `cargo xtask test --only nested --filter WORDS` runs those whose topic or name
//! holds the words.

mod boots;
mod check;
mod disk;
mod host;
mod labs;
mod refusals;
#[cfg(test)]
mod tests;

use anyhow::Result;

use super::{Counts, Place, skip};
use crate::guest;
use check::Check;

/// Checks that belong together.
struct Topic {
    name: &'static str,
    checks: &'static [Check],
}

const TOPICS: &[Topic] = &[
    Topic { name: "host", checks: host::CHECKS },
    Topic { name: "labs", checks: labs::CHECKS },
    Topic { name: "boots", checks: boots::CHECKS },
    Topic { name: "disk", checks: disk::CHECKS },
    Topic { name: "refusals", checks: refusals::CHECKS },
];

impl Topic {
    /// Those that the filter lets through: all of them when there is none.
    fn chosen(&self, filter: Option<&str>) -> impl Iterator<Item = &'static Check> {
        let whole = filter.is_none_or(|words| self.name.contains(words));
        self.checks
            .iter()
            .filter(move |check| whole || filter.is_some_and(|words| check.name.contains(words)))
    }
}

/// Every check counts as one test.
pub(super) fn run(filter: Option<&str>) -> Result<Counts> {
    if !guest::may_provision() {
        let why = "the guest kit is provisioned by root: sudo cargo xtask test";
        return Ok(skip(Place::of_this_run(), "nested KVM", why));
    }
    let mut counts = Counts::default();
    for topic in TOPICS {
        for check in topic.chosen(filter) {
            counts += match check.run() {
                Ok(()) => {
                    println!("ok: nested: {}: {}", topic.name, check.name);
                    Counts::ONE_PASSED
                }
                Err(error) => {
                    println!("FAILED: nested: {}: {}: {error:#}", topic.name, check.name);
                    Counts::ONE_FAILED
                }
            };
        }
    }
    if counts == Counts::default() {
        println!("FAILED: nested: no check has `{}` in its name", filter.unwrap_or_default());
        counts += Counts::ONE_FAILED;
    }
    Ok(counts)
}
