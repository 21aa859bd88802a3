//! Disks, and what is on them.

use super::check::Check;

pub(super) const CHECKS: &[Check] =
    &[Check::guest("a disk is written and read by Linux's own driver", "disk")
        .on_empty(&[("/disk.img", 16 << 20)])
        .with(&["--device", "block,path=/disk.img"])
        .saying(&["wrote 1048576 bytes", "and they are right"])];
