//! The command line's grammar.

use crate::serve::Door;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use std::path::PathBuf;

/// Write a virtual device once, attach it every way.
#[derive(Parser)]
#[command(name = "vioduct", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Labs: one value's way from a driver to a device and back, and what it costs
    #[command(subcommand)]
    Lab(LabCommand),
    /// Boots a guest in a machine of our own, on KVM
    Run(MachineOptions),
    /// Serves a device to virtual machine monitors in other processes
    Serve(ServeOptions),
    /// The devices there are
    #[command(subcommand)]
    Device(DeviceCommand),
    /// What this host can do, and what to install or load for the rest
    Doctor(Format),
}

#[derive(Subcommand)]
pub(crate) enum LabCommand {
    /// Names each lab and says what it shows
    List(Format),
    /// Runs one lab, or all of them
    Run(RunOptions),
}

#[derive(Subcommand)]
pub(crate) enum DeviceCommand {
    /// Names each device and its options
    List(Format),
}

/// What `serve` is told.
#[derive(Args)]
pub(crate) struct ServeOptions {
    /// A device and its options: see `vioduct device list`
    #[arg(value_name = "DEVICE[,KEY=VALUE]…")]
    pub(crate) device: String,
    #[command(flatten)]
    pub(crate) way: Way,
    /// Over vhost-user: as a PCI function tunnelled over a virtqueue, for User-Mode Linux; what is no virtio device is always so
    #[arg(long, conflicts_with = "vfio_user")]
    pub(crate) pci_tunnel: bool,
    /// Over vhost-user: which files a client's memory may be in
    #[arg(long, value_enum, default_value_t = MemoryFiles::Sealed)]
    pub(crate) memory_files: MemoryFiles,
}

/// How clients reach the device: one of these.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Way {
    /// Serve over vhost-user: listen at PATH, or take an open socket by fd=N; every client gets a device of its own
    #[arg(long, value_name = "PATH|fd=N", value_parser = Door::parse)]
    pub(crate) vhost_user: Option<Door>,
    /// Serve over vfio-user, virtio devices as virtio-pci functions: listen at PATH, or take an open socket by fd=N
    #[arg(long, value_name = "PATH|fd=N", value_parser = Door::parse)]
    pub(crate) vfio_user: Option<Door>,
}

/// Which files a client's memory may be in.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MemoryFiles {
    /// Files that are sealed against shrinking, as memfds can be: no client can harm another
    Sealed,
    /// Any file: for clients that are trusted not to shrink it, as User-Mode Linux needs
    Any,
}

/// What `run` is told.
///
/// The guest's serial line is on stdin and stdout. Ctrl-A X stops the guest, and Ctrl-A Ctrl-A types Ctrl-A.
#[derive(Args)]
pub(crate) struct MachineOptions {
    /// The kernel: a bzImage, or an ELF file with a PVH entry
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: PathBuf,
    /// Its first file system
    #[arg(long, value_name = "FILE")]
    pub(crate) initrd: Option<PathBuf>,
    /// What the kernel is told
    #[arg(long, value_name = "TEXT", default_value = "console=ttyS0")]
    pub(crate) cmdline: String,
    /// Processors, 1 to 16
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) cpus: u8,
    /// RAM, in bytes, or with K, M or G after the number
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = parse_size)]
    pub(crate) memory: u64,
    /// Have the RAM in reserved pages of 2 MiB
    #[arg(long)]
    pub(crate) huge_pages: bool,
    /// A device: see `vioduct device list`. Beside its own options it takes transport=pci|mmio, platform=on to offer ACCESS_PLATFORM, and
    /// vhost-user=PATH for one that a server has; net takes vhost=on and virtio-demo vhost=kernel, to be served by the host's kernel. vfio-user=PATH alone is the PCI function that a server has
    #[arg(long, value_name = "DEVICE[,KEY=VALUE]…|vfio-user=PATH")]
    pub(crate) device: Vec<String>,
    /// Whether this process leaves itself only what a machine with these devices needs: system calls (seccomp), and the files named
    /// here (Landlock)
    #[arg(long, value_enum, value_name = "on|off", default_value_t = SandboxSwitch::On, hide_possible_values = true)]
    pub(crate) sandbox: SandboxSwitch,
}

/// Whether there is a sandbox.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SandboxSwitch {
    On,
    Off,
}

/// A number of bytes: `512M`.
fn parse_size(text: &str) -> Result<u64, String> {
    let shift = match text.bytes().last() {
        Some(b'K' | b'k') => 10,
        Some(b'M' | b'm') => 20,
        Some(b'G' | b'g') => 30,
        _ => 0,
    };
    let number = if shift == 0 { text } else { text.split_at(text.len() - 1).0 };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| {
        format!("`{text}` is no size: write a number of bytes, or one with K, M or G after it")
    })
}

/// How results are printed.
#[derive(Args, Clone, Copy)]
pub(crate) struct Format {
    /// Print JSON, for machines
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `lab run` is told.
#[derive(Args)]
pub(crate) struct RunOptions {
    /// A lab's name (see `vioduct lab list`), or `all`
    #[arg(value_name = "LAB")]
    pub(crate) lab: String,
    /// The machine that the lab runs on
    #[arg(long, value_enum, default_value_t = On::Loopback)]
    pub(crate) on: On,
    /// The transport of virtio devices
    #[arg(long, value_enum, default_value_t = Transport::Pci)]
    pub(crate) transport: Transport,
    /// The layout of virtqueues
    #[arg(long, value_enum, default_value_t = Ring::Split)]
    pub(crate) ring: Ring,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Machines that labs run on.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum On {
    /// The nearest to a real machine that this host can do: kvm, else uml, else loopback
    Auto,
    /// Our drivers against our devices in this process: no VM, no root
    Loopback,
    /// Linux as a process of this host: needs the guest kit
    Uml,
    /// A PC in QEMU, by KVM where that runs guests: needs the guest kit
    Qemu,
    /// Our own machine, on KVM: needs the guest kit
    Kvm,
}

/// Virtio transports.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// A window of registers
    Mmio,
    /// A PCI function with MSI-X
    Pci,
}

/// Virtqueue layouts.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ring {
    /// Descriptor table, available ring, used ring
    Split,
    /// One ring of descriptors that both sides write
    Packed,
}
