//! What no driver may do, and one does: rows of the hostile peers' table.

use super::*;

const OFFLOADS: Features = CSUM.with(HOST_TSO4).with(HOST_TSO6);

/// Each of these buffers comes back, none of it goes out, and the next packet does.
fn goes_nowhere(features: Features, packets: &[Vec<u8>]) {
    for format in FORMATS {
        let mut card = plugged(format | features);
        for packet in packets {
            assert_eq!(card.send(&[packet]), None, "{:x?}", &packet[..12.min(packet.len())]);
        }
        assert_eq!(dropped(&mut card.machine), (packets.len() as u64, 0));
        let good = behind(PLAIN, &frame(PEER, ADDRESS, 60));
        assert_eq!(card.send(&[&good]), Some(good));
        healthy(&card.machine);
    }
}

#[test]
fn row29_a_checksum_outside_of_the_packet_is_refused() {
    let packet = frame(PEER, ADDRESS, 60);
    let outside =
        [(58, 1), (59, 0), (0, 59), (60, 0), (0xffff, 0xffff), (0xffff, 0), (0, 0xffff), (1, 0xffff)];
    let packets: Vec<_> =
        outside.iter().map(|(start, offset)| behind(to_complete(*start, *offset), &packet)).collect();
    goes_nowhere(OFFLOADS, &packets);
    let mut card = plugged(OFFLOADS);
    for (start, offset) in [(58, 0), (0, 58), (34, 16)] {
        let good = behind(to_complete(start, offset), &packet);
        assert_eq!(card.send(&[&good]), Some(good));
    }
}

/// The header is read once: what the driver makes of it afterwards goes nowhere.
#[test]
fn row29_what_goes_out_is_the_copy_that_was_judged() {
    let mut card = plugged(OFFLOADS);
    // What was not understood of the header is not passed on.
    let mut odd = to_complete(34, 16);
    odd[HEADER_FLAGS] |= 0xf0 | HDR_F_DATA_VALID;
    odd[HEADER_HDR_LEN] = 0xff;
    odd[HEADER_NUM_BUFFERS] = 9;
    let packet = frame(PEER, ADDRESS, 60);
    assert_eq!(card.send(&[&behind(odd, &packet)]), Some(behind(to_complete(34, 16), &packet)));
    let mut plain = PLAIN;
    plain[HEADER_CSUM_START..].fill(0xff);
    assert_eq!(card.send(&[&behind(plain, &packet)]), Some(behind(PLAIN, &packet)));
}

#[test]
fn row30_segments_of_nothing_or_of_no_known_kind_are_refused() {
    let packet = frame(PEER, ADDRESS, 3000);
    let mut without_checksum = to_segment(GSO_TCPV4, 1400, 54);
    without_checksum[HEADER_FLAGS] = 0;
    let packets = [
        to_segment(GSO_TCPV4, 0, 54),
        to_segment(GSO_TCPV6, 0, 0),
        to_segment(2, 1400, 54),
        to_segment(0x7f, 1400, 54),
        to_segment(GSO_ECN, 1400, 54),
        without_checksum,
    ];
    goes_nowhere(OFFLOADS, &packets.map(|header| behind(header, &packet)));
    // The length of the headers is advice: what is beyond the packet is cut.
    let mut card = plugged(OFFLOADS);
    let sent = card.send(&[&behind(to_segment(GSO_TCPV4, 1400, 0xffff), &packet)]);
    assert_eq!(sent, Some(behind(to_segment(GSO_TCPV4, 1400, 3000), &packet)));
}

#[test]
fn row31_offloads_that_were_not_negotiated_are_refused() {
    let packet = frame(PEER, ADDRESS, 3000);
    goes_nowhere(Features::NONE, &[behind(to_complete(34, 16), &packet)]);
    let kinds = [GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, GSO_TCPV4 | GSO_ECN];
    goes_nowhere(CSUM, &kinds.map(|kind| behind(to_segment(kind, 1400, 54), &packet)));
    let not_these = [GSO_TCPV6, GSO_UDP, GSO_UDP_L4, GSO_TCPV4 | GSO_ECN];
    goes_nowhere(CSUM | HOST_TSO4, &not_these.map(|kind| behind(to_segment(kind, 1400, 54), &packet)));
}

/// What comes for a driver that takes no such thing does not reach it, and neither does a flag.
#[test]
fn row31_a_driver_gets_nothing_that_it_did_not_negotiate() {
    let packet = frame(ADDRESS, PEER, 60);
    let mut valid = PLAIN;
    valid[HEADER_FLAGS] = HDR_F_DATA_VALID;
    let mut card = plugged(Features::NONE);
    card.peer().send(&behind(to_complete(34, 16), &packet)).unwrap();
    card.peer().send(&behind(to_segment(GSO_TCPV4, 10, 0), &packet)).unwrap();
    card.peer().send(&behind(valid, &packet)).unwrap();
    card.post(&[&[2000]]);
    assert_eq!(card.take(), Some(behind(with_buffers(PLAIN, 1), &packet)));
    assert_eq!(dropped(&mut card.machine), (0, 2));
    let mut card = plugged(GUEST_CSUM | GUEST_TSO4);
    let expected = [to_complete(34, 16), to_segment(GSO_TCPV4, 10, 0), valid];
    for header in expected {
        card.peer().send(&behind(header, &packet)).unwrap();
        card.post(&[&[2000]]);
        assert_eq!(card.take(), Some(behind(with_buffers(header, 1), &packet)));
    }
}

