//! User-Mode Linux: a kernel that is an ordinary program, whose virtio devices are vhost-user sockets.

use super::Kit;
use super::labs::GuestLab;
use super::machine::Attached;
use super::served::Server;
use crate::Failure;
use crate::labs::Setup;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::Sender;
use vioduct_vhost_user::SharedFiles;

/// The memory is a file in a directory of the host's, which nothing seals.
const MEMORY_FILES: SharedFiles = SharedFiles::Any;

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
    Ok(Attached {
        server: Server::vhost_user(&socket, MEMORY_FILES, model, setup.ring)?,
        how: "over vhost-user".to_owned(),
        arguments: Vec::new(),
        kernel_words: [format!("virtio_uml.device={}:{device_type}", socket.display())]
            .into_iter()
            .chain(lab.parameters(device_type))
            .collect(),
    })
}

/// What boots: the kernel itself.
pub(super) fn command(kit: &Kit, room: &Path, words: &[String]) -> Command {
    let mut command = Command::new(&kit.uml.kernel);
    command
        .args(["mem=256M", "umid=guest", "con=null", "con0=fd:0,fd:1", "loglevel=5"])
        .arg(format!("uml_dir={}", room.display()))
        .arg(format!("initrd={}", kit.uml.initramfs.display()))
        .args(words);
    command
}
