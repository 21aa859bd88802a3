//! A mirror for a port: packets come back with their addresses exchanged.

use super::*;
use crate::Reflect;

const RECEIVE: u16 = receive_queue(0);
const TRANSMIT: u16 = transmit_queue(0);

fn before_a_mirror(features: Features) -> Machine {
    machine(Arc::new(Reflect), SETUP, features | BARE)
}

fn send(machine: &mut Machine, pieces: &[&[u8]]) {
    machine.submit(TRANSMIT, pieces, &[]).unwrap();
    let _ = machine.kick(TRANSMIT).unwrap();
    run(machine);
}

fn post(machine: &mut Machine, pieces: &[u32]) {
    machine.submit(RECEIVE, &[], pieces).unwrap();
    let _ = machine.kick(RECEIVE).unwrap();
    run(machine);
}

/// Makes available what was submitted.
fn start(machine: &mut Machine) {
    let _ = (machine.kick(RECEIVE).unwrap(), machine.kick(TRANSMIT).unwrap());
    run(machine);
}

fn take(machine: &mut Machine) -> Option<Vec<u8>> {
    machine.take(RECEIVE).unwrap().map(cut)
}

fn sent_back(machine: &mut Machine) -> usize {
    std::iter::from_fn(|| machine.take(TRANSMIT).unwrap()).count()
}

#[test]
fn packets_come_back_with_their_addresses_exchanged_whatever_their_pieces() {
    for format in FORMATS {
        let mut machine = before_a_mirror(format);
        for len in [14, 60, 64, 1514, 9000] {
            let packet = behind(PLAIN, &frame(PEER, ADDRESS, len));
            let mut back = behind(with_buffers(PLAIN, 1), &frame(ADDRESS, PEER, len));
            back.truncate(HEADER_LEN + len);
            let single: Vec<&[u8]> = packet.chunks(7).take(300).collect();
            let cuts: [&[&[u8]]; 4] = [
                &[&packet],
                &[&packet[..12], &packet[12..]],
                &[&packet[..3], &packet[3..13], &packet[13..]],
                &single,
            ];
            for (cut, room) in cuts.iter().zip([&[9100][..], &[9100], &[12, 9088], &[5, 20, 9100]]) {
                let whole = cut.concat();
                post(&mut machine, room);
                send(&mut machine, cut);
                let expected = if whole == packet { back.clone() } else { continue };
                assert_eq!(take(&mut machine), Some(expected), "{len} bytes in {} pieces", cut.len());
                assert_eq!(sent_back(&mut machine), 1);
            }
            // What a packet cut short has left behind.
            machine = before_a_mirror(format);
        }
    }
}

/// As a driver leaves it that sends what it has received from where that lies.
#[test]
fn a_number_of_buffers_asks_for_nothing() {
    let mut machine = before_a_mirror(BARE);
    post(&mut machine, &[100]);
    send(&mut machine, &[&behind(with_buffers(PLAIN, 7), &frame(PEER, ADDRESS, 60))]);
    assert_eq!(take(&mut machine), Some(behind(with_buffers(PLAIN, 1), &frame(ADDRESS, PEER, 60))));
}

#[test]
fn packets_wait_for_buffers_in_order() {
    for format in FORMATS {
        for features in [Features::NONE, MRG_RXBUF] {
            let mut machine = before_a_mirror(format | features);
            let packet = |number: u8| behind(PLAIN, &[&frame(PEER, ADDRESS, 60)[..], &[number]].concat());
            for number in 0..150 {
                machine.submit(TRANSMIT, &[&packet(number)], &[]).unwrap();
            }
            let _ = machine.kick(TRANSMIT).unwrap();
            run(&mut machine);
            assert_eq!(sent_back(&mut machine), 0);
            for number in 0..150 {
                post(&mut machine, &[100]);
                let got = take(&mut machine).unwrap();
                assert_eq!((got.len(), got.last()), (73, Some(&number)));
            }
            assert_eq!(sent_back(&mut machine), 150);
            assert_eq!(dropped(&mut machine), (0, 0));
        }
    }
}

