//! What a server may say by itself: that its configuration has changed, and nothing else.

use crate::client::Client;
use crate::rig::back::Back;
use crate::rig::payloads::sealed_file;
use crate::rig::peer::*;
use crate::{alone, expect_descriptors, open_descriptors};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;
use vioduct_virtio_device::{Backend, Features};

const CONFIG_CHANGE: u32 = 2;

/// A front-end with a ring, and the server's end of its channel.
fn talking(back: &Back) -> (Client, Peer) {
    let mut client = Client::connect(&back.path).unwrap();
    client.start(Features::NONE).unwrap();
    (client, channel(back))
}

fn channel(back: &Back) -> Peer {
    let socket = back.told.channel.lock().unwrap().take().expect("a channel was opened");
    Peer::over(UnixStream::from(socket))
}

fn connections(back: &Back) -> usize {
    back.told.messages.lock().unwrap().iter().filter(|(request, _)| *request == SET_OWNER).count()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

fn ask(peer: &Peer, request: u32, payload: &[u8], files: usize) -> u64 {
    let file = sealed_file(0x1000);
    peer.send_bytes(&message(request, VERSION | NEED_REPLY, payload), &vec![file.as_fd(); files]);
    peer.expect_reply(request).long()
}

#[test]
fn a_change_of_the_configuration_is_passed_on() {
    let _alone = alone();
    let back = Back::good();
    let (client, peer) = talking(&back);
    let changes = || client.reports.changes();
    assert_eq!(ask(&peer, CONFIG_CHANGE, &[], 0), 0);
    until("the change is not passed on", || changes() == 1);
    peer.send(CONFIG_CHANGE, &[], &[]);
    client.frontend.listen();
    assert_eq!(changes(), 2);
}

/// Translations, notifiers, shared objects, shared memory, in-band notifications, and what nobody knows.
#[test]
fn row65_requests_that_were_not_agreed_on_are_refused() {
    let _alone = alone();
    let back = Back::good();
    let (mut client, peer) = talking(&back);
    let before = open_descriptors();
    for request in [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 99, u32::MAX] {
        for (len, files) in [(0, 0), (8, 0), (40, 1), (256, 8)] {
            assert_eq!(
                ask(&peer, request, &vec![0xff; len], files),
                1,
                "{request} with {len} bytes, {files} files"
            );
            peer.send(request, &vec![0; len], &[]);
        }
    }
    assert_eq!(ask(&peer, CONFIG_CHANGE, &[], 8), 0);
    expect_descriptors(before, "requests of the server");
    let mut config = [1; 16];
    client.frontend.read_config(0, &mut config);
    assert_eq!((config, connections(&back)), ([0; 16], 1), "the session goes on");
    client.frontend.stop_queue(0).unwrap();
}

#[test]
fn row65_a_channel_that_is_misused_ends_the_connection() {
    let _alone = alone();
    let good = message(CONFIG_CHANGE, VERSION, &[]);
    let cases: [(&str, Vec<u8>, usize); 5] = [
        ("a reply", message(CONFIG_CHANGE, VERSION | REPLY, &[]), 0),
        ("version 2", message(CONFIG_CHANGE, 2, &[]), 0),
        ("a long payload", words(&[9, VERSION, 257]), 0),
        ("an endless payload", words(&[9, VERSION, u32::MAX]), 0),
        ("too many descriptors", good, 40),
    ];
    for (name, bytes, files) in cases {
        let before = open_descriptors();
        let back = Back::good();
        let (mut client, peer) = talking(&back);
        let file = sealed_file(0x1000);
        peer.send_bytes(&bytes, &vec![file.as_fd(); files]);
        peer.expect_end();
        until(&format!("{name}: there is no other connection"), || connections(&back) == 2);
        // The same server, connected to anew, has been told of the ring again.
        client.frontend.stop_queue(0).unwrap_or_else(|error| panic!("{name}: {error}"));
        drop((client, peer, back, file));
        expect_descriptors(before, name);
    }
}

/// A channel that closes is done without; one that is never silent keeps nobody.
#[test]
fn row65_a_channel_may_close_or_never_be_silent() {
    let _alone = alone();
    let back = Back::good();
    let (mut client, peer) = talking(&back);
    let flood = message(CONFIG_CHANGE, VERSION, &[]).repeat(16);
    let mut config = [0; 16];
    for _ in 0..1000 {
        peer.send_bytes(&flood, &[]);
        client.frontend.read_config(0, &mut config);
    }
    drop(peer);
    until("the changes are not passed on", || client.reports.changes() > 0);
    client.frontend.stop_queue(0).unwrap();
    assert_eq!(connections(&back), 1);
}
