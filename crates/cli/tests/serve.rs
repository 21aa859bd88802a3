//! `vioduct serve` as a monitor's operator runs it.
#![allow(clippy::unwrap_used)]

use rustix::io::{FdFlags, fcntl_setfd};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A folder for sockets, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vioduct-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("demo.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vioduct"));
    command.arg("serve").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command(arguments).output().unwrap();
    assert!(stdout.is_empty(), "errors go to stderr");
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// Starts a server and waits for its ready line.
fn serve(device: &str, protocol: &str, socket: &Path) -> (Child, String) {
    let way = format!("--{protocol}");
    let mut child = command(&[device, &way, socket.to_str().unwrap()]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (child, line)
}

#[test]
fn it_says_that_it_is_ready_takes_clients_and_ends_well_on_sigterm() {
    for (device, protocol) in [
        ("virtio-test,format=echo", "vhost-user"),
        ("virtio-demo", "vfio-user"),
        ("pci-demo", "vfio-user"),
        ("entropy", "vhost-user"),
        ("block,null=1M", "vhost-user"),
        ("console", "vhost-user"),
        ("net,port=reflect", "vhost-user"),
        ("net,port=reflect,queues=2", "vfio-user"),
        ("console,path=stdio", "vfio-user"),
        ("vsock,cid=3", "vhost-user"),
        ("pci-demo", "vhost-user"),
    ] {
        let folder = Folder::new("serve");
        let (mut child, line) = serve(device, protocol, &folder.socket());
        let name = device.split(',').next().unwrap();
        assert_eq!(line, format!("ready {name} {protocol} {}\n", folder.socket().display()));
        let mut client = UnixStream::connect(folder.socket()).unwrap();
        let killed = Command::new("kill").arg(child.id().to_string()).status().unwrap();
        assert!(killed.success());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{device}: SIGTERM ends it with status 0");
        // Closed by the server, or reset where the connection was not accepted yet.
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)), "{device}: the connection ends");
        assert!(!folder.socket().exists(), "{device}: the socket file is removed");
    }
}

