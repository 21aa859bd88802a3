//! `vioduct` on a host with KVM: on an emulated one, so that it runs where there is none.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Counts, Place, skip};
use crate::guest;
use crate::rig::Run;

/// One command there, and what tells whether it did what it should.
struct Check {
    name: &'static str,
    arguments: &'static [&'static str],
    /// The exit status that it must end with.
    status: u8,
    /// Looks at what it printed.
    judge: fn(&str) -> Result<()>,
}

const CHECKS: &[Check] = &[
    Check {
        name: "KVM is usable, and so are its companions",
        arguments: &["doctor", "--json"],
        status: 0,
        judge: host_is_whole,
    },
    Check {
        name: "a failing command's exit status comes out",
        arguments: &["lab", "run", "nonsense"],
        status: 2,
        judge: |_| Ok(()),
    },
    Check {
        name: "every lab on our machine: virtio-pci, split rings",
        arguments: &["lab", "run", "all", "--on", "kvm", "--json"],
        status: 0,
        judge: labs_are_done,
    },
    Check {
        name: "every lab on our machine: virtio-mmio, packed rings",
        arguments: &["lab", "run", "all", "--on", "kvm", "--transport", "mmio", "--ring", "packed", "--json"],
        status: 0,
        judge: labs_are_done,
    },
    Check {
        name: "two processors, and virtio-demo under faulty programs",
        arguments: &[
            "run",
            "--kernel",
            "{kit}/vmlinuz",
            "--initrd",
            "{kit}/initramfs-qemu.cpio",
            "--cmdline",
            "console=ttyS0 loglevel=5 panic=-1 vioduct.lab=driver-checks,virtio-demo",
            "--cpus",
            "2",
            "--device",
            "virtio-demo",
        ],
        status: 0,
        judge: |output| says(output, &["2 processors", "ok: a device that comes back works", DONE]),
    },
    Check {
        name: "sixteen processors, and pci-demo under faulty programs",
        arguments: &[
            "run",
            "--kernel",
            "{kit}/vmlinuz",
            "--initrd",
            "{kit}/initramfs-qemu.cpio",
            "--cmdline",
            "console=ttyS0 loglevel=5 panic=-1 vioduct.lab=driver-checks,pci-demo",
            "--cpus",
            "16",
            "--device",
            "pci-demo",
        ],
        status: 0,
        judge: |output| says(output, &["16 processors", "ok: a device that comes back works", DONE]),
    },
    Check {
        name: "Linux's own entropy driver, behind both transports",
        arguments: &[
            "run",
            "--kernel",
            "{kit}/vmlinuz",
            "--initrd",
            "{kit}/initramfs-qemu.cpio",
            "--cmdline",
            "console=ttyS0 loglevel=5 panic=-1 vioduct.lab=entropy",
            "--device",
            "entropy",
            "--device",
            "entropy,transport=mmio",
        ],
        status: 0,
        judge: |output| says(output, &["read 64 bytes of entropy", DONE]),
    },
    Check {
        name: "a disk is written and read by Linux's own driver",
        arguments: &[
            "run",
            "--kernel",
            "{kit}/vmlinuz",
            "--initrd",
            "{kit}/initramfs-qemu.cpio",
            "--cmdline",
            "console=ttyS0 loglevel=5 panic=-1 vioduct.lab=disk",
            "--device",
            "block,path={disk}",
        ],
        status: 0,
        judge: |output| says(output, &["wrote 1048576 bytes", "and they are right", DONE]),
    },
    Check {
        name: "what is no kernel is refused",
        arguments: &["run", "--kernel", "{kit}/initramfs-qemu.cpio"],
        status: 1,
        judge: |_| Ok(()),
    },
];

/// What the guest's program says in the end.
const DONE: &str = "vioduct-guest: exit status 0";

/// Labs that run in guests.
const LABS_IN_GUESTS: usize = 5;

/// What the doctor must find there.
const WORKING: [&str; 5] = ["kvm", "vhost-net", "vhost-vsock", "tun", "vduse"];

