//! Which crate may depend on which: the architecture as a table.
//!
//! A new crate is a new row here. Crates are named by their folder, `/*` standing for every folder below.

/// One crate, or one family of crates.
#[derive(Debug)]
pub(super) struct Layer {
    /// The crate's folder below the workspace's.
    pub(super) folder: &'static str,
    /// Our crates that it may depend on, for its code and its build script.
    pub(super) ours: &'static [&'static str],
    /// Our crates that its tests and documentation examples may use beside those.
    pub(super) in_tests: &'static [&'static str],
    pub(super) foreign: Foreign,
    pub(super) standard_library: StandardLibrary,
    pub(super) panics: Panics,
}

/// Crates that are not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Foreign {
    Allowed,
    /// Kernel modules compile these files, and Kbuild knows no registry.
    InTestsOnly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StandardLibrary {
    Used,
    /// `#![no_std]`.
    Absent,
}

/// Whether the crate sees what a guest, a client or a driver sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Panics {
    /// Set-up and tooling: no peer reaches it.
    Unreachable,
    /// Unchecked indexing and `panic!` are denied.
    Denied,
}

/// Crates of others that do what we do: only the benchmarks may hold them, to compare.
pub(super) const PEERS: &[&str] = &["virtio-queue", "virtio-drivers", "vm-memory"];

/// Where peers may appear.
pub(super) const PEERS_ALLOWED_IN: &str = "bench";

const SPEC: &str = "crates/spec";
const VIRTQUEUE: &str = "crates/virtqueue";
const VIRTIO_DRIVER: &str = "crates/virtio-driver";
const STATE: &str = "crates/state";
const PCI: &str = "crates/pci";
const VIRTIO_DEVICE: &str = "crates/virtio-device";
const DEVICES: &str = "crates/devices/*";
const VIRTIO_MMIO: &str = "crates/virtio-mmio";
const VIRTIO_PCI: &str = "crates/virtio-pci";
const VIRTIO_PCIDEV: &str = "crates/virtio-pcidev";
const VHOST_KERNEL: &str = "crates/vhost-kernel";
const VHOST_USER: &str = "crates/vhost-user";
const VDUSE: &str = "crates/vduse";
const VFIO_USER: &str = "crates/vfio-user";
const PCI_DEVICES: &str = "crates/pci-devices/*";
const MACHINE: &str = "crates/machine";
const LOOPBACK: &str = "crates/loopback";

const EVERY_LIBRARY: &[&str] = &[
    SPEC,
    VIRTQUEUE,
    VIRTIO_DRIVER,
    STATE,
    PCI,
    VIRTIO_DEVICE,
    DEVICES,
    VIRTIO_MMIO,
    VIRTIO_PCI,
    VIRTIO_PCIDEV,
    VHOST_KERNEL,
    VHOST_USER,
    VDUSE,
    VFIO_USER,
    PCI_DEVICES,
    MACHINE,
    LOOPBACK,
];

/// A library that faces a peer, which is what most of them are.
const FACING_A_PEER: Layer = Layer {
    folder: "",
    ours: &[],
    in_tests: &[],
    foreign: Foreign::Allowed,
    standard_library: StandardLibrary::Used,
    panics: Panics::Denied,
};

/// What no peer reaches: tools and programs.
const TOOLING: Layer = Layer { panics: Panics::Unreachable, ..FACING_A_PEER };

/// What a kernel module could compile: no registry, no standard library.
const FREESTANDING: Layer =
    Layer { foreign: Foreign::InTestsOnly, standard_library: StandardLibrary::Absent, ..FACING_A_PEER };