/// More than a turn takes: the mirror goes on by itself, and where a buffer lacks, by its kick alone.
#[test]
fn packets_in_several_buffers_come_back_as_far_as_there_are_buffers() {
    const PACKETS: usize = 40;
    for format in FORMATS {
        let mut machine = before_a_mirror(format | MRG_RXBUF);
        let packet = behind(PLAIN, &frame(PEER, ADDRESS, 500));
        for _ in 0..PACKETS {
            machine.submit(TRANSMIT, &[&packet], &[]).unwrap();
        }
        for _ in 0..3 * PACKETS - 1 {
            machine.submit(RECEIVE, &[], &[200]).unwrap();
        }
        start(&mut machine);
        assert_eq!(std::iter::from_fn(|| take(&mut machine)).count(), 3 * (PACKETS - 1));
        post(&mut machine, &[200]);
        assert_eq!(std::iter::from_fn(|| take(&mut machine)).count(), 3, "the last one waited for it");
        assert_eq!(sent_back(&mut machine), PACKETS);
    }
}

/// How often the mirror was woken, by either queue.
fn wakes(machine: &mut Machine) -> u64 {
    let backend = machine.endpoint.backend_mut();
    [RECEIVE, TRANSMIT].iter().map(|q| backend.stats(*q).unwrap().wakes).sum()
}

/// While packets wait, only buffers wake the mirror; while buffers do, only packets.
#[test]
fn the_mirror_sleeps_until_what_it_lacks_comes() {
    for format in FORMATS {
        let mut machine = before_a_mirror(format);
        let packet = behind(PLAIN, &frame(PEER, ADDRESS, 60));
        post(&mut machine, &[100]);
        let mut woken = wakes(&mut machine);
        post(&mut machine, &[100]);
        assert_eq!(wakes(&mut machine), woken, "it has a buffer already");
        for _ in 0..4 {
            machine.submit(TRANSMIT, &[&packet], &[]).unwrap();
        }
        let _ = machine.kick(TRANSMIT).unwrap();
        run(&mut machine);
        woken += 1;
        assert_eq!((sent_back(&mut machine), wakes(&mut machine)), (2, woken));
        send(&mut machine, &[&packet]);
        assert_eq!(wakes(&mut machine), woken, "there is no buffer for it");
        for _ in 0..3 {
            machine.submit(RECEIVE, &[], &[100]).unwrap();
        }
        let _ = machine.kick(RECEIVE).unwrap();
        run(&mut machine);
        assert_eq!((sent_back(&mut machine), wakes(&mut machine)), (3, woken + 1));
    }
}

/// Bad packets take no buffers: what is behind them is looked for without another kick.
#[test]
fn packets_behind_bad_ones_are_found() {
    for format in FORMATS {
        let mut machine = before_a_mirror(format);
        machine.submit(RECEIVE, &[], &[100]).unwrap();
        for _ in 0..20 {
            machine.submit(TRANSMIT, &[&[0; HEADER_LEN]], &[]).unwrap();
        }
        machine.submit(TRANSMIT, &[&behind(PLAIN, &frame(PEER, ADDRESS, 60))], &[]).unwrap();
        start(&mut machine);
        assert_eq!(take(&mut machine).map(|back| back.len()), Some(HEADER_LEN + 60));
        assert_eq!(sent_back(&mut machine), 21);
    }
}

/// Every fifth packet takes more care than a copy: with some of them bad, the others keep their order.
#[test]
fn packets_of_one_wake_keep_their_order_whatever_care_they_take() {
    const COUNT: u8 = 70;
    for format in FORMATS {
        let mut machine = before_a_mirror(format);
        let packet = |number: u8| behind(PLAIN, &frame(PEER, ADDRESS, 60 + usize::from(number)));
        for number in 0..COUNT {
            machine.submit(RECEIVE, &[], &[200]).unwrap();
            let packet = packet(number);
            match number % 5 {
                3 => machine.submit(TRANSMIT, &[&packet[..20], &packet[20..]], &[]).unwrap(),
                4 => machine.submit(TRANSMIT, &[&packet[..HEADER_LEN]], &[]).unwrap(),
                _ => machine.submit(TRANSMIT, &[&packet], &[]).unwrap(),
            };
        }
        start(&mut machine);
        for number in (0..COUNT).filter(|number| number % 5 != 4) {
            let len = HEADER_LEN + 60 + usize::from(number);
            assert_eq!(take(&mut machine).map(|back| back.len()), Some(len), "{number}");
        }
        assert_eq!((take(&mut machine), sent_back(&mut machine)), (None, usize::from(COUNT)));
    }
}

