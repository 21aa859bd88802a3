//! Tests that count this process's descriptors: alone in it, and one at a time.
#![allow(clippy::unwrap_used)]

#[path = "../rig/mod.rs"]
mod rig;

use rig::devices::Adder;
use rig::front::{Front, Plan, file_of, guest_memory};
use rig::payloads::{sealed_file, table};
use rig::peer::*;
use rig::requests::{REQUESTS, agreed, payload};
use rig::running::Running;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use vioduct_vhost_user::Limits;
use vioduct_virtio_device::{EventFd, Features};

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

/// Waits until as many descriptors are open as before.
fn expect_descriptors(before: usize) {
    let began = Instant::now();
    while open_descriptors() != before {
        assert!(began.elapsed() < PATIENCE, "{} descriptors, {before} before", open_descriptors());
        std::thread::yield_now();
    }
}

/// Another client, unharmed by all that happens to its server.
fn bystander(running: &Running) -> Front {
    Front::start(&running.path, Plan::new(Features::RING_PACKED))
}

/// Lengths that some request may have beside the one in the table.
fn acceptable(request: u32, len: usize) -> bool {
    match request {
        SET_MEM_TABLE => len == 8,
        GET_CONFIG | SET_CONFIG => (12..=4108).contains(&len),
        GET_INFLIGHT_FD | SET_INFLIGHT_FD => len == 24,
        _ => false,
    }
}

/// Every request with every number of descriptors but its own: refused, and none stays open.
#[test]
fn row52_descriptors_that_are_not_wanted_are_closed() {
    let _alone = alone();
    let running = Running::new(|| Adder::new(1));
    let mut other = bystander(&running);
    let file = sealed_file(0x1000);
    let before = open_descriptors();
    let mut sum = 0;
    for (request, len, fds) in REQUESTS {
        for count in (0..=8).filter(|count| count != fds) {
            let tolerated = match *request {
                // A descriptor too many is to be closed and otherwise ignored.
                REM_MEM_REG => count == 1,
                _ => false,
            };
            let peer = agreed(&running);
            let many: Vec<BorrowedFd<'_>> = vec![file.as_fd(); count];
            peer.send(*request, &payload(*request, *len), &many);
            if !tolerated {
                peer.expect_end();
            }
        }
        sum += 1;
        assert_eq!(other.add(0, 1), sum);
    }
    expect_descriptors(before);
}

#[test]
fn row53_descriptors_that_are_lost_end_the_connection() {
    let _alone = alone();
    let running = Running::new(|| Adder::new(1));
    let file = sealed_file(0x1000);
    let before = open_descriptors();
    for count in [9, 10, 11, 16, 60] {
        let peer = agreed(&running);
        let many: Vec<BorrowedFd<'_>> = vec![file.as_fd(); count];
        peer.send(SET_MEM_TABLE, &payload(SET_MEM_TABLE, 40), &many);
        peer.expect_end();
    }
    // As many as are allowed in each of many pieces of one message.
    let peer = agreed(&running);
    let bytes = message(SET_MEM_TABLE, 1, &payload(SET_MEM_TABLE, 40));
    for byte in bytes.chunks(1) {
        if peer.try_send_bytes(byte, &[file.as_fd(); 8]).is_err() {
            break;
        }
    }
    peer.expect_end();
    drop(peer);
    expect_descriptors(before);
}

/// Header by header: wrong versions, reply bits, reserved bits, requests that there are not, and lengths that are not theirs.
#[test]
fn row64_a_malformed_message_ends_the_connection_and_nothing_else() {
    let _alone = alone();
    let running = Running::new(|| Adder::new(1));
    let mut other = bystander(&running);
    let before = open_descriptors();
    let mut bad = Vec::new();
    bad.extend(
        [0, 2, 3, 1 | REPLY, 1 | 16, 0x8000_0001, u32::MAX].map(|flags| message(GET_FEATURES, flags, &[])),
    );
    let known = |number: &u32| REQUESTS.iter().any(|(request, ..)| request == number);
    let unknown = (0..64).chain([256, 0x1_0001, u32::MAX]).filter(|number| !known(number));
    bad.extend(unknown.map(|number| message(number, 1, &[])));
    for (request, len, _) in REQUESTS {
        let lens = [0, 1, len.wrapping_sub(1), len + 1, len + 4, 0x1_0000, u32::MAX as usize];
        let wrong = lens.into_iter().filter(|wrong| wrong != len && !acceptable(*request, *wrong));
        bad.extend(wrong.map(|wrong| words(&[*request, 1, wrong as u32])));
    }
    for bytes in &bad {
        let peer = agreed(&running);
        peer.send_bytes(bytes, &[]);
        peer.expect_end();
    }
    assert!(bad.len() > 200);
    assert_eq!(other.add(0, 1), 1);
    expect_descriptors(before);
}

