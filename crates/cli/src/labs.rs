//! The labs, by name.

mod framework;
mod pci_demo;
mod stage;
mod vhost_demo;
mod virtio_demo;
mod virtio_test;

pub(crate) use stage::failed;
pub(crate) use vhost_demo::ServerProcess;

use crate::Failure;
use crate::args::{Ring, Transport};
use crate::guests::{self, DataPath, GuestLab, Machine};
use crate::report::{Costs, Transcript};

/// What the command line chose.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    /// The machine that boots a guest; without one there is no guest.
    pub(crate) guests: Option<Machine>,
    pub(crate) transport: Transport,
    pub(crate) ring: Ring,
}

/// What a lab is about: it decides which of the choices it has use for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    PlainPci,
    Virtio,
}

type Run = fn(&Setup, &mut Transcript) -> Result<Costs, Failure>;

/// One lab.
pub(crate) struct Lab {
    pub(crate) name: &'static str,
    pub(crate) shows: &'static str,
    subject: Subject,
    /// How it runs on the loopback machine, if it does.
    run: Option<Run>,
    guests: InGuests,
}

/// How a lab runs in guests.
#[derive(Clone, Copy)]
enum InGuests {
    Nowhere,
    /// In every machine that boots them.
    Everywhere(GuestLab),
    /// In our machine alone.
    Ours {
        run: fn(&Setup, &Place, &mut Transcript) -> Result<Costs, Failure>,
        /// Why this host is not one for it, if so.
        why_not: fn() -> Option<String>,
    },
}

/// Where a lab's device is attached.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// What the driver's end of the device is: `mmio`, `pci`, or `vhost-user` for a driver that speaks that itself.
    pub(crate) transport: &'static str,
    /// None for a device without virtqueues.
    pub(crate) ring: Option<Ring>,
}

impl Place {
    pub(crate) fn description(self) -> String {
        let transport = match self.transport {
            "mmio" => "virtio-mmio",
            "pci" if self.ring.is_none() => "PCI",
            "pci" => "virtio-pci",
            other => other,
        };
        match self.ring {
            Some(Ring::Split) => format!("{transport}, split ring"),
            Some(Ring::Packed) => format!("{transport}, packed ring"),
            None => transport.to_owned(),
        }
    }
}

impl Lab {
    /// The machines that it runs on.
    pub(crate) fn machines(&self) -> Vec<&'static str> {
        let guests = match self.guests {
            InGuests::Nowhere => &[][..],
            InGuests::Everywhere(_) => &[Machine::Uml, Machine::Qemu, Machine::Kvm],
            InGuests::Ours { .. } => &[Machine::Kvm],
        };
        let loopback = self.run.map(|_| "loopback");
        loopback.into_iter().chain(guests.iter().map(|machine| machine.name())).collect()
    }

    /// Where its device is attached on the machine that was chosen.
    pub(crate) fn place(&self, setup: &Setup) -> Result<Place, Failure> {
        let ring = (self.subject == Subject::Virtio).then_some(setup.ring);
        let transport = match (setup.guests, self.guests) {
            (Some(machine), InGuests::Everywhere(lab)) => machine.transport(lab, setup.transport)?,
            _ if ring.is_none() => "pci",
            _ => match setup.transport {
                Transport::Mmio => "mmio",
                Transport::Pci => "pci",
            },
        };
        Ok(Place { transport, ring })
    }

    /// Why it does not run on the machine that was chosen, although that is a machine of its, or although it is no choice of the
    /// user's.
    pub(crate) fn why_not(&self, setup: &Setup) -> Option<String> {
        match (setup.guests, self.guests, self.run) {
            (Some(Machine::Kvm), InGuests::Ours { why_not, .. }, _) => why_not(),
            (None, InGuests::Ours { .. }, None) => Some(format!("it runs on {}", self.machines().join(", "))),
            _ => None,
        }
    }

    /// Runs it on the machine that was chosen.
    pub(crate) fn run(&self, setup: &Setup, place: &Place, out: &mut Transcript) -> Result<Costs, Failure> {
        match (setup.guests, self.guests, self.run) {
            (Some(machine), InGuests::Everywhere(lab), _) => lab.run(machine, setup, place, out),
            (Some(Machine::Kvm), InGuests::Ours { run, .. }, _) => run(setup, place, out),
            (None, _, Some(run)) => run(setup, out),
            _ => Err(Failure::Usage(format!("{} runs on {}", self.name, self.machines().join(", ")))),
        }
    }
}

/// Every lab, in the order in which `all` runs them.
pub(crate) const LABS: &[Lab] = &[
    Lab {
        name: "pci-demo",
        shows: "full emulation: each access to a register is a trap",
        subject: Subject::PlainPci,
        run: Some(pci_demo::run),
        guests: InGuests::Everywhere(GuestLab::PciDemo),
    },
    Lab {
        name: "virtio-demo",
        shows: "the same job over a virtqueue: a doorbell per batch",
        subject: Subject::Virtio,
        run: Some(virtio_demo::run),
        guests: InGuests::Everywhere(GuestLab::Demo(DataPath::InProcess)),
    },
    Lab {
        name: "vhost-demo",
        shows: "the same device, its data path in another process: the machine does nothing per request",
        subject: Subject::Virtio,
        run: Some(vhost_demo::run),
        guests: InGuests::Everywhere(GuestLab::Demo(DataPath::OtherProcess)),
    },
    Lab {
        name: "vhost-net",
        shows: "a network by three data paths, as ping and iperf3 have it: this process, another one, the host's kernel",
        subject: Subject::Virtio,
        run: None,
        guests: InGuests::Ours { run: guests::run_network, why_not: guests::why_no_network },
    },
    Lab {
        name: "virtio-test-factorial",
        shows: "a request of 36 bytes, a reply of 4: factorials modulo 2^32",
        subject: Subject::Virtio,
        run: Some(virtio_test::run_factorial),
        guests: InGuests::Everywhere(GuestLab::Factorial),
    },
    Lab {
        name: "virtio-test-echo",
        shows: "a request of 48 bytes, a reply of 12: numbers come back plus 100",
        subject: Subject::Virtio,
        run: Some(virtio_test::run_echo),
        guests: InGuests::Everywhere(GuestLab::Echo),
    },
    Lab {
        name: "framework",
        shows: "a guided tour of a live ring of eight entries",
        subject: Subject::Virtio,
        run: Some(framework::run),
        guests: InGuests::Nowhere,
    },
];
