//! The machines that boot guests, and how a lab's device is attached to each.

use super::labs::GuestLab;
use super::served::Server;
use super::{Kit, qemu, uml};
use crate::Failure;
use crate::args::Transport;
use crate::labs::Setup;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// Where a guest of the kit boots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Machine {
    /// Linux as a process of this host.
    Uml,
    Qemu,
}

/// A device with its server, as a machine finds it.
pub(super) struct Attached {
    pub(super) server: Server,
    /// By which protocol, in words.
    pub(super) how: String,
    /// What tells the machine's program of it.
    pub(super) arguments: Vec<String>,
    /// What tells the guest's kernel of it.
    pub(super) kernel_words: Vec<String>,
}

impl Machine {
    /// Its name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Uml => "uml",
            Self::Qemu => "qemu",
        }
    }

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Uml => "User-Mode Linux",
            Self::Qemu => "QEMU",
        }
    }

    /// What reaches a virtio device of a lab there, if it can be as `transport` says.
    pub(crate) fn transport(self, lab: GuestLab, transport: Transport) -> Result<&'static str, Failure> {
        match (transport, self, lab) {
            (_, _, GuestLab::PciDemo) => Ok("pci"),
            (Transport::Mmio, machine, _) => Err(Failure::Usage(format!(
                "{} has no virtio-mmio device that another process serves: leave --transport out, or run --on loopback",
                machine.title()
            ))),
            (Transport::Pci, Self::Uml, GuestLab::VhostDemo) => Ok("vhost-user"),
            (Transport::Pci, ..) => Ok("pci"),
        }
    }

    /// How long a guest may take, on a host that has much else to do.
    pub(super) const fn limit(self) -> Duration {
        match self {
            Self::Uml => Duration::from_secs(60),
            Self::Qemu => Duration::from_secs(300),
        }
    }

    /// Serves a lab's device for a guest that is about to boot.
    pub(super) fn attach(
        self,
        lab: GuestLab,
        setup: &Setup,
        room: &Path,
        received: Sender<String>,
    ) -> Result<Attached, Failure> {
        match self {
            Self::Uml => uml::attach(lab, setup, room, received),
            Self::Qemu => qemu::attach(lab, setup, room, received),
        }
    }

    /// What boots the guest.
    pub(super) fn command(self, kit: &Kit, room: &Path, lab: GuestLab, attached: &Attached) -> Command {
        let mut words = vec![format!("vioduct.lab={}", lab.program())];
        words.extend(attached.kernel_words.iter().cloned());
        match self {
            Self::Uml => uml::command(kit, room, &words),
            Self::Qemu => qemu::command(kit, &attached.arguments, &words),
        }
    }
}
