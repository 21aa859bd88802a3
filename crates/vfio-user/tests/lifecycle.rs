//! Clients that come and go, sockets that were there before, and stopping.
#![allow(clippy::unwrap_used)]

mod client;

use client::*;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;
use vioduct_pci_demo::PciDemo;
use vioduct_vfio_user::{Device, ServeError, Server};

fn device() -> Device {
    Device::registers(PciDemo::new()).unwrap()
}

#[test]
fn registers_outlive_the_client() {
    let served = Served::new(device());
    let mut client = Client::qemu(&served.path);
    client.write(0, 0, &[1, 2, 3, 4]).unwrap();
    client.write(CONFIG, 4, &[6, 0]).unwrap();
    drop(client);
    let mut client = Client::qemu(&served.path);
    assert_eq!(client.read(0, 0, 4), Ok(vec![1, 2, 3, 4]));
    assert_eq!(client.read(CONFIG, 4, 2), Ok(vec![6, 0]));
    client.request(RESET, &[]).unwrap();
    assert_eq!(client.read(0, 0, 4), Ok(vec![0; 4]));
    assert_eq!(client.read(CONFIG, 4, 2), Ok(vec![0; 2]));
}

/// One client at a time: the second is served when the first has gone, whatever it has sent by then.
#[test]
fn a_second_client_waits_for_the_first_to_go() {
    let served = Served::new(device());
    let mut first = Client::qemu(&served.path);
    let mut second = Client::connect(&served.path);
    let version = [&[0, 0, 0, 0], QEMU_VERSION.as_bytes(), &[0]].concat();
    let id = second.send(VERSION, 0, &version, &[]);
    let read = second.send(REGION_READ, 0, &access(0, 0, 4), &[]);
    first.write(0, 0, &[7; 4]).unwrap();
    second.socket.set_nonblocking(true).unwrap();
    let early = rustix::net::recv(&second.socket, &mut [0u8; 1][..], rustix::net::RecvFlags::PEEK);
    assert!(early.is_err(), "not served yet");
    second.socket.set_nonblocking(false).unwrap();
    drop(first);
    second.reply(id).unwrap();
    assert_eq!(second.reply(read).unwrap().payload[16..], [7; 4]);
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vfio.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "stale");
    let server = Server::bind(&path, device()).unwrap();
    assert!(matches!(Server::bind(&path, device()), Err(ServeError::InUse(_))));
    drop(server);
    assert!(!path.exists(), "removed by its server");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Server::bind(&path, device()), Err(ServeError::NotASocket(_))));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    let nowhere = directory.path().join("none").join("vfio.sock");
    assert!(matches!(Server::bind(nowhere, device()), Err(ServeError::Listen { .. })));
}

/// Stopped while it waits for a client, for a message, and for the rest of one; and before it runs.
#[test]
fn a_server_stops_whatever_it_waits_for() {
    let mut idle = Served::new(device());
    idle.join();
    let mut between = Served::new(device());
    let mut client = Client::qemu(&between.path);
    between.join();
    assert!(client.receive().is_none());
    let mut within = Served::new(device());
    let mut client = Client::qemu(&within.path);
    client.send_raw(&[1, 0, 4], &[]);
    within.join();
    assert!(client.receive().is_none());
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::bind(directory.path().join("sock"), device()).unwrap();
    server.stopper().stop();
    server.run().unwrap();
}

/// A client that asks and never reads the answers: the server stops all the same.
#[test]
fn row69_a_client_that_does_not_read_holds_nobody_up() {
    let mut served = Served::new(device());
    let mut client = Client::qemu(&served.path);
    client.socket.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let request = [header(1, REGION_READ, 32, 0, 0), access(0, 0, 1 << 20)].concat();
    use std::io::Write;
    while client.socket.write_all(&request).is_ok() {}
    served.join();
}

/// A client that is always ahead of the server: that stops all the same, between two messages.
#[test]
fn row69_a_client_that_never_pauses_holds_nobody_up() {
    const SENT: usize = 200;
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut server = Server::inherited(theirs.into(), device()).unwrap();
    let mut client = Client::over(ours);
    let request = [header(1, REGION_READ, 32, 0, 0), access(0, 0, 4)].concat();
    client.send_raw(&request.repeat(SENT), &[]);
    server.stopper().stop();
    server.run().unwrap();
    let answers = std::iter::from_fn(|| client.receive()).count();
    assert!(answers < SENT, "the server answered all that the client had sent before it looked");
}

#[test]
fn inherited_sockets_listen_or_are_connected() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut server = Server::inherited(theirs.into(), device()).unwrap();
    let thread = std::thread::spawn(move || server.run());
    let mut client = Client::over(ours);
    client.negotiate(QEMU_VERSION).unwrap();
    assert_eq!(client.read(CONFIG, 0, 2), Ok(vec![0x34, 0x12]));
    drop(client);
    thread.join().unwrap().unwrap();

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut server = Server::inherited(listener.into(), device()).unwrap();
    let stopper = server.stopper();
    let thread = std::thread::spawn(move || server.run());
    for _ in 0..3 {
        assert_eq!(Client::qemu(&path).read(CONFIG, 0, 2), Ok(vec![0x34, 0x12]));
    }
    stopper.stop();
    thread.join().unwrap().unwrap();
    assert!(path.exists(), "whoever made it removes it");

    let (reader, _writer) = rustix::pipe::pipe().unwrap();
    assert!(matches!(Server::inherited(reader, device()), Err(ServeError::Descriptor(_))));
}