/// The header is of one length, for no feature that would make it another is offered.
#[test]
fn row32_the_header_is_as_long_as_was_negotiated() {
    let (port, _peers) = sockets(1);
    let offered = Net::new(Arc::new(port), SETUP).unwrap().info().features;
    assert!((offered & (HASH_REPORT | RSS)).is_empty());
    // A byte less than the header, and nothing but the header, is no packet.
    goes_nowhere(OFFLOADS, &[vec![0; HEADER_LEN - 1], vec![0; HEADER_LEN], vec![0; HEADER_LEN + 13]]);
    goes_nowhere(OFFLOADS, &[behind(PLAIN, &vec![0; crate::MAX_FRAME_BYTES + 1])]);
}

/// The number of buffers is written before they are given back, from what is held here.
#[test]
fn row33_the_number_of_buffers_is_our_own() {
    let mut card = plugged(MRG_RXBUF);
    let packet = frame(ADDRESS, PEER, 500);
    card.peer().send(&behind(with_buffers(PLAIN, 0xffff), &packet)).unwrap();
    card.post(&[&[10, 20, 30], &[1], &[400], &[400]]);
    assert_eq!(card.take(), Some(Vec::new()), "shorter than the header: row 9");
    let parts: Vec<_> = std::iter::from_fn(|| card.take()).collect();
    assert_eq!(parts.concat(), behind(with_buffers(PLAIN, 3), &packet));
    healthy(&card.machine);
}

#[test]
fn row9_buffers_shorter_than_the_header_or_readable_come_back_untouched() {
    for format in FORMATS {
        let mut card = plugged(format);
        let packet = frame(ADDRESS, PEER, 60);
        card.peer().send(&behind(PLAIN, &packet)).unwrap();
        card.post(&[&[1], &[11], &[2, 3]]);
        for _ in 0..3 {
            assert_eq!(card.take(), Some(Vec::new()));
        }
        let reply = card.machine.request(receive_queue(0), b"readable", 200).unwrap();
        assert_eq!((reply.written, reply.bytes), (0, vec![0; 200]));
        card.post(&[&[72]]);
        assert_eq!(card.take(), Some(behind(with_buffers(PLAIN, 1), &packet)), "the packet has waited");
        let reply = card.machine.request(transmit_queue(0), &behind(PLAIN, &packet), 8).unwrap();
        assert_eq!((reply.written, got(card.peer())), (0, None));
        healthy(&card.machine);
    }
}

/// Counts that do not agree with the bytes that are there, in commands that were copied once.
#[test]
fn row34_a_command_is_as_long_as_it_is_and_no_longer() {
    let mut card = plugged(ALL.without(Features::RESERVED));
    let count = |count: u32| count.to_le_bytes();
    let tables: [(&[&[u8]], &str); 7] = [
        (&[], "no table"),
        (&[&count(0)], "one table"),
        (&[&count(1), &PEER.0], "one table of one"),
        (&[&count(2), &PEER.0, &count(0)], "more than there are"),
        (&[&count(u32::MAX), &PEER.0, &count(0)], "far more than there are"),
        (&[&count(0), &count(0), &[0]], "a byte more"),
        (&[&count(0x2aaa_aaab), &count(0)], "a length that wraps in 32 bits"),
    ];
    for (parts, what) in tables {
        assert_eq!(card.command(CTRL_MAC, CTRL_MAC_TABLE_SET, &parts.concat()), CTRL_ERR, "{what}");
    }
    assert_eq!(card.command(CTRL_MAC, CTRL_MAC_TABLE_SET, &[0; 8]), CTRL_OK);
    let long = [&count(4000)[..], &[2; 24_000], &count(0)].concat();
    assert_eq!(card.command(CTRL_MAC, CTRL_MAC_TABLE_SET, &long), CTRL_ERR, "longer than is copied");
    for data in [&[][..], &[1, 0]] {
        assert_eq!(card.command(CTRL_RX, CTRL_RX_PROMISC, data), CTRL_ERR);
        assert_eq!(card.command(CTRL_MAC, CTRL_MAC_ADDRESS_SET, data), CTRL_ERR);
    }
    healthy(&card.machine);
}

#[test]
fn row34_a_command_without_room_for_its_answer_stops_nothing() {
    let mut card = plugged(ALL.without(Features::RESERVED));
    let reply = card.machine.request(CONTROL, &[CTRL_RX, CTRL_RX_PROMISC, 0], 0).unwrap();
    assert_eq!(reply.written, 0);
    let reply = card.machine.request(CONTROL, &[CTRL_RX], 1).unwrap();
    assert_eq!(reply.bytes, [CTRL_ERR]);
    let reply = card.machine.request(CONTROL, &[], 1).unwrap();
    assert_eq!(reply.bytes, [CTRL_ERR]);
    assert_eq!(card.command(CTRL_RX, CTRL_RX_PROMISC, &[1]), CTRL_OK);
    healthy(&card.machine);
}

#[test]
fn row35_a_vlan_has_an_id_below_4096() {
    let mut card = plugged(ALL.without(Features::RESERVED));
    for command in [CTRL_VLAN_ADD, CTRL_VLAN_DEL] {
        for (id, answer) in [(0, CTRL_OK), (4095, CTRL_OK), (4096, CTRL_ERR), (0xffff, CTRL_ERR)] {
            assert_eq!(card.command(CTRL_VLAN, command, &u16::to_le_bytes(id)), answer, "{id}");
        }
    }
}

#[test]
fn row36_accesses_beyond_the_configuration_space_do_nothing() {
    let mut card = plugged(BARE);
    for (offset, len) in [(CONFIG_LEN as u64, 4), (CONFIG_LEN as u64 - 1, 2), (u64::MAX, 8)] {
        let mut out = vec![0xee; len];
        card.machine.endpoint.read_config(offset, &mut out);
        assert!(out.iter().all(|byte| [0, 0xee, 0xff].contains(byte)), "{out:x?}");
    }
}