#[test]
fn a_packet_takes_several_buffers_where_that_was_negotiated() {
    for format in FORMATS {
        let mut machine = before_a_mirror(format | MRG_RXBUF);
        let back = behind(with_buffers(PLAIN, 3), &frame(ADDRESS, PEER, 500));
        send(&mut machine, &[&behind(PLAIN, &frame(PEER, ADDRESS, 500))]);
        for _ in 0..3 {
            assert_eq!(take(&mut machine), None);
            post(&mut machine, &[200]);
        }
        let parts: Vec<_> = std::iter::from_fn(|| take(&mut machine)).collect();
        assert_eq!((parts.len(), parts.concat()), (3, back));
        let mut single = before_a_mirror(format);
        post(&mut single, &[200]);
        send(&mut single, &[&behind(PLAIN, &frame(PEER, ADDRESS, 500))]);
        assert_eq!(take(&mut single), Some(Vec::new()));
        assert_eq!((dropped(&mut single), sent_back(&mut single)), ((0, 1), 1));
    }
}

#[test]
fn what_a_packet_asks_for_comes_back_to_a_driver_that_takes_it() {
    let packet = frame(PEER, ADDRESS, 3000);
    let header = to_segment(GSO_TCPV4, 1400, 54);
    let mut machine = before_a_mirror(CSUM | HOST_TSO4 | GUEST_CSUM | GUEST_TSO4);
    post(&mut machine, &[4000]);
    send(&mut machine, &[&behind(header, &packet)]);
    assert_eq!(take(&mut machine), Some(behind(with_buffers(header, 1), &frame(ADDRESS, PEER, 3000))));
    let mut machine = before_a_mirror(CSUM | HOST_TSO4);
    post(&mut machine, &[4000]);
    send(&mut machine, &[&behind(header, &packet)]);
    assert_eq!((take(&mut machine), dropped(&mut machine)), (None, (1, 0)));
    send(&mut machine, &[&behind(PLAIN, &packet)]);
    assert!(take(&mut machine).is_some(), "its buffer was kept for the next packet");
}

#[test]
fn row29_bad_packets_and_buffers_stop_nothing() {
    for format in FORMATS {
        let mut machine = before_a_mirror(format | CSUM | GUEST_CSUM);
        let packet = frame(PEER, ADDRESS, 60);
        post(&mut machine, &[3]);
        post(&mut machine, &[100]);
        for bad in [behind(to_complete(59, 1), &packet), behind(PLAIN, &packet[..13]), vec![0; 3]] {
            send(&mut machine, &[&bad]);
        }
        assert_eq!((take(&mut machine), take(&mut machine)), (Some(Vec::new()), None));
        send(&mut machine, &[&behind(PLAIN, &packet)]);
        assert_eq!(take(&mut machine).map(|packet| packet.len()), Some(72));
        assert_eq!((sent_back(&mut machine), dropped(&mut machine)), (4, (3, 0)));
        healthy(&machine);
    }
}

#[test]
fn queues_stop_and_give_back_what_is_held() {
    let mut machine = before_a_mirror(MRG_RXBUF);
    for _ in 0..5 {
        send(&mut machine, &[&behind(PLAIN, &frame(PEER, ADDRESS, 500))]);
    }
    let backend = machine.endpoint.backend_mut();
    let stopped = backend.stop_queue(TRANSMIT).unwrap().unwrap();
    assert_eq!((stopped.available.index, dropped(&mut machine)), (0, (0, 0)), "all are in the queue still");
    let mut machine = before_a_mirror(MRG_RXBUF);
    post(&mut machine, &[200]);
    send(&mut machine, &[&behind(PLAIN, &frame(PEER, ADDRESS, 500))]);
    let backend = machine.endpoint.backend_mut();
    assert!(backend.stop_queue(RECEIVE).unwrap().is_some());
    assert_eq!(take(&mut machine), Some(Vec::new()));
}
