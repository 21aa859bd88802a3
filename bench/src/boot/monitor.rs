//! Virtual machine monitors, told to boot the same kernel, initial RAM disk and device.

use std::path::{Path, PathBuf};
use std::process::Command;

/// RAM of every guest, in MiB.
pub const RAM_MIB: u64 = 512;

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Ours.
    pub vioduct: PathBuf,
    /// `qemu-system-x86_64`.
    pub qemu: PathBuf,
}

/// A virtual machine monitor, and how it is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Monitor {
    /// Ours as it is.
    Vioduct,
    /// QEMU's microvm without the legacy interrupt controller and its timer, as its manual advises, but with a real-time clock: where
    /// there is none, Linux reads 20,000 times whether it is ready.
    MicroVm,
    /// The same without option ROMs, with the smaller firmware (docs/system/i386/microvm.rst).
    BareMicroVm,
}

/// What the guest's entropy device is reached by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// virtio-mmio.
    Mmio,
    /// virtio-pci.
    Pci,
}

/// What is booted.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// A bzImage, or an ELF file with a PVH entry.
    pub kernel: &'a Path,
    /// The initial RAM disk.
    pub initrd: Option<&'a Path>,
    /// What the kernel is told.
    pub command_line: &'a str,
    /// How its one device is attached.
    pub transport: Transport,
}

impl Monitor {
    /// Those that we compare with.
    pub const PEERS: [Self; 2] = [Self::MicroVm, Self::BareMicroVm];

    /// As tables have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vioduct => "vioduct",
            Self::MicroVm => "microvm",
            Self::BareMicroVm => "bare microvm",
        }
    }

    /// What boots the guest, its serial line on stdout.
    #[must_use]
    pub fn command(self, programs: &Programs, guest: &Guest<'_>) -> Command {
        match self {
            Self::Vioduct => vioduct(&programs.vioduct, guest),
            Self::MicroVm => qemu(&programs.qemu, "", guest),
            Self::BareMicroVm => {
                let mut command = qemu(&programs.qemu, ",x-option-roms=off", guest);
                // Without the ROMs its usual firmware finds no kernel; this one needs none.
                command.args(["-bios", "qboot.rom"]);
                command
            }
        }
    }
}

fn vioduct(program: &Path, guest: &Guest<'_>) -> Command {
    let mut command = Command::new(program);
    command.args(["run", "--memory", &format!("{RAM_MIB}M"), "--cmdline", guest.command_line]);
    command.arg("--kernel").arg(guest.kernel);
    if let Some(initrd) = guest.initrd {
        command.arg("--initrd").arg(initrd);
    }
    command.args([
        "--device",
        match guest.transport {
            Transport::Mmio => "entropy,transport=mmio",
            Transport::Pci => "entropy",
        },
    ]);
    command
}

fn qemu(program: &Path, without: &str, guest: &Guest<'_>) -> Command {
    let (bus, device) = match guest.transport {
        Transport::Mmio => ("", "virtio-rng-device"),
        Transport::Pci => (",pcie=on", "virtio-rng-pci"),
    };
    let mut command = Command::new(program);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-accel", "kvm", "-cpu", "host"]);
    let machine = format!("microvm,isa-serial=on,rtc=on,pit=off,pic=off{bus}{without}");
    command.args(["-M", &machine, "-m", &format!("{RAM_MIB}M")]);
    command.args(["-serial", "stdio", "-device", device, "-append", guest.command_line]);
    command.arg("-kernel").arg(guest.kernel);
    if let Some(initrd) = guest.initrd {
        command.arg("-initrd").arg(initrd);
    }
    command
}
