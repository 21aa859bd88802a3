//! The one table of devices by name.

use serde::Serialize;

/// A device, for those who choose one.
#[derive(Serialize)]
pub(crate) struct Device {
    pub(crate) name: &'static str,
    pub(crate) is: &'static str,
    /// `key=value` and its meaning.
    pub(crate) options: &'static [(&'static str, &'static str)],
}

/// Every device. A new one is a line here.
pub(crate) const DEVICES: &[Device] = &[
    Device { name: "entropy", is: "virtio entropy source (type 4): the system's random bytes", options: &[] },
    Device { name: "pci-demo", is: "plain PCI function: one trapped register in a BAR", options: &[] },
    Device {
        name: "virtio-demo",
        is: "virtio device (type 63): one stored value, read and written over a virtqueue",
        options: &[],
    },
    Device {
        name: "virtio-test",
        is: "virtio device (type 45 unless told otherwise): two request formats",
        options: &[
            ("format=factorial|echo", "which requests it answers (factorial)"),
            ("id=1..63", "its device type (45)"),
        ],
    },
];
