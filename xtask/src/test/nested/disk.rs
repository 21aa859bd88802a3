//! Disks, and what is on them after the guest has started again.

use super::check::Check;

pub(super) const CHECKS: &[Check] = &[
    Check::guest(
        "a disk has what was written by Linux's own driver before the guest started again",
        "disk,restart",
    )
    .on_empty(&[("/disk.img", 16 << 20)])
    .with(&["--device", "block,path=/disk.img"])
    .saying(&["wrote 1048576 bytes", "and they are right", "the disk has what was written before"])
    .complaining(&[AGAIN]),
    Check::guest_with_tools(
        "ext4 under fio, and the data is there after the guest started again",
        "file-system",
    )
    .on_empty(&[("/file-system.img", 64 << 20)])
    .with(&["--device", "block,path=/file-system.img"])
    .saying(&["fio has written and verified", "fio has verified what was written before"])
    .complaining(&[AGAIN]),
];

const AGAIN: &str = "vioduct: the guest starts again";