/// Dependencies point at earlier rows only.
pub(super) const LAYERS: &[Layer] = &[
    Layer { folder: SPEC, panics: Panics::Unreachable, ..FREESTANDING },
    Layer { folder: VIRTQUEUE, ours: &[SPEC], ..FREESTANDING },
    // Never the device side, and the device side never this: only `loopback` and the program see both.
    Layer { folder: VIRTIO_DRIVER, ours: &[SPEC, VIRTQUEUE], in_tests: &[LOOPBACK], ..FREESTANDING },
    Layer { folder: STATE, ..FACING_A_PEER },
    // Of virtqueues it knows what memory is: functions access it.
    Layer { folder: PCI, ours: &[SPEC, VIRTQUEUE, STATE], ..FACING_A_PEER },
    Layer { folder: VIRTIO_DEVICE, ours: &[SPEC, VIRTQUEUE, STATE], in_tests: &[LOOPBACK], ..FACING_A_PEER },
    // A device names no transport and no ring.
    Layer {
        folder: DEVICES,
        ours: &[SPEC, VIRTIO_DEVICE],
        in_tests: &[LOOPBACK, VIRTQUEUE],
        ..FACING_A_PEER
    },
    Layer {
        folder: VIRTIO_MMIO,
        ours: &[SPEC, VIRTQUEUE, VIRTIO_DEVICE, STATE],
        in_tests: &[LOOPBACK, DEVICES],
        ..FACING_A_PEER
    },
    Layer {
        folder: VIRTIO_PCI,
        ours: &[SPEC, VIRTQUEUE, PCI, VIRTIO_DEVICE, STATE],
        in_tests: &[LOOPBACK, DEVICES],
        ..FACING_A_PEER
    },
    // A virtio device with a function in it, which may be virtio-pci again; tested by a driver that reaches that through commands.
    Layer {
        folder: VIRTIO_PCIDEV,
        ours: &[SPEC, VIRTQUEUE, PCI, VIRTIO_DEVICE, VIRTIO_PCI, STATE],
        in_tests: &[LOOPBACK, VIRTIO_DRIVER, DEVICES, PCI_DEVICES],
        ..FACING_A_PEER
    },
    Layer {
        folder: VHOST_KERNEL,
        ours: &[SPEC, VIRTQUEUE, VIRTIO_DEVICE],
        in_tests: &[LOOPBACK, DEVICES],
        ..FACING_A_PEER
    },
    Layer {
        folder: VHOST_USER,
        ours: &[SPEC, VIRTQUEUE, VIRTIO_DEVICE],
        in_tests: &[LOOPBACK, DEVICES],
        ..FACING_A_PEER
    },
    Layer {
        folder: VDUSE,
        ours: &[SPEC, VIRTQUEUE, VIRTIO_DEVICE],
        in_tests: &[LOOPBACK, DEVICES],
        ..FACING_A_PEER
    },
    // It knows virtio-pci as a function whose memory changes, and tests with a driver at the client's end of the wire.
    Layer {
        folder: VFIO_USER,
        ours: &[SPEC, VIRTQUEUE, PCI, VIRTIO_DEVICE, VIRTIO_PCI, STATE],
        in_tests: &[LOOPBACK, VIRTIO_DRIVER, DEVICES, PCI_DEVICES],
        ..FACING_A_PEER
    },
    Layer { folder: PCI_DEVICES, ours: &[SPEC, PCI], in_tests: &[LOOPBACK], ..FACING_A_PEER },
    Layer {
        folder: MACHINE,
        ours: &[
            SPEC,
            VIRTQUEUE,
            PCI,
            VIRTIO_DEVICE,
            VIRTIO_MMIO,
            VIRTIO_PCI,
            VHOST_KERNEL,
            VHOST_USER,
            VDUSE,
            VFIO_USER,
        ],
        in_tests: &[DEVICES, PCI_DEVICES],
        ..FACING_A_PEER
    },
    Layer {
        folder: LOOPBACK,
        ours: &[
            SPEC,
            VIRTQUEUE,
            VIRTIO_DRIVER,
            PCI,
            VIRTIO_DEVICE,
            VIRTIO_MMIO,
            VIRTIO_PCI,
            VHOST_KERNEL,
            VHOST_USER,
            VDUSE,
            VFIO_USER,
        ],
        in_tests: &[DEVICES, PCI_DEVICES],
        ..TOOLING
    },
    Layer { folder: "guest", ours: &[SPEC], ..TOOLING },
    // A plugin of QEMU's.
    Layer { folder: "counter", ours: &[SPEC], ..TOOLING },
    Layer { folder: "crates/cli", ours: EVERY_LIBRARY, ..TOOLING },
    Layer { folder: "bench", ours: EVERY_LIBRARY, ..TOOLING },
    Layer { folder: "xtask", ..TOOLING },
];

/// The row of the crate in `folder`.
pub(super) fn of(folder: &str) -> Option<&'static Layer> {
    LAYERS.iter().find(|layer| matches(layer.folder, folder))
}

/// Whether `folder` is the one, or among those, that `pattern` stands for.
pub(super) fn matches(pattern: &str, folder: &str) -> bool {
    match (pattern.strip_suffix("/*"), folder.rsplit_once('/')) {
        (Some(family), Some((parent, _))) => family == parent,
        (Some(_), None) => false,
        (None, _) => pattern == folder,
    }
}
