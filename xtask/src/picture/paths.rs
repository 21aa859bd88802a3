//! The data paths, and how one request goes along each.

use Lane::{Guest, Kernel, Machine, Server};

/// Who does a part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Guest,
    Kernel,
    Machine,
    Server,
}

impl Lane {
    pub(super) const ALL: [Self; 4] = [Guest, Kernel, Machine, Server];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Guest => "guest",
            Kernel => "host's kernel",
            Machine => "vioduct",
            Server => "another process",
        }
    }
}

/// From whom to whom, and by what.
pub(super) type Step = (Lane, Lane, &'static str);

/// Whether requests leave the guest for the machine's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requests {
    Trap,
    /// Only what the driver does before and after does.
    Pass,
}

/// A data path.
pub(crate) struct Path {
    /// What the lab's report calls it.
    pub(crate) way: &'static str,
    pub(crate) requests: Requests,
    pub(super) title: &'static str,
    pub(super) steps: &'static [Step],
}

pub(crate) const PATHS: [Path; 5] = [
    Path {
        way: "in the machine's process, which every access traps into",
        requests: Requests::Trap,
        title: "emulated registers",
        steps: &[
            (Guest, Kernel, "load or store: exit"),
            (Kernel, Machine, "KVM_RUN returns"),
            (Machine, Kernel, "KVM_RUN, with the value"),
            (Kernel, Guest, "goes on"),
        ],
    },
    Path {
        way: "in the machine's process, which every notification traps into",
        requests: Requests::Trap,
        title: "virtio, and the notification traps",
        steps: &[
            (Guest, Kernel, "doorbell: exit"),
            (Kernel, Machine, "KVM_RUN returns, queue served"),
            (Machine, Kernel, "irqfd"),
            (Kernel, Guest, "interrupt (MSI-X)"),
        ],
    },
    Path {
        way: "in the machine's process",
        requests: Requests::Pass,
        title: "virtio, ioeventfd",
        steps: &[
            (Guest, Kernel, "doorbell: a short exit"),
            (Kernel, Machine, "ioeventfd wakes a thread"),
            (Machine, Kernel, "irqfd"),
            (Kernel, Guest, "interrupt (MSI-X)"),
        ],
    },
    Path {
        way: "in another process, over vhost-user",
        requests: Requests::Pass,
        title: "vhost-user",
        steps: &[
            (Guest, Kernel, "doorbell: a short exit"),
            (Kernel, Server, "ioeventfd wakes a thread of the server"),
            (Server, Kernel, "irqfd"),
            (Kernel, Guest, "interrupt (MSI-X)"),
        ],
    },
    Path {
        way: "in the host's kernel, by vhost",
        requests: Requests::Pass,
        title: "vhost in the kernel",
        steps: &[(Guest, Kernel, "doorbell wakes a worker"), (Kernel, Guest, "interrupt (MSI-X)")],
    },
];
