//! What cannot be run is refused by one line that says why, and never by a guest that hangs.

use std::path::Path;

use anyhow::{Context, Result};

use super::check::Check;
use crate::guest;

pub(super) const CHECKS: &[Check] = &[
    Check::refusal(
        "what is no kernel",
        &["run", "--kernel", "{kit}/initramfs-qemu.cpio"],
        &["initramfs-qemu.cpio is not a kernel: give a bzImage"],
    ),
    Check::refusal(
        "a kernel that is not there",
        &["run", "--kernel", "/nonexistent/vmlinuz"],
        &["cannot read the kernel /nonexistent/vmlinuz: No such file or directory"],
    ),
    Check::refusal(
        "a kernel cut short",
        &["run", "--kernel", "{files}/half-a-kernel"],
        &["is truncated: it has"],
    ),
    Check::refusal(
        "a kernel for more memory",
        &["run", "--kernel", "{kit}/vmlinuz", "--memory", "16M"],
        &["vmlinuz needs memory up to"],
    ),
    Check::refusal(
        "a first file system for more memory",
        &["run", "--kernel", "{kit}/vmlinuz", "--initrd", "/huge.img"],
        &["the initrd /huge.img has 1073741824 bytes, and there is room for"],
    )
    .on_empty(&[("/huge.img", 1 << 30)]),
    Check::refusal(
        "huge pages that there are not",
        &["run", "--kernel", "{kit}/vmlinuz", "--huge-pages"],
        &["cannot reserve 512 MiB in huge pages"],
    ),
    Check::refusal(
        "a disk that is a directory",
        &["run", "--kernel", "{kit}/vmlinuz", "--device", "block,path=/tmp"],
        &["`path=/tmp`: it is a directory: give a raw image file"],
    )
    .ending(2),
    Check::refusal(
        "a disk that is not there",
        &["run", "--kernel", "{kit}/vmlinuz", "--device", "block,path=/nonexistent.img"],
        &["`path=/nonexistent.img`: there is no such file: create it"],
    )
    .ending(2),
    Check::refusal(
        "a vhost-user server that is not there",
        &["run", "--kernel", "{kit}/vmlinuz", "--device", "entropy,vhost-user=/run/nobody.sock"],
        &["vhost-user=/run/nobody.sock: "],
    ),
    Check::refusal(
        "a vfio-user server that is not there",
        &["run", "--kernel", "{kit}/vmlinuz", "--device", "vfio-user=/run/nobody.sock"],
        &["vfio-user=/run/nobody.sock: "],
    ),
];

/// Makes the kernel that is cut short.
pub(super) fn files(folder: &Path) -> Result<()> {
    let (whole, half) = (guest::current()?.join("vmlinuz"), folder.join("half-a-kernel"));
    let kernel = std::fs::read(&whole).with_context(|| format!("cannot read {}", whole.display()))?;
    std::fs::write(&half, &kernel[..kernel.len() / 2])
        .with_context(|| format!("cannot write {}", half.display()))
}
