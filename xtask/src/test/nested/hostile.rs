//! Guests that mean no good: each ends with a line that says what it did, or is stopped by a signal, whatever it does.

mod kernel;

use std::path::Path;

use anyhow::{Context, Result};

use super::check::Check;
use crate::rig::Signal;
use kernel::{Code, Kernel};

pub(super) const CHECKS: &[Check] = &[
    Check::command("a triple fault", &["run", "--kernel", "{files}/triple-fault"])
        .saying(&["faulting"])
        .ending(1)
        .complaining(&[
            "vioduct: the guest has crashed: the guest met a fault while it handled a fault (triple fault)",
        ]),
    Check::command(
        "a doorbell is rung without end",
        &["run", "--kernel", "{files}/ringing", "--device", "entropy,transport=mmio"],
    )
    .signalled(Signal::Interrupt, "ringing")
    .complaining(&[STOPPED]),
    Check::command(
        "a queue that has more in it than it can have",
        &["run", "--kernel", "{files}/broken-ring", "--device", "entropy,transport=mmio"],
    )
    .signalled(Signal::Interrupt, "ringing")
    .complaining(&["entropy", STOPPED]),
    Check::command(
        "every address and port is written, on two processors",
        &[
            "run",
            "--kernel",
            "{files}/writing",
            "--memory",
            "64M",
            "--cpus",
            "2",
            "--device",
            "entropy",
            "--device",
            "pci-demo",
            "--device",
            "block,null=16M",
            "--device",
            "entropy,transport=mmio",
        ],
    )
    .signalled(Signal::Terminate, "once Zonce Zonce ")
    .complaining(&[STOPPED]),
    Check::command(
        "a kernel that has panicked and does nothing",
        &["run", "--kernel", "{kit}/vmlinuz", "--cmdline", "console=ttyS0 panic=0"],
    )
    .signalled(Signal::Terminate, "end Kernel panic")
    .complaining(&[STOPPED]),
];

const STOPPED: &str = "vioduct: the guest was stopped";

/// Makes the kernels.
pub(super) fn files(folder: &Path) -> Result<()> {
    let write = |name: &str, code: Code| {
        let path = folder.join(name);
        std::fs::write(&path, Kernel::of(code)).with_context(|| format!("cannot write {}", path.display()))
    };
    write("triple-fault", Code::new().say("faulting\n").triple_fault())?;
    let ring = |available: u16| {
        kernel::entropy_driver(available).say("ringing\n").forever(|code| code.store(kernel::DOORBELL, 0))
    };
    write("ringing", ring(0))?;
    write("broken-ring", ring(9))?;
    write("writing", Code::new().forever(|code| code.write_everywhere().say("once ")))
}
