//! What cannot be run is refused by one line that says why, and never by a guest that hangs.

use super::check::Check;

pub(super) const CHECKS: &[Check] = &[Check::refusal(
    "what is no kernel",
    &["run", "--kernel", "{kit}/initramfs-qemu.cpio"],
    &["initramfs-qemu.cpio is not a kernel: give a bzImage"],
)];
