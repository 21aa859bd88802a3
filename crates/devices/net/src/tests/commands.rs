//! The control queue: which packets, which pairs, which offloads.

use super::*;

const KNOWING: Features = ALL.without(Features::RESERVED);
const GROUP: Address = Address([1, 0, 0x5e, 0, 0, 1]);
const OTHER: Address = Address([2, 0, 0, 0, 0, 7]);
const EVERYBODY: Address = Address([0xff; 6]);

/// Which of these reach the driver.
fn received(card: &mut Plugged, frames: &[Vec<u8>]) -> Vec<bool> {
    let reached = frames.iter().map(|frame| {
        card.peer().send(&behind(PLAIN, frame)).unwrap();
        card.post(&[]);
        let packet = card.take();
        if packet.is_some() {
            card.post(&[&[2000]]);
        }
        packet.is_some_and(|packet| packet == behind(with_buffers(PLAIN, 1), frame))
    });
    reached.collect()
}

fn to(addresses: &[Address]) -> Vec<Vec<u8>> {
    addresses.iter().map(|address| frame(*address, PEER, 60)).collect()
}

fn tables(unicast: &[Address], multicast: &[Address]) -> Vec<u8> {
    let table = |list: &[Address]| {
        let bytes = list.iter().flat_map(|address| address.0);
        (list.len() as u32).to_le_bytes().into_iter().chain(bytes).collect::<Vec<_>>()
    };
    [table(unicast), table(multicast)].concat()
}

#[test]
fn s5_1_6_5_1_modes_say_what_is_received() {
    let mut card = plugged(KNOWING);
    card.post(&[&[2000]]);
    let all = to(&[ADDRESS, OTHER, GROUP, EVERYBODY]);
    assert_eq!(received(&mut card, &all), [true; 4], "until the driver says otherwise");
    assert_eq!(card.command(CTRL_RX, CTRL_RX_PROMISC, &[0]), CTRL_OK);
    assert_eq!(received(&mut card, &all), [true, false, false, true]);
    let modes = [
        (CTRL_RX_ALLMULTI, [true, false, true, true]),
        (CTRL_RX_ALLUNI, [true, true, false, true]),
        (CTRL_RX_NOUNI, [false, false, false, true]),
        (CTRL_RX_NOBCAST, [true, false, false, false]),
    ];
    for (mode, expected) in modes {
        assert_eq!(card.command(CTRL_RX, mode, &[1]), CTRL_OK);
        assert_eq!(received(&mut card, &all), expected, "{mode}");
        assert_eq!(card.command(CTRL_RX, mode, &[0]), CTRL_OK);
    }
    assert_eq!(card.command(CTRL_RX, CTRL_RX_ALLMULTI, &[1]), CTRL_OK);
    assert_eq!(card.command(CTRL_RX, CTRL_RX_NOMULTI, &[1]), CTRL_OK);
    assert_eq!(received(&mut card, &all), [true, false, false, true]);
    assert_eq!(card.command(CTRL_RX, CTRL_RX_PROMISC, &[2]), CTRL_ERR);
    assert_eq!(dropped(&mut card.machine), (0, 0), "what is not wanted is not missed");
}

