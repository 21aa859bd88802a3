//! Packets there and back, port that is full or gone, links and state.

use super::*;

#[test]
fn s5_1_6_2_packets_are_sent_whole_whatever_their_pieces() {
    for format in FORMATS {
        let mut card = plugged(format);
        let sent = behind(PLAIN, &frame(PEER, ADDRESS, 100));
        assert_eq!(card.send(&[&sent]).as_ref(), Some(&sent));
        assert_eq!(card.send(&[&sent[..12], &sent[12..]]).as_ref(), Some(&sent));
        let pieces = [&sent[..5], &sent[5..13], &[], &sent[13..14], &sent[14..60], &sent[60..]];
        assert_eq!(card.send(&pieces).as_ref(), Some(&sent));
        let single: Vec<&[u8]> = sent.chunks(1).collect();
        assert_eq!(card.send(&single).as_ref(), Some(&sent), "more pieces than are listed");
        assert_eq!(dropped(&mut card.machine), (0, 0));
    }
}

#[test]
fn s5_1_6_4_a_packet_waits_for_a_buffer_and_fills_it() {
    for format in FORMATS {
        let mut card = plugged(format);
        let came = frame(ADDRESS, PEER, 64);
        card.peer().send(&behind(PLAIN, &came)).unwrap();
        run(&mut card.machine);
        card.post(&[&[12, 1500]]);
        assert_eq!(card.take(), Some(behind(with_buffers(PLAIN, 1), &came)));
        // A buffer that waits is used as soon as something comes, and no sooner.
        card.post(&[&[2000]]);
        assert_eq!(card.take(), None);
        card.peer().send(&behind(PLAIN, &came)).unwrap();
        assert_eq!(card.take(), Some(behind(with_buffers(PLAIN, 1), &came)));
    }
}

#[test]
fn s5_1_6_4_1_a_packet_takes_as_many_buffers_as_it_needs() {
    for format in FORMATS {
        let mut card = plugged(format | MRG_RXBUF);
        let came = frame(ADDRESS, PEER, 1000);
        card.peer().send(&behind(PLAIN, &came)).unwrap();
        card.post(&[&[300], &[300]]);
        assert_eq!(card.take(), None, "the packet stays until there is room for all of it");
        card.post(&[&[300], &[300], &[300]]);
        let parts: Vec<_> = std::iter::from_fn(|| card.take()).collect();
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [300, 300, 300, 112]);
        assert_eq!(parts.concat(), behind(with_buffers(PLAIN, 4), &came));
        card.peer().send(&behind(PLAIN, &came[..100])).unwrap();
        assert_eq!(card.take(), Some(behind(with_buffers(PLAIN, 1), &came[..100])), "the one that was left");
    }
}

#[test]
fn s5_1_6_4_1_without_merging_a_packet_that_does_not_fit_is_dropped() {
    let mut card = plugged(Features::NONE);
    let came = frame(ADDRESS, PEER, 1000);
    card.peer().send(&behind(PLAIN, &came)).unwrap();
    card.peer().send(&behind(PLAIN, &came[..200])).unwrap();
    card.post(&[&[300], &[300]]);
    assert_eq!(card.take(), Some(Vec::new()));
    assert_eq!(card.take(), Some(behind(with_buffers(PLAIN, 1), &came[..200])));
    assert_eq!(dropped(&mut card.machine), (0, 1));
}

#[test]
fn a_ring_full_of_buffers_that_are_too_short_is_no_end() {
    for format in FORMATS {
        let (port, peers) = sockets(1);
        let mut machine = machine(Arc::new(port), SETUP, format | BARE | MRG_RXBUF);
        for _ in 0..1024 {
            machine.submit(receive_queue(0), &[], &[12]).unwrap();
        }
        let mut card = Plugged { machine, peers };
        card.peer().send(&behind(PLAIN, &frame(ADDRESS, PEER, 60_000))).unwrap();
        let _ = card.machine.kick(receive_queue(0)).unwrap();
        let back: Vec<_> = std::iter::from_fn(|| card.take()).collect();
        assert!(back.len() == 1024 && back.iter().all(Vec::is_empty));
        assert_eq!(dropped(&mut card.machine), (0, 1));
        card.post(&[&[100]]);
        card.peer().send(&behind(PLAIN, &frame(ADDRESS, PEER, 60))).unwrap();
        assert_eq!(card.take().map(|packet| packet.len()), Some(72));
    }
}

