//! Drivers that break the rules, and programs that do (rows 37 and 38 of the hostile peers).

use super::*;
use crate::{MAX_CONNECTIONS, MAX_REPLIES};

#[test]
fn row37_a_length_is_compared_with_the_buffers() {
    let mut guest = Guest::new();
    let mut program = guest.connect();
    let announced = |guest: &mut Guest, len: u32, data: &[u8]| {
        let header = Header { len, ..from(7000, 52, OP_RW) };
        guest.send_raw(&header.to_bytes(), data);
    };
    announced(&mut guest, 4, b"abc");
    announced(&mut guest, u32::MAX, b"abc");
    announced(&mut guest, 1, b"");
    assert_eq!(guest.dropped(), 3);
    assert_eq!(read(&mut program), b"", "none of a packet that has less than it announces");
    announced(&mut guest, 3, b"abcdef");
    assert_eq!(read(&mut program), b"abc", "no more than it announces");
    guest.healthy();
}

#[test]
fn row37_buffers_of_the_wrong_shape_do_nothing() {
    let mut guest = Guest::new();
    let mut program = guest.connect();
    guest.send_raw(&from(7000, 52, OP_RST).to_bytes()[..HEADER_LEN - 1], &[]);
    let both = guest.machine.request(TRANSMIT_QUEUE, &from(7000, 52, OP_RST).to_bytes(), 8).unwrap();
    assert_eq!((both.written, both.bytes), (0, vec![0; 8]));
    assert_eq!(guest.dropped(), 2);
    program.write_all(b"data").unwrap();
    // With something readable, too short for a header, and with no room for data.
    for (readable, len) in [(&b"?"[..], 100), (b"", 43), (b"", 44)] {
        let reply = guest.machine.request(RECEIVE_QUEUE, readable, len).unwrap();
        assert_eq!(reply.written, 0);
        assert!(reply.bytes.iter().all(|byte| *byte == 0));
    }
    assert_eq!(guest.dropped(), 5);
    let reply = guest.machine.request(RECEIVE_QUEUE, b"", 45).unwrap();
    assert_eq!((reply.written, reply.bytes[44]), (45, b'd'));
    assert_eq!(guest.expect(OP_RW).1, b"ata");
    guest.healthy();
}

#[test]
fn s5_10_6_2_packets_of_other_guests_and_unknown_operations_are_dropped() {
    let mut guest = Guest::new();
    let _program = guest.connect();
    for src_cid in [0, 1, HOST_CID, u64::from(CID) + 1, u64::from(CID) | 1 << 32] {
        guest.send(Header { src_cid, ..from(7000, 52, OP_RST) }, &[]);
    }
    for op in [0, OP_CREDIT_REQUEST + 1, u16::MAX] {
        guest.send(from(7000, 52, op), &[]);
    }
    assert_eq!(guest.dropped(), 8);
    guest.silent();
    guest.send(from(7000, 52, OP_CREDIT_REQUEST), &[]);
    guest.expect(OP_CREDIT_UPDATE);
}

#[test]
fn s5_10_6_4_unknown_types_and_unknown_connections_are_reset() {
    let mut guest = Guest::new();
    let _program = guest.connect();
    for op in [OP_RESPONSE, OP_SHUTDOWN, OP_RW, OP_CREDIT_UPDATE, OP_CREDIT_REQUEST] {
        guest.send(from(7000, 53, op), &[]);
        let (reset, _) = guest.expect(OP_RST);
        assert_eq!((reset.src_port, reset.dst_port), (53, 7000));
    }
    guest.send(from(7000, 53, OP_RST), &[]);
    guest.silent();
    for packet in [
        Header { socket_type: TYPE_SEQPACKET, ..from(7000, 52, OP_RW) },
        Header { dst_cid: 77, ..from(7000, 52, OP_RW) },
    ] {
        guest.send(packet, b"data");
        let reply = loop {
            if let Some(reply) = guest.machine.take(RECEIVE_QUEUE).unwrap() {
                break reply;
            }
            guest.post(1);
        };
        guest.posted -= 1;
        let reset = Header::from_bytes(reply.bytes[..HEADER_LEN].try_into().unwrap());
        assert_eq!(
            (reset.op, reset.socket_type, reset.src_cid),
            (OP_RST, packet.socket_type, packet.dst_cid)
        );
    }
}