#[test]
fn s5_1_6_5_2_addresses_are_received_by_table() {
    let mut card = plugged(KNOWING);
    card.post(&[&[2000]]);
    let all = to(&[ADDRESS, OTHER, GROUP]);
    assert_eq!(card.command(CTRL_RX, CTRL_RX_PROMISC, &[0]), CTRL_OK);
    assert_eq!(card.command(CTRL_MAC, CTRL_MAC_TABLE_SET, &tables(&[OTHER], &[GROUP])), CTRL_OK);
    assert_eq!(received(&mut card, &all), [true; 3]);
    assert_eq!(card.command(CTRL_MAC, CTRL_MAC_TABLE_SET, &tables(&[], &[])), CTRL_OK);
    assert_eq!(received(&mut card, &all), [true, false, false]);
    assert_eq!(card.command(CTRL_MAC, CTRL_MAC_ADDRESS_SET, &OTHER.0), CTRL_OK);
    assert_eq!(card.config()[..6], OTHER.0);
    assert_eq!(received(&mut card, &all), [false, true, false]);
    // More than are kept: none is missed.
    let many: Vec<_> = (0..65).map(|number| Address([2, 0, 0, 0, 1, number])).collect();
    assert_eq!(card.command(CTRL_MAC, CTRL_MAC_TABLE_SET, &tables(&many, &[])), CTRL_OK);
    assert_eq!(received(&mut card, &all), [true, true, false]);
    card.machine.endpoint.reset();
    assert_eq!(card.config()[..6], ADDRESS.0, "a reset brings the card's own back");
}

#[test]
fn s5_1_6_5_3_vlans_are_received_by_their_number() {
    let tagged = |id: u16| {
        let mut frame = frame(ADDRESS, PEER, 60);
        frame[12..16].copy_from_slice(&[0x81, 0, (id >> 8) as u8 | 0xe0, id as u8]);
        frame
    };
    let frames = [tagged(0), tagged(5), tagged(4095), frame(ADDRESS, PEER, 60)];
    let mut card = plugged(KNOWING);
    card.post(&[&[2000]]);
    assert_eq!(card.command(CTRL_RX, CTRL_RX_PROMISC, &[0]), CTRL_OK);
    assert_eq!(received(&mut card, &frames), [false, false, false, true]);
    for id in [5u16, 4095] {
        assert_eq!(card.command(CTRL_VLAN, CTRL_VLAN_ADD, &id.to_le_bytes()), CTRL_OK);
    }
    assert_eq!(received(&mut card, &frames), [false, true, true, true]);
    assert_eq!(card.command(CTRL_VLAN, CTRL_VLAN_DEL, &5u16.to_le_bytes()), CTRL_OK);
    assert_eq!(received(&mut card, &frames), [false, false, true, true]);
    let mut unfiltered = plugged(KNOWING.without(CTRL_VLAN_FILTER));
    unfiltered.post(&[&[2000]]);
    assert_eq!(unfiltered.command(CTRL_RX, CTRL_RX_PROMISC, &[0]), CTRL_OK);
    assert_eq!(received(&mut unfiltered, &frames), [true; 4]);
}

#[test]
fn s5_1_6_5_4_an_announcement_is_asked_for_until_it_is_acknowledged() {
    let mut card = plugged(KNOWING);
    let cable = card.machine.endpoint.backend_mut().model().cable();
    assert_eq!(card.status(), STATUS_LINK_UP);
    cable.announce();
    run(&mut card.machine);
    assert_eq!((card.status(), card.machine.notifications.config()), (STATUS_LINK_UP | STATUS_ANNOUNCE, 1));
    assert_eq!(card.command(CTRL_ANNOUNCE, CTRL_ANNOUNCE_ACK, &[]), CTRL_OK);
    assert_eq!(card.status(), STATUS_LINK_UP);
}

#[test]
fn s5_1_6_5_5_pairs_of_queues_are_used_from_one_to_all() {
    const PAIRS: u16 = 3;
    let (port, peers) = sockets(PAIRS);
    let setup = Setup { pairs: PAIRS, ..SETUP };
    let mut card = Plugged { machine: machine(Arc::new(port), setup, BARE | MQ), peers };
    let queue = control_queue(PAIRS);
    for (count, answer) in
        [(0, CTRL_ERR), (PAIRS + 1, CTRL_ERR), (PAIRS, CTRL_OK), (1, CTRL_OK), (2, CTRL_OK)]
    {
        let count = u16::to_le_bytes(count);
        assert_eq!(card.command_in(queue, CTRL_MQ, CTRL_MQ_VQ_PAIRS_SET, &count), answer);
    }
    // Each pair has its own cable.
    for pair in 0..PAIRS {
        let mut packet = frame(ADDRESS, PEER, 60);
        packet[20] = pair as u8;
        let packet = behind(PLAIN, &packet);
        card.machine.request(transmit_queue(pair), &packet, 0).unwrap();
        assert_eq!(got(&card.peers[usize::from(pair)]).as_ref(), Some(&packet));
        card.peers[usize::from(pair)].send(&packet).unwrap();
        let reply = card.machine.request(receive_queue(pair), &[], 2000).unwrap();
        assert_eq!(cut(reply)[HEADER_LEN..], packet[HEADER_LEN..]);
    }
}