/// Fills the socket; what does not fit waits, in order, and nothing is lost.
#[test]
fn packets_that_the_port_has_no_room_for_wait_and_go_on_in_order() {
    const COUNT: usize = 1000;
    for format in FORMATS {
        let mut card = plugged(format);
        let packet = |number: usize| {
            let mut packet = frame(PEER, ADDRESS, 1400);
            packet[14..22].copy_from_slice(&number.to_le_bytes());
            behind(PLAIN, &packet)
        };
        for number in 0..COUNT {
            card.machine.submit(transmit_queue(0), &[&packet(number)], &[]).unwrap();
        }
        let _ = card.machine.kick(transmit_queue(0)).unwrap();
        run(&mut card.machine);
        let mut used = 0;
        while card.machine.take(transmit_queue(0)).unwrap().is_some() {
            used += 1;
        }
        assert!((1..COUNT).contains(&used), "the socket is full: {used}");
        let mut next = 0;
        while let Some(packet_got) = got(card.peer()) {
            assert_eq!(packet_got, packet(next));
            next += 1;
            run(&mut card.machine);
        }
        assert_eq!((next, dropped(&mut card.machine)), (COUNT, (0, 0)));
    }
}

#[test]
fn a_queue_that_is_stopped_does_not_wait_for_the_port() {
    let mut card = plugged(Features::NONE);
    for _ in 0..500 {
        card.machine.submit(transmit_queue(0), &[&behind(PLAIN, &frame(PEER, ADDRESS, 1400))], &[]).unwrap();
    }
    let _ = card.machine.kick(transmit_queue(0)).unwrap();
    run(&mut card.machine);
    let position = card.machine.endpoint.backend_mut().stop_queue(transmit_queue(0)).unwrap();
    assert!(position.is_some());
    assert_eq!(dropped(&mut card.machine), (1, 0), "the one that waited");
}

#[test]
fn a_flood_is_served_in_portions_and_all_of_it() {
    let mut card = plugged(MRG_RXBUF);
    let came = frame(ADDRESS, PEER, 60);
    card.post(&vec![&[128][..]; 900]);
    let (mut sent, mut count) = (0, 0);
    while sent < 700 {
        while sent < 700 && card.peer().send(&behind(PLAIN, &came)).is_ok() {
            sent += 1;
        }
        while card.take().is_some() {
            count += 1;
        }
    }
    assert_eq!((count, dropped(&mut card.machine)), (700, (0, 0)));
}

#[test]
fn a_port_that_is_gone_is_a_link_that_is_down() {
    for format in FORMATS {
        let mut card = plugged(format | STATUS_FIELD);
        card.post(&[&[2000]]);
        assert_eq!(card.status(), STATUS_LINK_UP);
        let before = card.machine.notifications.config();
        card.peers.clear();
        let packet = behind(PLAIN, &frame(PEER, ADDRESS, 60));
        for _ in 0..3 {
            let reply = card.machine.request(transmit_queue(0), &packet, 0).unwrap();
            assert_eq!(reply.written, 0);
        }
        run(&mut card.machine);
        assert_eq!(card.status(), 0);
        assert_eq!(card.machine.notifications.config(), before + 1, "told once");
        assert_eq!(dropped(&mut card.machine), (3, 0));
        healthy(&card.machine);
    }
}

#[test]
fn s5_1_4_the_link_is_shown_and_its_changes_are_told() {
    // With a control queue, and without.
    for features in [STATUS_FIELD | CTRL_VQ, STATUS_FIELD] {
        let (port, _peers) = sockets(1);
        let net = Net::new(Arc::new(port), SETUP).unwrap();
        let cable = net.cable();
        let mut machine: Machine = Rig::in_reset(Inline::new(net)).unwrap();
        machine.negotiate(features).unwrap();
        for q in 0..if features.contains(CTRL_VQ) { 3 } else { 2 } {
            machine.enable_queue(q).unwrap();
        }
        machine.write_status(Status::DRIVER_OK).unwrap();
        run(&mut machine);
        assert_eq!(machine.notifications.config(), 0);
        for (link, status) in [(Link::Down, 0), (Link::Up, STATUS_LINK_UP)] {
            let before = machine.notifications.config();
            cable.set_link(link);
            run(&mut machine);
            let mut shown = [0; 2];
            machine.endpoint.read_config(STATUS as u64, &mut shown);
            assert_eq!((u16::from_le_bytes(shown), cable.link()), (status, link));
            assert_eq!(machine.notifications.config(), before + 1);
        }
    }
}

