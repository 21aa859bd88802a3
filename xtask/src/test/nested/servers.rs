//! Devices of other processes, in our machine.

use super::check::Check;

pub(super) const CHECKS: &[Check] = &[
    Check::guest("Linux's entropy driver on a vhost-user server, behind both transports", "entropy")
        .beside(&[
            &["serve", "entropy", "--vhost-user", "/run/pci.sock"],
            &["serve", "entropy", "--vhost-user", "/run/mmio.sock"],
        ])
        .with(&[
            "--device",
            "entropy,vhost-user=/run/pci.sock",
            "--device",
            "entropy,transport=mmio,vhost-user=/run/mmio.sock",
        ])
        .saying(&["read 64 bytes of entropy"]),
    Check::guest("virtio-demo on a vhost-user server, under faulty programs", "driver-checks,virtio-demo")
        .beside(&[&["serve", "virtio-demo", "--vhost-user", "/run/demo.sock"]])
        .with(&["--cpus", "2", "--device", "virtio-demo,vhost-user=/run/demo.sock"])
        .saying(&["ok: a device that comes back works"]),
    Check::guest("a disk of a vhost-user server", "disk")
        .on_empty(&[("/served.img", 16 << 20)])
        .beside(&[&["serve", "block,path=/served.img", "--vhost-user", "/run/disk.sock"]])
        .with(&["--device", "block,null=16M,vhost-user=/run/disk.sock"])
        .saying(&["wrote 1048576 bytes", "and they are right"]),
    Check::guest("pci-demo of a vfio-user server, under faulty programs", "driver-checks,pci-demo")
        .beside(&[&["serve", "pci-demo", "--vfio-user", "/run/pci-demo.sock"]])
        .with(&["--device", "vfio-user=/run/pci-demo.sock"])
        .saying(&["ok: a device that comes back works"]),
    Check::guest("Linux's entropy driver on virtio-pci of a vfio-user server", "entropy")
        .beside(&[&["serve", "entropy", "--vfio-user", "/run/function.sock"]])
        .with(&["--device", "vfio-user=/run/function.sock"])
        .saying(&["read 64 bytes of entropy"]),
];
