//! The labs on our machine, as a user runs them.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::check::Check;
use crate::rig::Finished;

pub(super) const CHECKS: &[Check] = &[
    Check::command("virtio-pci, split rings", &["lab", "run", "all", "--on", "kvm", "--json"])
        .judged(are_done),
    Check::command(
        "virtio-mmio, packed rings",
        &["lab", "run", "all", "--on", "kvm", "--transport", "mmio", "--ring", "packed", "--json"],
    )
    .judged(are_done),
];

/// Labs that run in guests.
const LABS_IN_GUESTS: usize = 5;

fn are_done(said: &Finished) -> Result<()> {
    let labs: Vec<Value> = serde_json::from_str(&said.output).context("the labs' report is not JSON")?;
    if labs.len() < LABS_IN_GUESTS {
        bail!("only {} labs have run", labs.len());
    }
    match labs.iter().find(|lab| lab["ok"] != true || lab["on"] != "kvm") {
        None => Ok(()),
        Some(lab) => bail!("a lab did not go as it should: {lab:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labs_are_done_when_all_of_them_are_ok() {
        let report = |ok: bool| {
            let lab = format!(r#"{{"lab":"x","on":"kvm","ok":{ok}}}"#);
            format!("[{}]", vec![lab; LABS_IN_GUESTS].join(","))
        };
        let judge = |output: String| are_done(&Finished { status: 0, output, errors: String::new() });
        judge(report(true)).unwrap();
        assert!(judge(report(false)).is_err() && judge("[]".to_string()).is_err());
    }
}
