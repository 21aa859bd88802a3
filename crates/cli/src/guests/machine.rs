//! The machines that boot guests, and how a lab's device is attached to each.

use super::boot::Guest;
use super::labs::{DataPath, GuestLab};
use super::served::{Counts, Server};
use super::{Kit, kvm, qemu, uml};
use crate::Failure;
use crate::args::Transport;
use crate::host_instructions::HostInstructions;
use crate::labs::{ServerProcess, Setup};
use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// Where a guest of the kit boots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Machine {
    /// Linux as a process of this host.
    Uml,
    Qemu,
    /// Our own, on KVM.
    Kvm,
}

/// A guest that is on its way, and its device.
pub(super) struct Booted {
    pub(super) guest: Guest,
    pub(super) counts: Counts,
    /// How the device is attached, in words.
    pub(super) how: String,
    /// What the machine's traps call it, where the machine is ours.
    pub(super) device: Option<&'static str>,
    /// Serves until this is dropped.
    #[expect(dead_code, reason = "held for its end")]
    pub(super) server: Option<Server>,
    /// The same in another process.
    #[expect(dead_code, reason = "held for its end")]
    pub(super) process: Option<ServerProcess>,
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
            Self::Kvm => "kvm",
        }
    }

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Uml => "User-Mode Linux",
            Self::Qemu => "QEMU",
            Self::Kvm => "our machine on KVM",
        }
    }

    /// What reaches a virtio device of a lab there, if it can be as `transport` says.
    pub(crate) fn transport(self, lab: GuestLab, transport: Transport) -> Result<&'static str, Failure> {
        match (transport, self, lab) {
            (_, _, GuestLab::PciDemo) => Ok("pci"),
            (Transport::Mmio, Self::Kvm, _) => Ok("mmio"),
            (Transport::Mmio, machine, _) => Err(Failure::Usage(format!(
                "{} has no virtio-mmio device that another process serves: leave --transport out, or run --on loopback",
                machine.title()
            ))),
            (Transport::Pci, Self::Uml, GuestLab::Demo(DataPath::OtherProcess)) => Ok("vhost-user"),
            (Transport::Pci, ..) => Ok("pci"),
        }
    }

    /// How long a guest may take, on a host that has much else to do.
    pub(super) const fn limit(self) -> Duration {
        match self {
            Self::Uml => Duration::from_secs(60),
            Self::Qemu | Self::Kvm => Duration::from_secs(300),
        }
    }

    /// Who counts what a guest has the host execute.
    pub(super) fn host_instructions(self) -> HostInstructions {
        match self {
            Self::Uml | Self::Qemu => HostInstructions::Nobody(format!(
                "what a guest executes in {} may be the host's instructions, too",
                self.title()
            )),
            Self::Kvm => HostInstructions::find(),
        }
    }

    /// Attaches a lab's device and boots the guest; sockets go to `room`.
    pub(super) fn boot(
        self,
        kit: &Kit,
        lab: GuestLab,
        setup: &Setup,
        room: &Path,
        received: Sender<String>,
    ) -> Result<Booted, Failure> {
        let (attached, command) = match self {
            Self::Uml => {
                let attached = uml::attach(lab, setup, room, received)?;
                let command = uml::command(kit, room, &attached);
                (attached, command)
            }
            Self::Qemu => {
                let attached = qemu::attach(lab, setup, room, received)?;
                let command = qemu::command(kit, &attached);
                (attached, command)
            }
            Self::Kvm => return kvm::boot(kit, lab, setup, room, self.limit(), received),
        };
        let guest = Guest::boot(command, self.limit())?;
        let Attached { server, how, .. } = attached;
        Ok(Booted {
            guest,
            counts: server.counts.clone(),
            how,
            device: None,
            server: Some(server),
            process: None,
        })
    }
}
