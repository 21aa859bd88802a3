//! Connections, in either direction.

use super::*;
use crate::{MAX_CONNECTIONS, MAX_GREETINGS};

#[test]
fn s5_10_6_5_a_guest_reaches_the_program_of_its_port() {
    for format in FORMATS {
        let mut guest = Guest::with(format);
        let mut program = guest.connect();
        guest.send(from(7000, 52, OP_RW), b"from the guest");
        assert_eq!(read(&mut program), b"from the guest");
        program.write_all(b"from the host").unwrap();
        let (header, data) = guest.expect(OP_RW);
        assert_eq!(data, b"from the host");
        assert_eq!((header.src_port, header.dst_port, header.fwd_cnt), (52, 7000, 14));
        guest.send(from(7001, 53, OP_REQUEST), &[]);
        let (refused, _) = guest.expect(OP_RST);
        assert_eq!((refused.src_port, refused.dst_port), (53, 7001), "nobody listens there");
        guest.silent();
    }
}

#[test]
fn s5_10_6_5_a_program_reaches_the_guests_port() {
    for format in FORMATS {
        let mut guest = Guest::with(format);
        let mut program = guest.greet("CONNE");
        guest.silent();
        program.write_all(b"CT 8080\nearly").unwrap();
        let (request, _) = guest.expect(OP_REQUEST);
        assert_eq!((request.dst_port, request.src_port), (8080, 1 << 30));
        assert_eq!(read(&mut program), b"");
        guest.send(from(8080, request.src_port, OP_RESPONSE), &[]);
        assert_eq!(read(&mut program), b"OK 1073741824\n");
        assert_eq!(guest.expect(OP_RW).1, b"early", "what was said with the greeting comes, too");
        program.write_all(b"later").unwrap();
        assert_eq!(guest.expect(OP_RW).1, b"later");
        guest.send(from(8080, request.src_port, OP_RW), b"answer");
        assert_eq!(read(&mut program), b"answer");
        // A port that the guest refuses.
        let mut other = guest.greet("CONNECT 1\n");
        let (request, _) = guest.expect(OP_REQUEST);
        assert_eq!((request.dst_port, request.src_port), (1, (1 << 30) + 1));
        guest.send(from(1, request.src_port, OP_RST), &[]);
        assert!(has_ended(&mut other));
        guest.silent();
    }
}

#[test]
fn what_is_no_greeting_is_closed_and_those_without_end_give_way() {
    let mut guest = Guest::new();
    for words in ["GET / HTTP/1.1\n", "CONNECT 99999999999\n", &"CONNECT ".repeat(8), "\n"] {
        let mut program = guest.greet(words);
        assert!(has_ended(&mut program), "{words}");
    }
    let mut programs: Vec<_> = (0..=MAX_GREETINGS).map(|_| guest.greet("CONNECT")).collect();
    let ended = programs.iter_mut().map(has_ended).filter(|ended| *ended).count();
    assert_eq!(ended, 1);
    programs.last_mut().unwrap().write_all(b" 5\n").unwrap();
    guest.expect(OP_REQUEST);
}

#[test]
fn s5_10_6_3_a_program_that_does_not_read_stops_the_guests_credit() {
    let mut guest = Guest::new();
    let mut program = guest.connect();
    let all = pattern(1 << 20);
    let (mut sent, mut forwarded) = (0, 0);
    let mut read_back = Vec::new();
    let mut stalls = 0;
    while sent < all.len() {
        let credit = BUFFER_BYTES as usize - (sent - forwarded);
        let len = credit.min(30_000).min(all.len() - sent);
        if len > 0 {
            guest.send(from(7000, 52, OP_RW), &all[sent..sent + len]);
            sent += len;
        }
        let before = forwarded;
        while let Some((header, _)) = guest.packet() {
            assert_eq!(header.op, OP_CREDIT_UPDATE);
            forwarded = header.fwd_cnt as usize;
        }
        assert!(sent - forwarded <= BUFFER_BYTES as usize);
        if len == 0 && forwarded == before {
            stalls += 1;
            let more = read(&mut program);
            assert!(!more.is_empty(), "{sent} bytes, and then neither side goes on");
            read_back.extend(more);
        }
    }
    assert!(stalls > 0);
    while read_back.len() < all.len() {
        guest.run();
        read_back.extend(read(&mut program));
    }
    assert!(read_back == all);
}

