//! Linux's own driver of socket devices, in a guest whose programs talk with the host's: by Unix sockets, and through the host's kernel.

use super::check::Check;

pub(super) const CHECKS: &[Check] = &[
    Check::guest_with_tools("our device: 100 connections each way, and every byte", GUEST)
        .own_beside(&[&["sockets", "host-unix", AMOUNT_MIB]])
        .with(&["--device", "vsock,cid=3,path=/run/guest3/vsock"])
        .saying(&[RIGHT])
        .complaining(&[RIGHT]),
    Check::guest_with_tools("the host's kernel: 100 connections each way, and every byte", GUEST)
        .own_beside(&[&["sockets", "host-vsock", AMOUNT_MIB]])
        .with(&["--device", "vsock,cid=3,vhost=on"])
        .saying(&[RIGHT])
        .complaining(&[RIGHT]),
    Check::refusal(
        "a context id that another guest has",
        &[
            "run",
            "--kernel",
            "{kit}/vmlinuz",
            "--device",
            "vsock,cid=3,vhost=on",
            "--device",
            "vsock,cid=3,vhost=on",
        ],
        &["vsock: the kernel does not give the guest its context id (is another guest using it?)"],
    ),
];

/// What all connections carry, there and back. A gibibyte takes minutes here, and has its test without a guest: `crates/loopback/tests/vsock.rs`.
const AMOUNT_MIB: &str = "128";
const GUEST: &str = "sockets,guest,128";
/// What either side says in the end: the guest's output, and that of the host's program among the errors.
const RIGHT: &str = "200 connections at a time: 67109000 bytes have come, and are right";
