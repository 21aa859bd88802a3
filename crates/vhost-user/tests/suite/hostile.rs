//! Hostile front-ends, by the rows of the catalogue of hostile peers.

use crate::rig::devices::Adder;
use crate::rig::front::{Front, Plan};
use crate::rig::payloads::{sealed_file, table};
use crate::rig::peer::*;
use crate::rig::requests::{REQUESTS, agreed, payload};
use crate::rig::running::Running;
use std::os::fd::{AsFd, BorrowedFd};
use vioduct_virtio_device::{EventFd, Features};

#[test]
fn row49_a_ring_number_is_compared_in_its_full_width() {
    let running = Running::new(|| Adder::new(2));
    let peer = agreed(&running);
    for ring in [2, 255, 256, 257, 0x1_0000, 0x1_0001, u32::MAX] {
        for request in [SET_VRING_NUM, SET_VRING_BASE, SET_VRING_ENABLE, VRING_KICK] {
            assert_eq!(peer.status(request, &words(&[ring, 1]), &[]), 1, "request {request}, ring {ring:#x}");
        }
        let address = [words(&[ring, 0]), longs(&[0; 4])].concat();
        assert_eq!(peer.status(SET_VRING_ADDR, &address, &[]), 1);
        let lost = agreed(&running);
        lost.send(GET_VRING_BASE, &words(&[ring, 0]), &[]);
        lost.expect_end();
    }
    let event = EventFd::new().unwrap();
    for request in [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR] {
        assert_eq!(peer.status(request, &longs(&[2]), &[event.as_fd()]), 1);
        for value in [1 << 9, 1 << 16, 1 << 32, u64::MAX] {
            let lost = agreed(&running);
            lost.send(request, &longs(&[value]), &[event.as_fd()]);
            lost.expect_end();
        }
    }
}

/// The base is a number of 32 bits; what it means, and whether the ring can stand there, shows when the ring starts.
#[test]
fn row58_a_base_that_no_ring_can_have_starts_none() {
    let running = Running::new(|| Adder::new(1));
    for (features, bad) in [
        (Features::NONE, vec![0x1_0000, u32::MAX, 17, 0x8000]),
        (Features::RING_PACKED, vec![16, 0x7fff, 0x8010_8000, 0x8001_8000, u32::MAX]),
    ] {
        let mut front = Front::start(&running.path, Plan::new(features));
        assert_eq!(front.add(0, 1), 1);
        front.stop_ring(0);
        front.rings[0].driver.reset();
        for base in bad {
            front.do_(SET_VRING_BASE, &words(&[0, base]), &[]);
            let kick = [front.rings[0].kick.as_fd()];
            assert_eq!(front.peer.status(SET_VRING_KICK, &longs(&[0]), &kick), 1, "{features} {base:#x}");
        }
        front.start_ring(0, 0);
        assert_eq!(front.add(0, 1), 2);
    }
}

/// Addresses anywhere: outside of all memory, at its end, unaligned, wrapping.
#[test]
fn row58_a_ring_outside_of_memory_does_not_start() {
    use crate::rig::front::{GUEST_START, MEMORY_LEN, USER_SHIFT};
    let running = Running::new(|| Adder::new(1));
    let start = GUEST_START + USER_SHIFT;
    let end = start + MEMORY_LEN;
    for features in [Features::NONE, Features::RING_PACKED] {
        let front = Front::start(&running.path, Plan::new(features));
        front.stop_ring(0);
        let good = [start, start + 0x1000, start + 0x2000];
        for bad in [0, GUEST_START, start - 16, end, end - 2, start + 1, u64::MAX, u64::MAX - 1] {
            for place in 0..3 {
                let mut areas = good;
                areas[place] = bad;
                let address = [words(&[0, 0]), longs(&areas), longs(&[0])].concat();
                front.do_(SET_VRING_ADDR, &address, &[]);
                let kick = [front.rings[0].kick.as_fd()];
                let status = front.peer.status(SET_VRING_KICK, &longs(&[0]), &kick);
                // A packed ring's driver area is the third, and 4 bytes at the very end of memory fit; 2 do not.
                assert_eq!(status, 1, "{features} {bad:#x} as area {place}");
            }
        }
    }
}

#[test]
fn row59_only_so_many_queues_as_can_be_named_are_served() {
    let running = Running::new(|| Adder::new(300));
    let peer = agreed(&running);
    assert_eq!(peer.ask_long(GET_QUEUE_NUM), 256);
    assert_eq!(peer.status(SET_VRING_NUM, &words(&[255, 16]), &[]), 0);
    assert_eq!(peer.status(SET_VRING_NUM, &words(&[256, 16]), &[]), 1);
    for size in [0, 32769, 0x1_0000, u32::MAX] {
        assert_eq!(peer.status(SET_VRING_NUM, &words(&[0, size]), &[]), 1, "size {size}");
    }
}