/// Every command counts as one test.
pub(super) fn run() -> Result<Counts> {
    if !guest::may_provision() {
        let why = "the guest kit is provisioned by root: sudo cargo xtask test";
        return Ok(skip(Place::of_this_run(), "nested KVM", why));
    }
    let mut counts = Counts::default();
    for check in CHECKS {
        eprintln!("+ vioduct {}", check.arguments.join(" "));
        counts += match check.run() {
            Ok(()) => {
                println!("ok: nested: {}", check.name);
                Counts::ONE_PASSED
            }
            Err(error) => {
                println!("FAILED: nested: {}: {error:#}", check.name);
                Counts::ONE_FAILED
            }
        };
    }
    Ok(counts)
}

impl Check {
    fn run(&self) -> Result<()> {
        let mut output = Vec::new();
        let kit = guest::current()?.display().to_string();
        let disk = Disk::make()?;
        let disk_path = disk.0.display().to_string();
        let named = |argument: &&str| argument.replace("{kit}", &kit).replace("{disk}", &disk_path);
        let arguments: Vec<String> = self.arguments.iter().map(named).collect();
        let ended = Run::of(&arguments).on_a_new_host(&mut output)?;
        self.verdict(ended.status, &String::from_utf8_lossy(&output))
    }

    fn verdict(&self, status: u8, output: &str) -> Result<()> {
        if status != self.status {
            bail!("the exit status is {status} instead of {}, after this output:\n{output}", self.status);
        }
        (self.judge)(output)
    }
}

fn host_is_whole(output: &str) -> Result<()> {
    let findings: Vec<Value> = serde_json::from_str(output).context("the doctor's report is not JSON")?;
    for name in WORKING {
        let finding = findings.iter().find(|finding| finding["name"] == name);
        let finding = finding.with_context(|| format!("the doctor says nothing of {name}"))?;
        if finding["state"] != "ok" {
            bail!("{name} is not ok: {finding}");
        }
    }
    Ok(())
}

/// An empty disk of a guest's, until this is dropped.
struct Disk(PathBuf);

impl Disk {
    const LEN: u64 = 16 << 20;

    fn make() -> Result<Self> {
        let disk = Self(std::env::temp_dir().join(format!("vioduct-disk-{}.img", std::process::id())));
        File::create(&disk.0)
            .and_then(|file| file.set_len(Self::LEN))
            .with_context(|| format!("cannot make {}", disk.0.display()))?;
        Ok(disk)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may not have been made.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The lines must be there, in this order.
fn says(output: &str, expected: &[&str]) -> Result<()> {
    let mut lines = output.lines();
    for words in expected {
        if !lines.any(|line| line.contains(words)) {
            bail!("it has not said `{words}`, or not in this order:\n{output}");
        }
    }
    Ok(())
}

fn labs_are_done(output: &str) -> Result<()> {
    let labs: Vec<Value> = serde_json::from_str(output).context("the labs' report is not JSON")?;
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

    fn report(kvm: &str) -> String {
        let finding = |name: &str| {
            let state = if name == "kvm" { kvm } else { "ok" };
            format!(r#"{{"name":"{name}","state":"{state}"}}"#)
        };
        format!("[{}]", WORKING.map(finding).join(","))
    }

    #[test]
    fn a_host_is_whole_when_all_of_it_is_ok() {
        host_is_whole(&report("ok")).unwrap();
        for (output, why) in [
            (report("limited"), "kvm is not ok"),
            ("[]".to_string(), "nothing of kvm"),
            (String::new(), "not JSON"),
        ] {
            let error = host_is_whole(&output).unwrap_err();
            assert!(format!("{error:#}").contains(why), "{error:#}");
        }
    }

    #[test]
    fn labs_are_done_when_all_of_them_are_ok() {
        let report = |ok: bool| {
            let lab = format!(r#"{{"lab":"x","on":"kvm","ok":{ok}}}"#);
            format!("[{}]", vec![lab; LABS_IN_GUESTS].join(","))
        };
        labs_are_done(&report(true)).unwrap();
        assert!(labs_are_done(&report(false)).is_err() && labs_are_done("[]").is_err());
    }

    #[test]
    fn what_is_said_has_an_order() {
        says("one\ntwo\n", &["one", "two"]).unwrap();
        assert!(says("one\ntwo\n", &["two", "one"]).is_err());
    }

    #[test]
    fn a_status_that_is_not_the_expected_one_fails() {
        for check in CHECKS {
            let error = check.verdict(check.status + 1, "words").unwrap_err().to_string();
            assert!(error.contains("instead of") && error.ends_with("words"), "{error}");
        }
    }
}