#[test]
fn a_console_names_the_terminal_that_it_has_made() {
    let folder = Folder::new("terminal");
    let (mut child, line) = serve("console,path=pty", "vfio-user", &folder.socket());
    assert!(line.starts_with("ready console "), "{line}");
    let mut named = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut named).unwrap();
    let name = named.strip_prefix("vioduct: the console is ").unwrap_or_else(|| panic!("{named}"));
    fs::OpenOptions::new().read(true).write(true).open(name.trim_end()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_socket_device_has_its_own_socket_while_a_client_is_there() {
    let folder = Folder::new("sockets");
    let path = folder.socket().with_extension("programs");
    let device = format!("vsock,cid=3,path={}", path.display());
    let (mut child, line) = serve(&device, "vhost-user", &folder.socket());
    assert!(line.starts_with("ready vsock "), "{line}");
    assert!(UnixStream::connect(&path).is_err());
    let client = UnixStream::connect(folder.socket()).unwrap();
    assert_eq!(queue_count(&client), 3);
    UnixStream::connect(&path).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_virtio_device_is_tunnelled_if_told_so() {
    let folder = Folder::new("tunnel");
    let socket = folder.socket();
    let mut command = command(&["virtio-demo", "--pci-tunnel", "--vhost-user", socket.to_str().unwrap()]);
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, format!("ready virtio-demo vhost-user {}\n", socket.display()));
    let client = UnixStream::connect(&socket).unwrap();
    assert_eq!(queue_count(&client), 2, "commands and interrupts, where the device itself has one queue");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Asks the server how many queues there are: vhost-user's GET_QUEUE_NUM, for which MQ is agreed on first.
fn queue_count(mut client: &UnixStream) -> u64 {
    let message = |request: u32, payload: &[u8]| {
        let header = [request, 1, payload.len() as u32].map(u32::to_ne_bytes);
        [header.as_flattened(), payload].concat()
    };
    client.write_all(&message(16, &1u64.to_ne_bytes())).unwrap();
    client.write_all(&message(17, &[])).unwrap();
    let mut reply = [0; 20];
    client.read_exact(&mut reply).unwrap();
    u64::from_ne_bytes(*reply.last_chunk().unwrap())
}

#[test]
fn a_stale_socket_is_replaced_and_one_in_use_is_not() {
    let folder = Folder::new("stale");
    drop(UnixListener::bind(folder.socket()).unwrap());
    let (mut first, line) = serve("virtio-demo", "vhost-user", &folder.socket());
    assert!(line.starts_with("ready "), "{line}");
    let socket = folder.socket();
    let (status, message) = refused(&["virtio-demo", "--vhost-user", socket.to_str().unwrap()]);
    assert_eq!(status, Some(1));
    assert!(message.contains("another server listens"), "{message}");
    UnixStream::connect(folder.socket()).unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn what_cannot_be_served_is_a_usage_error_that_says_what_can() {
    for (arguments, hint) in [
        (&["virtio-tset", "--vhost-user", "/tmp/x"][..], "Did you mean `virtio-test`?"),
        (&["virtio-test,fromat=echo", "--vhost-user", "/tmp/x"][..], "did you mean `format`?"),
        (&["virtio-test,format=both", "--vhost-user", "/tmp/x"][..], "factorial"),
        (&["pci-demo,x=1", "--vhost-user", "/tmp/x"][..], "it has none"),
        (&["virtio-demo", "--vfio-user", "/tmp/x", "--pci-tunnel"][..], "--pci-tunnel"),
        (&["virtio-demo"][..], "--vhost-user"),
        (&["virtio-demo", "--vhost-user", "/tmp/x", "--vfio-user", "/tmp/y"][..], "--vfio-user"),
        (&["pci-demo,x=1", "--vfio-user", "/tmp/x"][..], "it has none"),
        (&["block", "--vhost-user", "/tmp/x"][..], "it needs `path=…`"),
        (&["block,path=/no/such/file", "--vhost-user", "/tmp/x"][..], "there is no such file: create it"),
        (&["block,path=/tmp", "--vhost-user", "/tmp/x"][..], "it is a directory"),
        (&["virtio-demo", "--vhost-user", "fd=1"][..], "from 3 on"),
        (&["virtio-demo", "--vhost-user", "fd=999"][..], "not open"),
    ] {
        let (status, message) = refused(arguments);
        assert_eq!(status, Some(2), "{arguments:?}: {message}");
        assert!(message.contains(hint), "{arguments:?}: {message}");
    }
}

#[test]
fn a_path_that_cannot_be_listened_at_is_a_failure_that_says_why() {
    let folder = Folder::new("file");
    let file = folder.0.join("file");
    fs::write(&file, "no socket").unwrap();
    for (path, hint) in [(file.as_path(), "not a socket"), (Path::new("/nonexistent/x.sock"), "folder exist")]
    {
        let (status, message) = refused(&["virtio-demo", "--vhost-user", path.to_str().unwrap()]);
        assert_eq!(status, Some(1), "{message}");
        assert!(message.contains(hint), "{message}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "no socket", "it is left alone");
}

#[test]
fn a_listening_socket_may_be_inherited_and_sigterm_ends_its_server_too() {
    for protocol in ["vhost-user", "vfio-user"] {
        let folder = Folder::new("inherited");
        let listener = UnixListener::bind(folder.socket()).unwrap();
        // The child gets it under the same number.
        fcntl_setfd(&listener, FdFlags::empty()).unwrap();
        let way = format!("--{protocol}");
        let door = format!("fd={}", listener.as_raw_fd());
        let mut child = command(&["virtio-demo", &way, &door]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, format!("ready virtio-demo {protocol} {door}\n"));
        let killed = Command::new("kill").arg(child.id().to_string()).status().unwrap();
        assert!(killed.success());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{protocol}");
    }
}
