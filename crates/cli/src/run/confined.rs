//! The sandbox of `run`: the files that the command line names, and what its devices need.

use crate::Failure;
use crate::args::MachineOptions;
use crate::labs::failed;
use crate::registry;
use crate::run::kernel_vhost;
use std::path::{Path, PathBuf};
use vioduct_machine::sandbox::{Access, Confinement, Files, Need, Sandbox};
use vioduct_virtio_device::Options;

/// Enters it; a system that leaves files out of it is told of.
pub(super) fn enter(options: &MachineOptions) -> Result<Confinement, Failure> {
    let confinement =
        sandbox(options)?.enter().map_err(failed("enter the sandbox (--sandbox off does without)"))?;
    if confinement.files() == Files::Free {
        eprintln!("vioduct: this system has no Landlock: files are not part of the sandbox");
    }
    Ok(confinement)
}

fn sandbox(options: &MachineOptions) -> Result<Sandbox, Failure> {
    let kernels = [Some(&options.kernel), options.initrd.as_ref()];
    let files = kernels.into_iter().flatten().map(|path| (path.clone(), Access::ReadOnly));
    let mut sandbox = Sandbox { files: files.collect(), needs: Vec::new() };
    for device in &options.device {
        match device.starts_with("vfio-user=") {
            true => sandbox.needs.push(Need::UnixSockets),
            false => add(&mut sandbox, &registry::find(device)?.1)?,
        }
    }
    Ok(sandbox)
}

/// Adds what a device uses. `path` is a file in the options of every device that has one, but for two words of consoles and the
/// sockets of socket devices, and the others mean the same everywhere.
fn add(sandbox: &mut Sandbox, device: &Options) -> Result<(), Failure> {
    if device.text("vhost-user").is_some() {
        sandbox.needs.push(Need::UnixSockets);
    }
    if device.text("tap").is_some() {
        sandbox.files.push((PathBuf::from("/dev/net/tun"), Access::Device));
        sandbox.needs.push(Need::Interfaces);
    }
    if let Some(vhost) = kernel_vhost::wanted(device)? {
        sandbox.files.push((PathBuf::from(vhost.node), Access::Device));
        sandbox.needs.push(Need::Vhost);
    }
    let Some(path) = device.text("path") else { return Ok(()) };
    match (device.name(), path) {
        ("console", "stdio") => return Ok(()),
        ("console", "pty") => {
            let why = "console: `path=pty`: the sandbox makes no terminals: --sandbox off does without it";
            return Err(Failure::Usage(why.to_owned()));
        }
        ("vsock", path) => {
            sandbox.files.push((folder_of(path), Access::Sockets));
            sandbox.needs.push(Need::HostPrograms);
            return Ok(());
        }
        _ => {}
    }
    let access = if device.text("readonly") == Some("on") { Access::ReadOnly } else { Access::ReadWrite };
    sandbox.files.push((PathBuf::from(path), access));
    if device.name() == "block" && device.text("io") != Some("threads") {
        sandbox.needs.push(Need::IoUring);
    }
    Ok(())
}

fn folder_of(path: &str) -> PathBuf {
    let folder = Path::new(path).parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Access, Need, Options, Sandbox, add};

    fn of(device: &str) -> Sandbox {
        let mut sandbox = Sandbox::default();
        add(&mut sandbox, &Options::parse(device).unwrap()).unwrap();
        sandbox
    }

    #[test]
    fn a_device_has_its_file_and_what_serves_it() {
        let file = |access| vec![("/disk".into(), access)];
        assert_eq!(
            of("block,path=/disk"),
            Sandbox { files: file(Access::ReadWrite), needs: vec![Need::IoUring] }
        );
        assert_eq!(
            of("block,path=/disk,readonly=on,io=threads"),
            Sandbox { files: file(Access::ReadOnly), needs: Vec::new() }
        );
        assert_eq!(of("block,null=1M"), Sandbox::default());
    }

    #[test]
    fn a_console_has_its_file_and_makes_no_terminal() {
        let file = vec![("/log".into(), Access::ReadWrite)];
        assert_eq!(of("console,path=/log"), Sandbox { files: file, needs: Vec::new() });
        assert_eq!(of("console,path=stdio"), Sandbox::default());
        let terminal = Options::parse("console,path=pty").unwrap();
        let Err(error) = add(&mut Sandbox::default(), &terminal) else { panic!("a terminal is made") };
        assert!(error.into_message().contains("--sandbox off"));
    }

    #[test]
    fn a_network_card_has_interfaces() {
        let files = vec![("/dev/net/tun".into(), Access::Device)];
        assert_eq!(of("net,tap=auto"), Sandbox { files, needs: vec![Need::Interfaces] });
        assert_eq!(of("net,port=reflect"), Sandbox::default());
    }

    #[test]
    fn a_device_of_the_kernels_has_its_node() {
        let node = vec![("/dev/vhost-demo".into(), Access::Device)];
        assert_eq!(of("virtio-demo,vhost=kernel"), Sandbox { files: node, needs: vec![Need::Vhost] });
        let node = vec![("/dev/vhost-vsock".into(), Access::Device)];
        assert_eq!(of("vsock,cid=3,vhost=on"), Sandbox { files: node, needs: vec![Need::Vhost] });
        let both = ["/dev/net/tun", "/dev/vhost-net"].map(|node| (node.into(), Access::Device)).to_vec();
        let needs = vec![Need::Interfaces, Need::Vhost];
        assert_eq!(of("net,tap=vm0,vhost=on"), Sandbox { files: both, needs });
    }

    #[test]
    fn a_socket_device_has_sockets_in_its_folder() {
        let folder = |folder: &str| Sandbox {
            files: vec![(folder.into(), Access::Sockets)],
            needs: vec![Need::HostPrograms],
        };
        assert_eq!(of("vsock,cid=3,path=/run/guest/v"), folder("/run/guest"));
        assert_eq!(of("vsock,cid=3,path=v"), folder("."));
        assert_eq!(of("vsock,cid=3"), Sandbox::default());
    }

    #[test]
    fn a_device_of_a_server_has_sockets() {
        assert_eq!(of("entropy,vhost-user=/s").needs, [Need::UnixSockets]);
        assert_eq!(of("entropy"), Sandbox::default());
    }
}