/// A good session, byte by byte.
#[test]
fn row64_a_message_may_come_byte_by_byte() {
    let running = Running::new(|| Adder::new(1));
    let peer = running.peer();
    let file = sealed_file(0x1000);
    let send = |bytes: &[u8], fd: Option<BorrowedFd<'_>>| {
        // The descriptor comes with the last byte: it belongs to the message all the same.
        for (place, byte) in bytes.iter().enumerate() {
            let fd = fd.filter(|_| place + 1 == bytes.len());
            peer.send_bytes(&[*byte], fd.as_slice());
        }
    };
    send(&message(SET_PROTOCOL_FEATURES, 9, &longs(&[REPLY_ACK])), None);
    assert_eq!(peer.expect_reply(SET_PROTOCOL_FEATURES).long(), 0);
    send(&message(SET_MEM_TABLE, 9, &table(&[[0, 0x1000, 0, 0]])), Some(file.as_fd()));
    assert_eq!(peer.expect_reply(SET_MEM_TABLE).long(), 0);
}

/// Many messages in one piece are taken apart, each with its own answer.
#[test]
fn row64_messages_may_come_glued_together() {
    let running = Running::new(|| Adder::new(1));
    let peer = running.peer();
    let many = message(GET_FEATURES, 1, &[]).repeat(200);
    peer.send_bytes(&many, &[]);
    for _ in 0..200 {
        peer.expect_reply(GET_FEATURES);
    }
}

/// What was not agreed on is not done.
#[test]
fn row64_a_request_of_a_feature_that_was_not_agreed_on_is_refused() {
    let running = Running::new(|| Adder::new(1));
    let file = sealed_file(0x1000);
    for request in [
        SET_LOG_BASE,
        SET_BACKEND_REQ_FD,
        GET_INFLIGHT_FD,
        SET_INFLIGHT_FD,
        GET_CONFIG,
        SET_CONFIG,
        RESET_DEVICE,
        VRING_KICK,
        GET_MAX_MEM_SLOTS,
        ADD_MEM_REG,
        REM_MEM_REG,
        SET_STATUS,
        GET_STATUS,
        SET_DEVICE_STATE_FD,
        CHECK_DEVICE_STATE,
    ] {
        let (_, len, fds) = *REQUESTS.iter().find(|(number, ..)| *number == request).unwrap();
        let peer = running.peer();
        peer.send(request, &payload(request, len), &vec![file.as_fd(); fds]);
        peer.expect_end();
    }
}

/// A kick or a call that is none: files, pipes, folders, devices. The server neither waits for them nor writes into them.
#[test]
fn row52_a_notification_descriptor_of_a_wrong_kind_is_refused() {
    let running = Running::new(|| Adder::new(1));
    let peer = agreed(&running);
    let (pipe, _writer) = std::io::pipe().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let folder = std::fs::File::open("/").unwrap();
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let file = sealed_file(0x1000);
    for request in [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR] {
        for fd in fds(&[&pipe, &null, &folder, &file]) {
            assert_eq!(peer.status(request, &longs(&[0]), &[fd]), 1);
        }
    }
    assert_eq!(peer.status(SET_VRING_KICK, &longs(&[0]), &[socket.as_fd()]), 1, "a socket cannot be a kick");
    assert_eq!(peer.status(SET_VRING_CALL, &longs(&[0]), &[socket.as_fd()]), 0, "but a call");
}

/// A full eventfd whose description is blocking, and a socket that nobody reads: the device goes on.
#[test]
fn row52_a_call_that_is_full_stops_no_device() {
    let running = Running::new(|| Adder::new(1));
    let mut front = Front::start(&running.path, Plan::new(Features::NONE));
    let full = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
    rustix::io::write(&full, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    let (unread, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let descriptors: [&dyn AsFd; 2] = [&full, &theirs];
    let mut sum = 0;
    for call in descriptors {
        front.do_(SET_VRING_CALL, &longs(&[0]), &[call]);
        for _ in 0..2000 {
            let _ = front.submit(0, 1);
            front.kick(0);
            let reply = loop {
                match front.take(0) {
                    Some(reply) => break reply,
                    None => std::thread::yield_now(),
                }
            };
            sum += 1;
            assert_eq!(reply, sum);
        }
    }
    drop(unread);
    front.do_(SET_VRING_CALL, &longs(&[0]), &[&front.rings[0].call]);
    assert_eq!(front.add(0, 1), sum + 1);
}

/// Requests of protocol features that are not offered: each ends the connection, whatever its payload says.
fn expect_unknown(requests: &[u32], feature: u64) {
    let running = Running::new(|| Adder::new(1));
    let peer = running.peer();
    assert_eq!(peer.ask_long(GET_PROTOCOL_FEATURES) & feature, 0);
    for request in requests {
        for len in [0, 8, 40, 4096] {
            let peer = agreed(&running);
            peer.send(*request, &vec![0xff; len], &[]);
            peer.expect_end();
        }
    }
}

/// Sessions of crypto devices, whose keys have lengths of their own.
#[test]
fn row50_crypto_sessions_are_neither_offered_nor_taken() {
    expect_unknown(&[26, 27], 1 << 7);
}

/// Translations of addresses, which could be empty or stale. Nor is the feature of the device that needs them offered.
#[test]
fn row60_translations_are_neither_offered_nor_taken() {
    expect_unknown(&[22], 0);
    let running = Running::new(|| Adder::new(1));
    let offered = Features(running.peer().ask_long(GET_FEATURES));
    assert!(!offered.contains(Features::ACCESS_PLATFORM));
}
