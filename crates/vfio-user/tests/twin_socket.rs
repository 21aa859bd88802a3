//! Calls of the server's on a socket of their own.
#![allow(clippy::unwrap_used)]

mod client;

use client::bus::Bus;
use client::*;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use vioduct_loopback::Machine;
use vioduct_vfio_user::Device;
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::{EventFd, Workers};
use vioduct_virtio_driver::demo::Request;
use vioduct_virtio_driver::{Options, RequestError, Transport};

const TWINS: &str = r#"{"capabilities":{"twin_socket":{"supported":true}}}"#;
const MSIX: u32 = 2;

fn virtio_demo() -> Served {
    Served::new(Device::virtio(Workers::new(VirtioDemo::default())).unwrap())
}

/// A client that has negotiated twin sockets: where it asks, and where it is asked.
fn twins(served: &Served) -> (Client, Client) {
    let mut client = Client::connect(&served.path);
    let payload = [&[0, 0, 0, 0], TWINS.as_bytes(), &[0]].concat();
    let reply = client.request_with(VERSION, &payload, &[]).unwrap();
    let json = String::from_utf8(reply.payload[4..].to_vec()).unwrap();
    assert!(json.contains(r#""twin_socket":{"supported":true,"fd_index":0}"#), "{json}");
    let [fd] = <[_; 1]>::try_from(reply.fds).unwrap();
    (client, Client::over(UnixStream::from(fd)))
}

/// Maps memory without descriptors.
fn attach(client: &mut Client, machine: &Machine, event: &EventFd) {
    client.map_machine(machine, Sharing::Messages);
    client.request_with(SET_IRQS, &irqs(0x24, MSIX, 0, 2), &[event.as_fd(), event.as_fd()]).unwrap();
}

/// Answers calls until the server has no more; how many there were.
fn answering(mut twin: Client, machine: &Machine) -> JoinHandle<usize> {
    twin.memory = Some(machine.memory());
    std::thread::spawn(move || {
        while let Some(call) = twin.receive() {
            assert_eq!(call.flags & 0xf, 0, "a command");
            twin.serve(&call);
        }
        twin.dma_calls
    })
}

#[test]
fn calls_go_to_the_twin_and_replies_to_the_client() {
    let served = virtio_demo();
    let machine = Machine::new(1 << 20).unwrap();
    let event = eventfd();
    let (mut client, twin) = twins(&served);
    attach(&mut client, &machine, &event);
    let answering = answering(twin, &machine);
    let bus = Bus::new(client);
    let mut driver = bus.driver(&machine, 2, &Options::default());
    for value in 0..50 {
        assert_eq!(driver.write(value, &mut bus.wait(&event)), Ok(value));
        // Changes of the memory wait for the device, which may be calling: the client need not look after that here.
        let mut client = bus.client.borrow_mut();
        client.request(DMA_MAP, &map(3, 0, 1 << 40, 4096)).unwrap();
        client.request(DMA_UNMAP, &unmap(0, 1 << 40, 4096)).unwrap();
    }
    assert_eq!(driver.read(&mut bus.wait(&event)), Ok(49));
    drop(driver);
    assert_eq!(bus.client.borrow().dma_calls, 0);
    drop(bus);
    assert!(answering.join().unwrap() > 100, "the server has closed the twin with the connection");
}

/// A client that closes the twin has memory that cannot be reached: the device needs a reset, and the connection goes on.
#[test]
fn a_twin_that_is_closed_costs_a_reset() {
    let served = virtio_demo();
    let machine = Machine::new(1 << 20).unwrap();
    let event = eventfd();
    let (mut client, twin) = twins(&served);
    attach(&mut client, &machine, &event);
    let end = twin.socket.try_clone().unwrap();
    let answering = answering(twin, &machine);
    let bus = Bus::new(client);
    let mut driver = bus.driver(&machine, 2, &Options::default());
    assert_eq!(driver.read(&mut bus.wait(&event)), Ok(0x1333));
    end.shutdown(Shutdown::Read).unwrap();
    answering.join().unwrap();
    let _lost = driver.submit(Request::Read).unwrap();
    driver.kick().unwrap();
    let mut wait = bus.wait(&event);
    let failed = loop {
        driver.device().transport().vector_fired(0);
        match driver.service() {
            Ok(_) => assert!(wait().is_continue(), "the device does not notice"),
            Err(error) => break error,
        }
    };
    assert_eq!(failed, RequestError::NeedsReset);
    // Memory by descriptors needs no calls.
    bus.client.borrow_mut().request(DMA_UNMAP, &unmap(2, 0, 0)).unwrap();
    bus.client.borrow_mut().map_machine(&machine, Sharing::Descriptors);
    let mut driver = driver.restart(&Options::default()).unwrap();
    assert_eq!(driver.write(5, &mut bus.wait(&event)), Ok(5));
}

/// Nothing is sent to who cannot take it.
#[test]
fn twins_are_given_to_clients_that_ask_only() {
    let served = virtio_demo();
    for capabilities in [
        "",
        r#""twin_socket":{}"#,
        r#""twin_socket":{"supported":false}"#,
        r#""max_msg_fds":0,"twin_socket":{"supported":true}"#,
    ] {
        let mut client = Client::connect(&served.path);
        let json = format!(r#"{{"capabilities":{{{capabilities}}}}}"#);
        let payload = [&[0, 0, 0, 0], json.as_bytes(), &[0]].concat();
        let reply = client.request_with(VERSION, &payload, &[]).unwrap();
        assert!(reply.fds.is_empty(), "{capabilities}");
        assert!(!String::from_utf8_lossy(&reply.payload).contains("twin"), "{capabilities}");
    }
    for wrong in [r#""twin_socket":7"#, r#""twin_socket":{"supported":1}"#] {
        let mut client = Client::connect(&served.path);
        assert_eq!(client.negotiate(&format!(r#"{{"capabilities":{{{wrong}}}}}"#)), Err(EINVAL), "{wrong}");
    }
}