#[test]
fn s5_10_6_3_a_guest_without_credit_or_buffers_is_sent_nothing() {
    let mut guest = Guest::new();
    let mut program = guest.connect();
    let all = pattern(500_000);
    let mut written = 0;
    let mut got = Vec::new();
    // All that the sockets take, and no buffers to send it in.
    while let Ok(more) = program.write(&all[written..]) {
        written += more;
        guest.run();
        assert!(written < all.len(), "the writer waits");
    }
    while got.len() < ROOM as usize {
        let (header, data) = guest.expect(OP_RW);
        assert!(header.len > 0);
        got.extend(data);
    }
    assert_eq!(got.len(), ROOM as usize, "not a byte more than the guest has room for");
    guest.expect(OP_CREDIT_REQUEST);
    guest.silent();
    guest.send(Header { fwd_cnt: 10, ..from(7000, 52, OP_CREDIT_UPDATE) }, &[]);
    let (_, data) = guest.expect(OP_RW);
    assert_eq!(data.len(), 10);
    got.extend(data);
    while got.len() < written {
        guest.send(Header { fwd_cnt: got.len() as u32, ..from(7000, 52, OP_CREDIT_UPDATE) }, &[]);
        while let Some((header, data)) = guest.packet() {
            assert!([OP_RW, OP_CREDIT_REQUEST].contains(&header.op));
            got.extend(data);
        }
    }
    assert!(got == all[..written]);
    guest.send(from(7000, 52, OP_CREDIT_REQUEST), &[]);
    guest.expect(OP_RST);
}

#[test]
fn s5_10_6_3_a_request_for_credit_is_answered() {
    let mut guest = Guest::new();
    let _program = guest.connect();
    guest.send(from(7000, 52, OP_RW), b"four");
    guest.silent();
    guest.send(from(7000, 52, OP_CREDIT_REQUEST), &[]);
    let (update, _) = guest.expect(OP_CREDIT_UPDATE);
    assert_eq!((update.buf_alloc, update.fwd_cnt), (BUFFER_BYTES, 4));
}

#[test]
fn s5_10_6_5_each_side_may_end_its_half() {
    let mut guest = Guest::new();
    let mut program = guest.connect();
    guest.send(Header { flags: SHUTDOWN_SEND, ..from(7000, 52, OP_SHUTDOWN) }, &[]);
    assert!(has_ended(&mut program));
    program.write_all(b"still").unwrap();
    assert_eq!(guest.expect(OP_RW).1, b"still");
    drop(program);
    assert_eq!(guest.expect(OP_SHUTDOWN).0.flags, SHUTDOWN_SEND | SHUTDOWN_RECEIVE);
    guest.send(from(7000, 52, OP_RST), &[]);
    guest.silent();
    let mut program = guest.connect();
    program.write_all(b"last").unwrap();
    program.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(guest.expect(OP_RW).1, b"last");
    assert_eq!(guest.expect(OP_SHUTDOWN).0.flags, SHUTDOWN_SEND);
    guest.send(from(7000, 52, OP_RW), b"heard");
    assert_eq!(read(&mut program), b"heard");
    guest.silent();
    drop(program);
    assert_eq!(guest.expect(OP_SHUTDOWN).0.flags, SHUTDOWN_SEND | SHUTDOWN_RECEIVE);
    guest.send(from(7000, 52, OP_RST), &[]);
    let mut program = guest.connect();
    guest.send(Header { flags: SHUTDOWN_RECEIVE, ..from(7000, 52, OP_SHUTDOWN) }, &[]);
    assert!(program.write(b"nobody reads it").is_err());
    guest.send(from(7000, 52, OP_RW), b"read");
    assert_eq!(read(&mut program), b"read");
}

#[test]
fn s5_10_6_5_a_connection_shut_down_in_both_directions_is_reset_when_all_was_read() {
    let mut guest = Guest::new();
    let mut program = guest.connect();
    let all = pattern(BUFFER_BYTES as usize);
    // More than the socket takes: the sender's buffer is full.
    let mut sent = 0;
    while sent < 300_000 {
        guest.send(from(7000, 52, OP_RW), &all[..30_000]);
        sent += 30_000;
        while guest.packet().is_some() {}
    }
    guest.send(Header { flags: SHUTDOWN_SEND | SHUTDOWN_RECEIVE, ..from(7000, 52, OP_SHUTDOWN) }, &[]);
    guest.silent();
    let mut count = 0;
    while !has_ended_after(&mut program, &mut count) {
        guest.run();
    }
    assert_eq!(count, sent);
    guest.expect(OP_RST);
    guest.silent();
}

/// Reads what there is, and says whether there will be no more.
fn has_ended_after(program: &mut UnixStream, count: &mut usize) -> bool {
    *count += read(program).len();
    let mut byte = [0];
    match program.read(&mut byte) {
        Ok(0) => true,
        Ok(_) => {
            *count += 1;
            false
        }
        Err(_) => false,
    }
}

