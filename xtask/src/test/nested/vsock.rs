//! Linux's own driver of socket devices, in a guest whose programs talk with the host's: by Unix sockets, and through the host's kernel.

use super::check::Check;
use super::vhost::is_the_kernels;

pub(super) const CHECKS: &[Check] = &[
    Check::guest_with_tools("our device: 100 connections each way, and every byte", ALL)
        .own_beside(&[&["sockets", "host-unix", ALL_MIB]])
        .with(&["--device", "vsock,cid=3,path=/run/guest3/vsock"])
        .saying(&[ALL_RIGHT])
        .complaining(&[ALL_RIGHT]),
    Check::guest_with_tools("the host's kernel: 100 connections each way, and every byte", ALL)
        .own_beside(&[&["sockets", "host-vsock", ALL_MIB]])
        .with(&["--device", "vsock,cid=3,vhost=on"])
        .saying(&[ALL_RIGHT])
        .complaining(&[ALL_RIGHT])
        .judged(is_the_kernels),
    Check::guest_with_tools("the same behind virtio-mmio, with addresses of the platform's", A_LITTLE)
        .own_beside(&[&["sockets", "host-vsock", A_LITTLE_MIB]])
        .with(&["--device", "vsock,cid=3,vhost=on,transport=mmio,platform=on"])
        .saying(&["the device has addresses of its platform's", A_LITTLE_RIGHT])
        .complaining(&[A_LITTLE_RIGHT])
        .judged(is_the_kernels),
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

/// What all connections carry, there and back: what goes through our device in a minute here, on a quiet machine with two processors.
/// A gibibyte took it 250 s, and the host's kernel 82 s at one time and 181 s at another. Through User-Mode Linux it goes at the speed of this
/// machine: `crates/cli/tests/guests/sockets.rs`.
const ALL_MIB: &str = "256";
const ALL: &str = "sockets,guest,256";
/// What either side says in the end of what it has heard, which is half: the guest's output, and that of the host's program among the errors.
const ALL_RIGHT: &str = "200 connections at a time: 134217800 bytes have come, and are right";
/// The same of what need not be much.
const A_LITTLE_MIB: &str = "16";
const A_LITTLE: &str = "sockets,guest,16";
const A_LITTLE_RIGHT: &str = "200 connections at a time: 8388800 bytes have come, and are right";