#[test]
fn s5_1_2_without_many_pairs_the_third_queue_is_control() {
    let (port, peers) = sockets(2);
    let net = Net::new(Arc::new(port), Setup { pairs: 2, ..SETUP }).unwrap();
    let mut machine: Machine = Rig::in_reset(Inline::new(net)).unwrap();
    machine.negotiate(CTRL_VQ | CTRL_RX_MODE).unwrap();
    for q in 0..3 {
        machine.enable_queue(q).unwrap();
    }
    machine.write_status(Status::DRIVER_OK).unwrap();
    let mut card = Plugged { machine, peers };
    assert_eq!(card.command(CTRL_RX, CTRL_RX_PROMISC, &[0]), CTRL_OK);
    assert_eq!(card.command(CTRL_MQ, CTRL_MQ_VQ_PAIRS_SET, &[1, 0]), CTRL_ERR);
    healthy(&card.machine);
}

#[test]
fn s5_1_6_5_6_offloads_are_taken_back_and_given_again() {
    let taken = GUEST_CSUM | GUEST_TSO4 | CTRL_GUEST_OFFLOADS;
    let mut card = plugged(taken);
    let packet = behind(to_complete(34, 16), &frame(ADDRESS, PEER, 60));
    for (offloads, answer, reached) in [
        (Features::NONE, CTRL_OK, false),
        (GUEST_CSUM, CTRL_OK, true),
        (GUEST_CSUM | GUEST_TSO6, CTRL_ERR, true),
        (CSUM, CTRL_ERR, true),
    ] {
        let set = offloads.0.to_le_bytes();
        assert_eq!(card.command(CTRL_OFFLOADS, CTRL_GUEST_OFFLOADS_SET, &set), answer, "{offloads}");
        card.peer().send(&packet).unwrap();
        card.post(&[]);
        if reached {
            card.post(&[&[2000]]);
        }
        assert_eq!(card.take().is_some(), reached, "{offloads}");
    }
}

/// Row 31 of the hostile peers.
#[test]
fn row31_commands_that_were_not_negotiated_are_refused() {
    let mut card = plugged(BARE);
    for (class, command, data) in [
        (CTRL_RX, CTRL_RX_PROMISC, &[0][..]),
        (CTRL_RX, CTRL_RX_NOUNI, &[0]),
        (CTRL_RX, 6, &[0]),
        (CTRL_MAC, CTRL_MAC_TABLE_SET, &[0; 8]),
        (CTRL_MAC, CTRL_MAC_ADDRESS_SET, &[2; 6]),
        (CTRL_VLAN, CTRL_VLAN_ADD, &[1, 0]),
        (CTRL_ANNOUNCE, CTRL_ANNOUNCE_ACK, &[]),
        (CTRL_MQ, CTRL_MQ_VQ_PAIRS_SET, &[1, 0]),
        (CTRL_OFFLOADS, CTRL_GUEST_OFFLOADS_SET, &[0; 8]),
        (200, 0, &[]),
    ] {
        assert_eq!(card.command(class, command, data), CTRL_ERR, "{class}.{command}");
    }
    assert_eq!(card.config()[..6], ADDRESS.0);
    healthy(&card.machine);
}
