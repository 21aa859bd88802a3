//! What the host itself must be, for the other topics to say anything.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::check::Check;
use crate::rig::Finished;

pub(super) const CHECKS: &[Check] = &[
    Check::command("KVM is usable, and so are its companions", &["doctor", "--json"]).judged(is_whole),
    Check::command("a failing command's exit status comes out", &["lab", "run", "nonsense"])
        .ending(2)
        .complaining(&["nonsense"]),
];

/// What the doctor must find there.
const WORKING: [&str; 6] = ["kvm", "vhost-net", "vhost-vsock", "vhost-demo", "tun", "vduse"];

fn is_whole(said: &Finished) -> Result<()> {
    let findings: Vec<Value> =
        serde_json::from_str(&said.output).context("the doctor's report is not JSON")?;
    for name in WORKING {
        let finding = findings.iter().find(|finding| finding["name"] == name);
        let finding = finding.with_context(|| format!("the doctor says nothing of {name}"))?;
        if finding["state"] != "ok" {
            bail!("{name} is not ok: {finding}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kvm: &str) -> String {
        let finding = |name: &str| {
            let state = if name == "kvm" { kvm } else { "ok" };
            format!(r#"{{"name":"{name}","state":"{state}"}}"#)
        };
        format!("[{}]", WORKING.map(finding).join(","))
    }

    #[test]
    fn a_host_is_whole_when_all_of_it_is_ok() {
        let judge = |output: String| is_whole(&Finished { status: 0, output, errors: String::new() });
        judge(report("ok")).unwrap();
        for (output, why) in [
            (report("limited"), "kvm is not ok"),
            ("[]".to_string(), "nothing of kvm"),
            (String::new(), "not JSON"),
        ] {
            let error = judge(output).unwrap_err();
            assert!(format!("{error:#}").contains(why), "{error:#}");
        }
    }
}