#[test]
fn what_a_guest_sent_before_it_left_is_read_nevertheless() {
    let mut guest = Guest::new();
    let mut program = guest.connect();
    let mut sent = 0;
    while sent < 300_000 {
        guest.send(from(7000, 52, OP_RW), &pattern(30_000));
        sent += 30_000;
        while guest.packet().is_some() {}
    }
    guest.send(from(7000, 52, OP_RST), &[]);
    // The same ports are free for another.
    let mut next = guest.connect();
    guest.send(from(7000, 52, OP_RW), b"other");
    assert_eq!(read(&mut next), b"other");
    let mut count = 0;
    while !has_ended_after(&mut program, &mut count) {
        guest.run();
    }
    assert_eq!(count, sent);
}

#[test]
fn a_program_that_goes_is_told_of() {
    let mut guest = Guest::new();
    let mut program = guest.connect();
    program.write_all(b"bye").unwrap();
    drop(program);
    assert_eq!(guest.expect(OP_RW).1, b"bye", "first what it has written");
    assert_eq!(guest.expect(OP_SHUTDOWN).0.flags, SHUTDOWN_SEND | SHUTDOWN_RECEIVE);
    guest.send(from(7000, 52, OP_RW), b"lost");
    guest.send(Header { flags: SHUTDOWN_SEND | SHUTDOWN_RECEIVE, ..from(7000, 52, OP_SHUTDOWN) }, &[]);
    guest.expect(OP_RST);
    // One that goes before the guest has answered.
    let program = guest.greet("CONNECT 9\n");
    let (request, _) = guest.expect(OP_REQUEST);
    drop(program);
    guest.expect(OP_RST);
    guest.send(from(9, request.src_port, OP_RESPONSE), &[]);
    guest.expect(OP_RST);
    guest.silent();
}

#[test]
fn connections_have_their_turns() {
    const PROGRAMS: usize = 5;
    let mut guest = Guest::new();
    let listener = UnixListener::bind(guest.path("v_52")).unwrap();
    let mut programs = Vec::new();
    for port in 0..PROGRAMS as u32 {
        guest.send(from(port, 52, OP_REQUEST), &[]);
        guest.expect(OP_RESPONSE);
        programs.push(listener.accept().unwrap().0);
    }
    programs.iter_mut().for_each(|program| program.write_all(&pattern(40_000)).unwrap());
    guest.run();
    let mut count = [0; PROGRAMS];
    for turn in 0..4 * PROGRAMS {
        let (header, data) = guest.expect(OP_RW);
        assert_eq!(data.len(), RECEIVE_LEN as usize - HEADER_LEN);
        count[header.dst_port as usize] += 1;
        assert!(count.iter().all(|each| (turn / PROGRAMS..=turn / PROGRAMS + 1).contains(each)), "{count:?}");
    }
}

#[test]
fn a_reset_drops_every_connection_and_programs_wait_for_the_next_driver() {
    let mut guest = Guest::new();
    let mut program = guest.connect();
    guest.machine.endpoint.reset();
    assert!(has_ended(&mut program));
    let _waiting = guest.greet("CONNECT 80\n");
    guest.machine.negotiate(Features::NONE).unwrap();
    (0..QUEUES).for_each(|q| guest.machine.enable_queue(q).unwrap());
    guest.machine.write_status(Status::DRIVER_OK).unwrap();
    guest.posted = 0;
    assert_eq!(guest.expect(OP_REQUEST).0.dst_port, 80);
    guest.silent();
}

#[test]
fn connections_go_on_when_the_queues_have_stopped_and_started() {
    let mut guest = Guest::new();
    let mut program = guest.connect();
    guest.machine.endpoint.pause();
    program.write_all(b"meanwhile").unwrap();
    assert_eq!(guest.machine.endpoint.backend_mut().run(STEPS), 0, "nothing wakes a device at rest");
    guest.machine.endpoint.resume();
    assert_eq!(guest.expect(OP_RW).1, b"meanwhile");
}

#[test]
fn there_is_an_end_to_connections() {
    let mut guest = Guest::new();
    let listener = UnixListener::bind(guest.path("v_1")).unwrap();
    let mut programs = Vec::new();
    for port in 0..MAX_CONNECTIONS as u32 {
        guest.send(from(port, 1, OP_REQUEST), &[]);
        guest.expect(OP_RESPONSE);
        programs.push(listener.accept().unwrap().0);
    }
    guest.send(from(5000, 1, OP_REQUEST), &[]);
    guest.expect(OP_RST);
    let mut program = guest.greet("CONNECT 80\n");
    assert!(has_ended(&mut program));
    guest.send(from(77, 1, OP_RST), &[]);
    guest.send(from(5000, 1, OP_REQUEST), &[]);
    guest.expect(OP_RESPONSE);
}
