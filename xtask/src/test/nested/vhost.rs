//! Devices whose queues the host's kernel serves.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::check::Check;
use crate::rig::{Finished, Signal};

pub(super) const CHECKS: &[Check] = &[
    Check::guest("virtio-demo in the kernel, under faulty programs", "driver-checks,virtio-demo")
        .with(&["--device", "virtio-demo,vhost=kernel"])
        .saying(&["ok: a device that comes back works"])
        .judged(is_the_kernels),
    Check::guest("the same behind virtio-mmio", "driver-checks,virtio-demo")
        .with(&["--cpus", "2", "--device", "virtio-demo,vhost=kernel,transport=mmio"])
        .saying(&["ok: a device that comes back works"])
        .judged(is_the_kernels),
    Check::command(
        "the lab shows both back-ends, behind virtio-pci",
        &["lab", "run", "vhost-demo", "--on", "kvm", "--json"],
    )
    .judged(both_serve),
    Check::guest("a machine that is killed with requests in flight", "driver-checks,virtio-demo")
        .with(&["--cpus", "2", "--device", "virtio-demo,vhost=kernel"])
        .signalled(Signal::Kill, IN_FLIGHT)
        .ending(KILLED)
        .saying(&[IN_FLIGHT])
        .judged(is_the_kernels),
    Check::guest("the next one after that", "virtio-demo")
        .with(&["--device", "virtio-demo,vhost=kernel"])
        .saying(&["first read 0x1333", "wrote 0x3333, read 0x3333"])
        .judged(is_the_kernels),
];

/// What the guest says before it has requests in flight without end.
const IN_FLIGHT: &str = "ok: a bad pointer is EFAULT";
/// As a shell has it.
const KILLED: u8 = 128 + 9;
/// Register accesses of a driver that sets its device up, at most. A lab has a thousand requests.
const SET_UP: u64 = 500;

/// What cannot be served there is served by the machine's process, which says so.
fn is_the_kernels(said: &Finished) -> Result<()> {
    match said.errors.contains("does not serve it") {
        false => Ok(()),
        true => bail!("the kernel has refused"),
    }
}

fn both_serve(said: &Finished) -> Result<()> {
    is_the_kernels(said)?;
    let labs: Vec<Value> = serde_json::from_str(&said.output).context("the lab's report is not JSON")?;
    let lab = labs.first().context("no lab has run")?;
    if lab["ok"] != true {
        bail!("the lab did not go as it should: {lab:#}");
    }
    for place in ["in another process", "in the host's kernel"] {
        let ways = lab["cost"]["ways"].as_array().context("the lab has no costs")?;
        let way = ways.iter().find(|way| way["way"].as_str().is_some_and(|words| words.contains(place)));
        let way = way.with_context(|| format!("nothing is served {place}"))?;
        let traps = ["register_reads", "register_writes"].map(|name| way[name].as_u64().unwrap_or(u64::MAX));
        if traps.iter().any(|traps| *traps > SET_UP) {
            bail!("{place}: requests trap: {way:#}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ways: &[(&str, u64)]) -> Finished {
        let way = |(way, traps): &(&str, u64)| serde_json::json!({"way": way, "register_reads": traps, "register_writes": traps});
        let ways: Vec<Value> = ways.iter().map(way).collect();
        let output = serde_json::json!([{"ok": true, "cost": {"ways": ways}}]).to_string();
        Finished { status: 0, output, errors: String::new() }
    }

    #[test]
    fn both_must_serve_and_requests_must_not_trap() {
        let (process, kernel) = ("one, in another process, over x", "one, in the host's kernel, by x");
        both_serve(&report(&[(process, 60), (kernel, 60)])).unwrap();
        for (ways, why) in [
            (&[(process, 60)][..], "nothing is served in the host's kernel"),
            (&[(process, 60), (kernel, 2000)], "requests trap"),
        ] {
            let error = both_serve(&report(ways)).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn a_refusal_is_not_the_kernels_service() {
        let errors = "WARN vhost in the kernel does not serve it, this process does: x".to_string();
        assert!(is_the_kernels(&Finished { errors, ..report(&[]) }).is_err());
    }
}
