//! The labs, by name.

mod framework;
mod pci_demo;
mod stage;
mod virtio_demo;
mod virtio_test;

use crate::Failure;
use crate::args::{Ring, Transport};
use crate::report::{Costs, Transcript};

/// What the command line chose.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) transport: Transport,
    pub(crate) ring: Ring,
}

/// What a lab is about: it decides which of the choices it has use for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    PlainPci,
    Virtio,
}

/// One lab.
pub(crate) struct Lab {
    pub(crate) name: &'static str,
    pub(crate) shows: &'static str,
    subject: Subject,
    pub(crate) run: fn(&Setup, &mut Transcript) -> Result<Costs, Failure>,
}

/// Where a lab's device is attached.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) transport: Transport,
    /// None for a device without virtqueues.
    pub(crate) ring: Option<Ring>,
}

impl Place {
    pub(crate) fn description(self) -> String {
        let transport = match self.transport {
            Transport::Mmio => "virtio-mmio",
            Transport::Pci if self.ring.is_none() => "PCI",
            Transport::Pci => "virtio-pci",
        };
        match self.ring {
            Some(Ring::Split) => format!("{transport}, split ring"),
            Some(Ring::Packed) => format!("{transport}, packed ring"),
            None => transport.to_owned(),
        }
    }
}

impl Lab {
    pub(crate) fn place(&self, setup: &Setup) -> Place {
        match self.subject {
            Subject::PlainPci => Place { transport: Transport::Pci, ring: None },
            Subject::Virtio => Place { transport: setup.transport, ring: Some(setup.ring) },
        }
    }
}

/// Every lab, in the order in which `all` runs them.
pub(crate) const LABS: &[Lab] = &[
    Lab {
        name: "pci-demo",
        shows: "full emulation: each access to a register is a trap",
        subject: Subject::PlainPci,
        run: pci_demo::run,
    },
    Lab {
        name: "virtio-demo",
        shows: "the same job over a virtqueue: a doorbell per batch",
        subject: Subject::Virtio,
        run: virtio_demo::run,
    },
    Lab {
        name: "virtio-test-factorial",
        shows: "a request of 36 bytes, a reply of 4: factorials modulo 2^32",
        subject: Subject::Virtio,
        run: virtio_test::run_factorial,
    },
    Lab {
        name: "virtio-test-echo",
        shows: "a request of 48 bytes, a reply of 12: numbers come back plus 100",
        subject: Subject::Virtio,
        run: virtio_test::run_echo,
    },
    Lab {
        name: "framework",
        shows: "a guided tour of a live ring of eight entries",
        subject: Subject::Virtio,
        run: framework::run,
    },
];