/// A hundred thousand messages of every kind, good and bad, each with descriptors, over and over on new connections as they are
/// closed; no descriptor is left, and another client's requests are served all the while.
#[test]
fn row52_a_hundred_thousand_messages_leave_no_descriptor() {
    let _alone = alone();
    let running = Running::new(|| Adder::new(2));
    let mut other = bystander(&running);
    let (file, event) = (sealed_file(0x1000), EventFd::new().unwrap());
    let before = open_descriptors();
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let (mut obeyed, mut sum) = (0, 0);
    while obeyed < 100_000 {
        let peer = agreed(&running);
        for _ in 0..1000 {
            let (request, len, fds) = REQUESTS[next(REQUESTS.len())];
            let mut bytes = payload(request, len);
            if next(4) == 0 && !bytes.is_empty() {
                let place = next(bytes.len());
                bytes[place] = next(256) as u8;
            }
            let count = if next(200) == 0 { next(9) } else { fds };
            let fd = if next(2) == 0 { file.as_fd() } else { event.as_fd() };
            let flags = 1 | if next(100) == 0 { 0 } else { NEED_REPLY };
            // A question behind it, whose answer says that the connection goes on.
            let both = [message(request, flags, &bytes), message(GET_FEATURES, 1, &[])].concat();
            if peer.try_send_bytes(&both, &vec![fd; count]).is_err() || !answers(&peer) {
                break;
            }
            obeyed += 1;
        }
        sum += 1;
        assert_eq!(other.add(0, 1), sum);
    }
    expect_descriptors(before);
    assert_eq!(other.add(0, 1), sum + 1);
}

/// A whole session, cut after each of its bytes; the next client is served as if nothing had been.
#[test]
fn row64_a_client_may_go_at_any_byte() {
    let _alone = alone();
    // Faster than the threads of those before can end.
    let limits = Limits { clients: 1000, ..Limits::default() };
    let running = Running::with_limits(limits, || Adder::new(1));
    let before = open_descriptors();
    let memory = guest_memory();
    let file = file_of(&memory);
    let event = vioduct_virtio_device::EventFd::new().unwrap();
    let features = Features::VERSION_1 | Features::bit(30);
    let session = [
        (message(SET_OWNER, 1, &[]), None),
        (message(GET_FEATURES, 1, &[]), None),
        (message(SET_PROTOCOL_FEATURES, 9, &longs(&[REPLY_ACK])), None),
        (message(SET_FEATURES, 1, &longs(&[features.0])), None),
        (message(SET_MEM_TABLE, 1, &table(&[[0, 0x1000, 0, 0]])), Some(file.as_fd())),
        (message(SET_VRING_CALL, 1, &longs(&[0])), Some(event.as_fd())),
        (message(SET_VRING_NUM, 1, &words(&[0, 4])), None),
        (message(SET_VRING_ADDR, 1, &[words(&[0, 0]), longs(&[0, 0x200, 0x400, 0])].concat()), None),
        (message(SET_VRING_KICK, 1, &longs(&[0])), Some(event.as_fd())),
        (message(SET_VRING_ENABLE, 1, &words(&[0, 1])), None),
    ];
    let whole: usize = session.iter().map(|(bytes, _)| bytes.len()).sum();
    for cut in 0..=whole {
        let peer = running.peer();
        let mut left = cut;
        for (bytes, fd) in &session {
            let len = left.min(bytes.len());
            if len > 0 {
                peer.send_bytes(&bytes[..len], fd.as_slice());
            }
            left -= len;
        }
    }
    // The file, its memory's own descriptor, and the event are this test's.
    expect_descriptors(before + 3);
    let mut front = Front::start(&running.path, Plan::new(Features::NONE));
    assert_eq!(front.add(0, 3), 3);
}

/// Reads until the answer about features. Whether it comes.
fn answers(peer: &Peer) -> bool {
    loop {
        match peer.receive() {
            Ok(reply) if reply.request == GET_FEATURES => return true,
            Ok(_) => {}
            Err(error) => {
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "the server is silent");
                return false;
            }
        }
    }
}
