//! Our vhost device in the host's kernel, under programs with faults.

use super::check::Check;

pub(super) const CHECKS: &[Check] =
    &[Check::own("it bears every use and every misuse, and the kernel with it", &["vhost-checks"]).saying(
        &[
            "ok: requests are answered, whatever their layout and the ring's features",
            "ok: a queue goes from thread to thread, at rest and at work",
            "ok: the module stays while it is used, and goes with a program that is killed",
            "ok: after all of it, the device works",
            "ok: the kernel's log has no alarm",
        ],
    )];