#[test]
fn row38_a_guest_that_sends_beyond_its_credit_loses_the_connection() {
    let mut guest = Guest::new();
    let mut program = guest.connect();
    let piece = pattern(60_000);
    let mut sent = 0;
    let reset = loop {
        // What the host program does not read, its socket keeps, and then the device.
        guest.send(from(7000, 52, OP_RW), &piece);
        sent += piece.len();
        assert!(sent < 10 << 20, "nothing stops it");
        match guest.packet() {
            Some((header, _)) if header.op == OP_RST => break header,
            Some((header, _)) => assert_eq!(header.op, OP_CREDIT_UPDATE),
            None => {}
        }
    };
    assert_eq!(reset.dst_port, 7000);
    assert!(read(&mut program).len() < sent);
    guest.silent();
    guest.healthy();
}

#[test]
fn row38_credit_that_no_guest_can_have_ends_the_connection() {
    // It has consumed more than it was sent.
    let mut guest = Guest::new();
    let mut program = guest.connect();
    program.write_all(b"12345").unwrap();
    guest.expect(OP_RW);
    guest.send(Header { fwd_cnt: 6, ..from(7000, 52, OP_CREDIT_UPDATE) }, &[]);
    guest.expect(OP_RST);
    assert!(has_ended(&mut program));
    // A buffer that shrinks below what is in flight is no credit, and none that wraps.
    let mut program = guest.connect();
    program.write_all(&pattern(1000)).unwrap();
    guest.expect(OP_RW);
    guest.send(Header { buf_alloc: 10, ..from(7000, 52, OP_CREDIT_UPDATE) }, &[]);
    program.write_all(b"more").unwrap();
    guest.expect(OP_CREDIT_REQUEST);
    guest.silent();
    guest.send(Header { buf_alloc: 10, fwd_cnt: 1000, ..from(7000, 52, OP_CREDIT_UPDATE) }, &[]);
    assert_eq!(guest.expect(OP_RW).1, b"more");
}

#[test]
fn row38_packets_out_of_order_end_the_connection_they_name() {
    for op in [OP_REQUEST, OP_RESPONSE] {
        let mut guest = Guest::new();
        let mut program = guest.connect();
        guest.send(from(7000, 52, op), &[]);
        guest.expect(OP_RST);
        assert!(has_ended(&mut program));
        guest.silent();
    }
    let mut guest = Guest::new();
    let mut program = guest.connect();
    guest.send(Header { flags: SHUTDOWN_SEND, ..from(7000, 52, OP_SHUTDOWN) }, &[]);
    guest.send(from(7000, 52, OP_RW), b"after the end");
    guest.expect(OP_RST);
    assert_eq!(read(&mut program), b"");
    let mut program = guest.greet("CONNECT 3\n");
    let (request, _) = guest.expect(OP_REQUEST);
    guest.send(from(3, request.src_port, OP_RW), b"before the answer");
    guest.expect(OP_RST);
    assert!(has_ended(&mut program));
}

#[test]
fn row38_resets_that_a_guest_does_not_fetch_are_bounded() {
    let mut guest = Guest::new();
    let sent = MAX_REPLIES + 100;
    let header = from(1, 1, OP_CREDIT_REQUEST).to_bytes();
    let mut used = 0;
    for _ in 0..sent {
        guest.machine.submit(TRANSMIT_QUEUE, &[&header], &[]).unwrap();
        let _ = guest.machine.kick(TRANSMIT_QUEUE).unwrap();
        guest.run();
        used += guest.machine.take(TRANSMIT_QUEUE).unwrap().iter().count();
    }
    assert_eq!(used, MAX_REPLIES, "then it is not listened to");
    for fetched in 1..=sent {
        guest.expect(OP_RST);
        assert!(fetched <= sent);
        while guest.machine.take(TRANSMIT_QUEUE).unwrap().is_some() {
            used += 1;
        }
    }
    assert_eq!(used, sent, "every buffer has come back");
    guest.silent();
}

/// Row 38: connections without number that are dropped at once, their packets never fetched, leave nothing behind.
#[test]
fn row38_connections_without_number_leave_nothing_behind() {
    let mut guest = Guest::new();
    let listener = UnixListener::bind(guest.path("v_9")).unwrap();
    for port in 0..2 * MAX_CONNECTIONS as u32 {
        guest.send(from(port, 9, OP_REQUEST), &[]);
        drop(listener.accept().unwrap());
        guest.send(from(port, 9, OP_RST), &[]);
    }
    guest.silent();
    guest.send(from(3, 9, OP_REQUEST), &[]);
    guest.expect(OP_RESPONSE);
    guest.healthy();
}
