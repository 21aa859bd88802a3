//! Guests that boot, and drive our devices.

use super::check::Check;

pub(super) const CHECKS: &[Check] = &[
    Check::guest("two processors, and virtio-demo under faulty programs", "driver-checks,virtio-demo")
        .with(&["--cpus", "2", "--device", "virtio-demo"])
        .saying(&["2 processors", "ok: a device that comes back works"]),
    Check::guest("sixteen processors, and pci-demo under faulty programs", "driver-checks,pci-demo")
        .with(&["--cpus", "16", "--device", "pci-demo"])
        .saying(&["16 processors", "ok: a device that comes back works"]),
    Check::guest("Linux's own entropy driver, behind both transports", "entropy")
        .with(&["--device", "entropy", "--device", "entropy,transport=mmio"])
        .saying(&["1 processors", "read 64 bytes of entropy"]),
    Check::command(
        "Linux's console on our device, and two processors behind virtio-mmio",
        &[
            "run",
            "--kernel",
            "{kit}/vmlinuz",
            "--initrd",
            "{kit}/initramfs-qemu.cpio",
            "--cmdline",
            "console=hvc0 loglevel=7 panic=-1 vioduct.lab=virtio-demo",
            "--cpus",
            "2",
            "--device",
            "console",
            "--device",
            "virtio-demo,transport=mmio",
        ],
    )
    // Of what comes before Linux's driver has the port, Linux drops some or all.
    .saying(&[
        "Run /init as init process",
        "2 processors",
        "wrote 0x3333, read 0x3333",
        "vioduct-guest: exit status 0",
    ]),
];