#[test]
fn s5_1_4_the_configuration_space_describes_the_card() {
    let (port, _peers) = sockets(4);
    let net = Net::new(Arc::new(port), Setup { pairs: 3, mtu_bytes: Some(9000), ..SETUP }).unwrap();
    let info = net.info();
    assert_eq!(
        (info.device_type, info.queue_sizes.len(), info.config_len),
        (device_type::NET, 7, CONFIG_LEN)
    );
    assert!(info.features.contains(MAC | STATUS_FIELD | MQ | MTU | CTRL_VQ));
    let mut config = [0; CONFIG_LEN];
    net.read_config(0, &mut config);
    assert_eq!(config, [0x52, 0x54, 0, 1, 2, 3, 1, 0, 3, 0, 0x28, 0x23]);
    let mut some = [0xff; 3];
    net.read_config(CONFIG_LEN - 3, &mut some);
    assert_eq!(some, [0, 0x28, 0x23]);
}

#[test]
fn a_card_goes_on_from_the_state_of_another() {
    let mut card = plugged(ALL.without(Features::RESERVED));
    let other = Address([2, 2, 2, 2, 2, 2]);
    let tables = [&1u32.to_le_bytes()[..], &PEER.0, &0u32.to_le_bytes()].concat();
    assert_eq!(card.command(CTRL_RX, CTRL_RX_PROMISC, &[0]), CTRL_OK);
    assert_eq!(card.command(CTRL_MAC, CTRL_MAC_TABLE_SET, &tables), CTRL_OK);
    assert_eq!(card.command(CTRL_MAC, CTRL_MAC_ADDRESS_SET, &other.0), CTRL_OK);
    assert_eq!(card.command(CTRL_VLAN, CTRL_VLAN_ADD, &77u16.to_le_bytes()), CTRL_OK);
    let state = card.machine.endpoint.backend_mut().model().save();
    let mut to = plugged(ALL.without(Features::RESERVED));
    to.machine.endpoint.backend_mut().model_mut().restore(&state).unwrap();
    assert_eq!(to.config()[..6], other.0);
    assert_eq!(to.status(), STATUS_LINK_UP | STATUS_ANNOUNCE, "it has moved");
    assert_eq!(to.machine.endpoint.backend_mut().model().save(), state);
    for (broken, what) in [
        (state[..state.len() - 1].to_vec(), "cut"),
        ([&state[..], &[0]].concat(), "longer"),
        ([&[9, 0], &state[2..]].concat(), "of too many pairs"),
        ([&[0, 0], &state[2..]].concat(), "of no pair"),
        ([&state[..2], &[0xff; 8], &state[10..]].concat(), "of offloads that there are not"),
        ([&state[..17], &[200], &state[18..]].concat(), "of more addresses than there are"),
        (Vec::new(), "nothing"),
    ] {
        let restored = to.machine.endpoint.backend_mut().model_mut().restore(&broken);
        assert!(restored.is_err(), "{what}");
    }
}

#[test]
fn options_are_checked() {
    let refused =
        |text: &str| Net::from_options(&Options::parse(text).unwrap()).map(drop).unwrap_err().to_string();
    assert_eq!(refused("net"), "net: it needs `tap=…`");
    assert!(refused("net,port=reflect,tap=auto").contains("there is a port, too: keep one"));
    assert!(refused("net,port=wire").contains("write reflect"));
    assert!(refused("net,port=reflect,mac=01:00:00:00:00:00").contains("its first byte even"));
    assert!(refused("net,port=reflect,mac=1:2:3:4:5:6").contains("write an address such as"));
    assert!(refused("net,port=reflect,queues=0").contains("a number from 1 to 64"));
    assert!(refused("net,port=reflect,mtu=67").contains("a number from 68 to 65535"));
    assert!(refused("net,tap=sixteen-bytes-it").contains("1 to 15 bytes"));
    assert!(refused("net,tap=vioduct%d").contains("1 to 15 bytes"));
    assert!(refused("net,tap=none-such").contains("there is no such interface: `ip tuntap add"));
    let net = Net::from_options(&Options::parse("net,port=reflect,mac=52:54:00:aB:cd:ef").unwrap()).unwrap();
    let mut address = [0; 6];
    net.read_config(0, &mut address);
    assert_eq!(address, [0x52, 0x54, 0, 0xab, 0xcd, 0xef]);
}
