//! Devices whose queues the host's kernel serves.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::check::Check;
use crate::guest;
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
    Check::program("every page that the kernel writes is in the memory's log", &["{files}/dirty_log"])
        .saying(&[
            "ok: vhost-net, none: all",
            "ok: vhost-net, EVENT_IDX: all",
            "ok: vhost-net, bit 15: all",
            "ok: vhost-net, bit 15 | EVENT_IDX: all",
            "ok: vhost-net, ACCESS_PLATFORM: all",
            "ok: vhost-net, EVENT_IDX | ACCESS_PLATFORM: all",
            "ok: vhost-net, bit 15 | ACCESS_PLATFORM: all",
            "ok: vhost-net, bit 15 | EVENT_IDX | ACCESS_PLATFORM: all",
            "ok: vhost-demo, none: all",
            "ok: vhost-demo, EVENT_IDX: all",
        ])
        .judged(is_the_kernels),
    Check::program(
        "each packet comes once and whole, however often the kernel is stopped",
        &["{files}/packets"],
    )
    .saying(&[
        "of the kernel's threads",
        "ok: the interface's headers, none: ",
        "ok: the interface's headers, EVENT_IDX: ",
        "ok: the interface's headers, bit 15: ",
        "ok: the interface's headers, bit 15 | EVENT_IDX: ",
        "ok: the kernel's headers, none: ",
        "ok: the kernel's headers, EVENT_IDX: ",
        "ok: the kernel's headers, bit 15: ",
        "ok: the kernel's headers, bit 15 | EVENT_IDX: ",
    ])
    .judged(is_the_kernels),
];

/// The programs that compare memory with its log, and have packets go through stops.
pub(super) fn files(folder: &Path) -> Result<()> {
    for name in ["dirty_log", "packets"] {
        let program = guest::example("vioduct-vhost-kernel", name)?;
        std::fs::copy(&program, folder.join(name)).context("cannot copy a program")?;
    }
    Ok(())
}

/// What the guest says before it has requests in flight without end.
const IN_FLIGHT: &str = "ok: a bad pointer is EFAULT";
/// As a shell has it.
const KILLED: u8 = 128 + 9;

/// What cannot be served there is served by the machine's process, which says so.
pub(super) fn is_the_kernels(said: &Finished) -> Result<()> {
    match said.errors.contains("does not serve it") {
        false => Ok(()),
        true => bail!("the kernel has refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_not_the_kernels_service() {
        let errors = "WARN vhost in the kernel does not serve it, this process does: x".to_string();
        assert!(is_the_kernels(&Finished { status: 0, output: String::new(), errors }).is_err());
    }
}
