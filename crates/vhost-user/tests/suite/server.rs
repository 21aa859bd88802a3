//! Listening, limits, and the end.

use crate::rig::devices::Adder;
use crate::rig::front::{Front, Plan, guest_memory};
use crate::rig::peer::*;
use crate::rig::running::{Running, policy};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;
use vioduct_vhost_user::{Conversation, Limits, Server, ServerError, Turn};
use vioduct_virtio_device::{Backend, Features, Inline, Workers};

fn device() -> Result<Workers<Adder>, String> {
    Ok(Workers::with_policy(Adder::new(1), policy()))
}

#[test]
fn a_stale_socket_is_replaced_and_another_server_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "the file outlives its listener");
    let server = Server::listen(&path).unwrap();
    let error = Server::listen(&path).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("another server listens at {}: stop it, or choose another path", path.display())
    );
    drop(server);
    assert!(!path.exists(), "and is removed by a server that ends");
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Server::listen(&path), Err(ServerError::NotASocket(at)) if at == path));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    let missing = folder.path().join("no/such/folder");
    assert!(Server::listen(missing).unwrap_err().to_string().contains("does its folder exist"));
    assert!(Server::listen(folder.path().join("x".repeat(120))).is_err());
}

/// A server that took the path over keeps its file when the former one ends.
#[test]
fn a_socket_file_that_is_another_servers_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let former = Server::listen(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let _later = Server::listen(&path).unwrap();
    drop(former);
    assert!(path.exists());
}

#[test]
fn an_inherited_socket_is_served() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = Server::from_socket(theirs.into()).unwrap();
    let thread = thread::spawn(move || server.run(device));
    let mut front = Front::in_reset(Peer::over(ours), Plan::new(Features::NONE), Arc::new(guest_memory()));
    front.negotiate();
    front.share();
    front.start_ring(0, 0);
    assert_eq!(front.add(0, 2), 2);
    drop(front);
    thread.join().unwrap().unwrap();
}

#[test]
fn an_inherited_listener_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let server = Server::from_socket(UnixListener::bind(&path).unwrap().into()).unwrap();
    let stopper = server.stopper();
    let thread = thread::spawn(move || server.run(device));
    let mut front = Front::start(&path, Plan::new(Features::NONE));
    assert_eq!(front.add(0, 2), 2);
    stopper.stop();
    thread.join().unwrap().unwrap();
    front.peer.expect_end();
    assert!(path.exists(), "whoever made it removes it");
}

#[test]
fn a_descriptor_that_is_no_stream_is_refused() {
    let (datagram, _) = std::os::unix::net::UnixDatagram::pair().unwrap();
    assert!(matches!(Server::from_socket(datagram.into()), Err(ServerError::NotAStream)));
    let file = vioduct_virtio_device::MemoryMap::shared(0x1000).unwrap();
    assert!(matches!(Server::from_socket(crate::rig::front::file_of(&file)), Err(ServerError::NotAStream)));
}

/// What was submitted before the server is stopped is done, and the client sees the connection end.
#[test]
fn a_server_that_stops_finishes_what_it_took() {
    let running = Running::new(|| Adder::new(1));
    let mut front = Front::start(&running.path, Plan::new(Features::NONE));
    assert_eq!(front.add(0, 1), 1);
    running.stop();
    front.peer.expect_end();
    assert!(UnixStream::connect(running_path(&front)).is_err());
    assert_eq!(front.rings[0].driver.in_flight(), 0);
}

fn running_path(front: &Front) -> std::path::PathBuf {
    front.peer.socket.peer_addr().unwrap().as_pathname().unwrap().to_owned()
}

#[test]
fn more_clients_than_are_allowed_are_turned_away() {
    let limits = Limits { clients: 2, ..Limits::default() };
    let running = Running::with_limits(limits, || Adder::new(1));
    let (one, two) = (running.peer(), running.peer());
    let _ = (one.barrier(), two.barrier());
    let three = running.peer();
    three.expect_end();
    drop(one);
    // The place is free once the first client's thread has ended.
    let again = (0..1000).find_map(|_| {
        let peer = running.peer();
        let served =
            peer.try_send_bytes(&message(GET_FEATURES, 1, &[]), &[]).and_then(|()| peer.receive()).is_ok();
        served.then_some(peer)
    });
    assert!(again.is_some());
    let _ = two.barrier();
}

#[test]
fn a_client_whose_device_cannot_be_made_is_turned_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let server = Server::listen(&path).unwrap();
    let stopper = server.stopper();
    let thread = thread::spawn(move || server.run(|| Err::<Workers<Adder>, _>("the disk is not there")));
    Peer::connect(&path).expect_end();
    stopper.stop();
    thread.join().unwrap().unwrap();
}

#[test]
fn a_conversation_is_driven_by_its_caller() {
    let (near, far) = UnixStream::pair().unwrap();
    let device = Inline::new(Adder::new(3));
    let mut conversation = Conversation::new(far.into(), device, &Limits::default()).unwrap();
    let peer = Peer::over(near);
    assert_eq!(conversation.turn(), Turn::Open);
    peer.send(GET_QUEUE_NUM, &[], &[]);
    assert_eq!(conversation.turn(), Turn::Open);
    assert_eq!(peer.expect_reply(GET_QUEUE_NUM).long(), 3);
    assert_eq!(conversation.device().info().name, "adder");
    drop(peer);
    assert_eq!(conversation.turn(), Turn::Over);
}
