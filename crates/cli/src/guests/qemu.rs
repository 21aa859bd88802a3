//! QEMU: a PC, by KVM where that runs guests, with our device as a vfio-user or vhost-user client's.

use super::labs::{DataPath, GuestLab};
use super::machine::Attached;
use super::served::Server;
use super::{KERNEL_WORDS, Kit};
use crate::Failure;
use crate::labs::Setup;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::Sender;
use vioduct_machine::probe::{Verdict, probe};
use vioduct_vhost_user::SharedFiles;

const MEMORY: &str = "512M";
/// What QEMU's vhost-user device is for virtio-demo: QEMU takes no number that it has no name for, as 63, and this is one that
/// neither it nor Linux has a driver for (ioMemory, virtio 1.3 §5).
const NAMED_DEVICE_TYPE: u32 = 6;

/// Serves the device at a socket that QEMU connects to when it starts.
pub(super) fn attach(
    lab: GuestLab,
    setup: &Setup,
    room: &Path,
    received: Sender<String>,
) -> Result<Attached, Failure> {
    let socket = room.join("device.sock");
    match lab {
        GuestLab::Demo(DataPath::OtherProcess) => vhost_user(lab, setup, &socket, received),
        GuestLab::PciDemo => {
            let server = Server::function(&socket, vioduct_pci_demo::PciDemo::default())?;
            Ok(vfio_user(server, &socket, lab.kernel_words(0)))
        }
        GuestLab::Demo(_) | GuestLab::Factorial | GuestLab::Echo => {
            let device_type = lab.device_type();
            let server = Server::virtio_pci(&socket, lab.model(device_type, &received)?, setup.ring)?;
            Ok(vfio_user(server, &socket, lab.kernel_words(device_type)))
        }
    }
}

fn vfio_user(server: Server, socket: &Path, kernel_words: Vec<String>) -> Attached {
    let device = serde_json::json!({
        "driver": "vfio-user-pci",
        "socket": { "type": "unix", "path": socket },
    });
    Attached {
        server,
        how: "over vfio-user".to_owned(),
        arguments: vec!["-device".to_owned(), device.to_string()],
        kernel_words,
    }
}

fn vhost_user(
    lab: GuestLab,
    setup: &Setup,
    socket: &Path,
    received: Sender<String>,
) -> Result<Attached, Failure> {
    let info = lab.model(NAMED_DEVICE_TYPE, &received)?.info();
    let model = move || lab.model(NAMED_DEVICE_TYPE, &received);
    let server = Server::vhost_user(socket, SharedFiles::Sealed, model, setup.ring)?;
    let chardev = format!("socket,id=device,path={}", socket.display());
    let packed = if setup.ring == crate::args::Ring::Packed { "on" } else { "off" };
    let device = format!(
        "vhost-user-test-device-pci,chardev=device,virtio-id={},num_vqs={},config_size={},packed={packed}",
        info.device_type,
        info.queue_sizes.len(),
        info.config_len,
    );
    Ok(Attached {
        server,
        how: "over vhost-user".to_owned(),
        arguments: ["-chardev", &chardev, "-device", &device].map(str::to_owned).to_vec(),
        kernel_words: lab.kernel_words(NAMED_DEVICE_TYPE),
    })
}

/// What boots: a q35 machine without anything that the lab has no use for, and memory that servers can map.
pub(super) fn command(kit: &Kit, attached: &Attached) -> Command {
    let (accelerator, processor) = match probe() {
        Verdict::Usable(_) => ("kvm", "host"),
        Verdict::OnlyOpens(_) | Verdict::Unavailable(_) => ("tcg", "max"),
    };
    let mut command = Command::new(&kit.emulator);
    command
        .args(["-accel", accelerator, "-cpu", processor, "-m", MEMORY])
        .arg("-object")
        .arg(format!("memory-backend-memfd,id=memory,size={MEMORY},share=on"))
        .args(["-machine", "q35,memory-backend=memory", "-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-display", "none", "-serial", "stdio"])
        .arg("-kernel")
        .arg(&kit.qemu.kernel)
        .arg("-initrd")
        .arg(&kit.qemu.initramfs)
        .arg("-append")
        .arg(format!("{KERNEL_WORDS} {}", attached.kernel_words.join(" ")))
        .args(&attached.arguments);
    command
}
