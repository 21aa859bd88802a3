//! User-Mode Linux: a kernel that is an ordinary program, whose virtio devices are vhost-user sockets. It has PCI functions, too,
//! each in a tunnel through such a device.

use super::Kit;
use super::labs::{DataPath, GuestLab};
use super::machine::Attached;
use super::served::Server;
use crate::Failure;
use crate::labs::Setup;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::Sender;
use vioduct_pci_demo::PciDemo;
use vioduct_vhost_user::SharedFiles;

/// The memory is a file in a directory of the host's, which nothing seals.
const MEMORY_FILES: SharedFiles = SharedFiles::Any;

/// What the kernel knows a tunnel by: `CONFIG_UML_PCI_OVER_VIRTIO_DEVICE_ID` of the kit's.
const TUNNEL_TYPE: u32 = 62;
const IN_TUNNEL: &str = "tunnelled over vhost-user";
/// How long a read of a register may take before the kernel gives the tunnel up: a busy host takes its time.
const TUNNEL_DELAY: &str = "virtio_pcidev.max_delay_us=2000000";

/// Serves the device at a socket that the kernel connects to when it boots.
pub(super) fn attach(
    lab: GuestLab,
    setup: &Setup,
    room: &Path,
    received: Sender<String>,
) -> Result<Attached, Failure> {
    let socket = room.join("device.sock");
    let device_type = lab.device_type();
    let model = move || lab.model(device_type, &received);
    let (server, how, bus_type) = match lab {
        GuestLab::Demo(DataPath::OtherProcess) => {
            (Server::vhost_user(&socket, MEMORY_FILES, model, setup.ring)?, "over vhost-user", device_type)
        }
        GuestLab::PciDemo => {
            let server = Server::tunnelled_function(&socket, MEMORY_FILES, PciDemo::default)?;
            (server, IN_TUNNEL, TUNNEL_TYPE)
        }
        GuestLab::Demo(_) | GuestLab::Factorial | GuestLab::Echo => {
            let server = Server::tunnelled_virtio(&socket, MEMORY_FILES, model, setup.ring)?;
            (server, IN_TUNNEL, TUNNEL_TYPE)
        }
    };
    Ok(Attached {
        server,
        how: how.to_owned(),
        arguments: Vec::new(),
        kernel_words: [format!("virtio_uml.device={}:{bus_type}", socket.display()), TUNNEL_DELAY.to_owned()]
            .into_iter()
            .chain(lab.kernel_words(device_type))
            .collect(),
    })
}

/// What boots: the kernel itself.
pub(super) fn command(kit: &Kit, room: &Path, attached: &Attached) -> Command {
    let mut command = Command::new(&kit.uml.kernel);
    command
        .args(["mem=256M", "umid=guest", "con=null", "con0=fd:0,fd:1", "loglevel=5"])
        .arg(format!("uml_dir={}", room.display()))
        .arg(format!("initrd={}", kit.uml.initramfs.display()))
        .args(&attached.kernel_words);
    command
}
