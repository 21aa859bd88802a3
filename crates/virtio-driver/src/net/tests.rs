use super::{BUFFER_LEN, Header, Link, Net, Plan, Switch};
use crate::error::RequestError;
use crate::fakes::{Call, FakeTransport, TestMemory};
use crate::request_queue::Options;
use core::ops::ControlFlow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;
use vioduct_spec::net::*;
use vioduct_spec::ring::split::{USED_ELEMENT_SIZE, USED_IDX, USED_RING};
use vioduct_spec::{Features, device_type};
use vioduct_virtqueue::{Chain, IoAddr, Memory, Queue, QueueError, QueuePosition};

type Shared = Arc<TestMemory>;
type TestNet = Net<FakeTransport, Shared>;

fn net(features: Features, queue_size: u16, plan: &Plan) -> (TestNet, Shared) {
    let mut transport = FakeTransport::new(features | Features::VERSION_1);
    transport.device_type = device_type::NET;
    transport.config = vec![2, 0, 0, 0, 0, 5, 1, 0, 0xff, 0xff, 0x28, 0x23];
    transport.generations = [0].into();
    let memory = TestMemory::new();
    let options = Options { queue_size, ..Options::default() };
    (Net::new(transport, &memory, &options, plan).unwrap(), memory)
}

/// The device end of a queue of the first pair.
fn receiving(net: &mut TestNet, memory: &Shared) -> Queue {
    let (layout, negotiated) = (net.pairs[0].receive_layout(), net.device().negotiated());
    Queue::new(memory.clone(), layout, negotiated, QueuePosition::START).unwrap()
}

fn sending(net: &mut TestNet, memory: &Shared) -> Queue {
    let (layout, negotiated) = (net.pairs[0].transmit_layout(), net.device().negotiated());
    Queue::new(memory.clone(), layout, negotiated, QueuePosition::START).unwrap()
}

fn fill(queue: &mut Queue, data: &[u8], written: u32) {
    let chain = queue.pop().unwrap().unwrap();
    assert_eq!(chain.readable_len(), 0);
    chain.writer().write_all(data).unwrap();
    chain.mark_written(written.into());
    queue.complete(chain, written).unwrap();
    _ = queue.publish().unwrap();
}

/// What was sent in the next buffer.
fn sent(queue: &mut Queue) -> Option<Vec<u8>> {
    let chain = queue.pop().unwrap()?;
    let mut bytes = vec![0; chain.readable_len() as usize];
    chain.reader().read_exact(&mut bytes).unwrap();
    queue.complete(chain, 0).unwrap();
    _ = queue.publish().unwrap();
    Some(bytes)
}

fn behind(num_buffers: u16, frame: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_LEN];
    bytes[HEADER_NUM_BUFFERS..].copy_from_slice(&num_buffers.to_le_bytes());
    bytes.extend_from_slice(frame);
    bytes
}

/// Length of small buffers, of which a packet needs several, and the packet.
const SMALL: u32 = HEADER_LEN as u32 + 9;
const LONG_FRAME: &[u8] = b"a packet that is in three of the small buffers";

fn small_buffers() -> Plan {
    Plan { buffer_len: SMALL, ..Plan::default() }
}

/// virtio 1.3 §5.1.6.4.1: all buffers of a packet but the last are filled.
fn fill_several(queue: &mut Queue, frame: &[u8]) {
    let (first, rest) = frame.split_at(SMALL as usize - HEADER_LEN);
    let pieces = rest.chunks(SMALL as usize);
    fill(queue, &behind(1 + pieces.len() as u16, first), SMALL);
    pieces.for_each(|piece| fill(queue, piece, piece.len() as u32));
}

fn read(net: &mut TestNet, packet: &super::Received) -> Vec<u8> {
    let mut out = vec![0; 4000];
    let len = net.read(0, packet, 0, &mut out).unwrap();
    out.truncate(len);
    out
}

#[test]
fn s5_1_6_packets_are_received_read_and_forwarded() {
    for format in [Features::NONE, Features::RING_PACKED] {
        let (mut net, memory) = net(format, 4, &Plan::default());
        let (mut from, mut to) = (receiving(&mut net, &memory), sending(&mut net, &memory));
        for round in 0..20u8 {
            assert_eq!(net.receive(0), Ok(None));
            fill(&mut from, &behind(1, &[round; 60]), 72);
            let packet = net.receive(0).unwrap().unwrap();
            assert_eq!((packet.len(), packet.header()), (60, Header::default()));
            assert_eq!(read(&mut net, &packet), [round; 60]);
            let mut middle = [0; 9];
            assert_eq!(net.read(0, &packet, 55, &mut middle), Ok(5));
            net.overwrite(0, &packet, b"abc").unwrap();
            assert_eq!(net.overwrite(0, &packet, &[0; 61]), Err(RequestError::TooLong { len: 61, slot: 60 }));
            net.forward(0, packet).unwrap();
            net.kick(0).unwrap();
            let expected = [&b"abc"[..], &[round; 57]].concat();
            assert_eq!(sent(&mut to), Some(behind(0, &expected)));
        }
    }
}

#[test]
fn s5_1_6_2_a_packet_is_sent_behind_its_header() {
    let (mut net, memory) = net(CSUM | HOST_TSO4, 4, &Plan { offloads: CSUM, ..Plan::default() });
    assert!(net.device().negotiated().contains(CSUM) && !net.device().negotiated().contains(HOST_TSO4));
    let mut to = sending(&mut net, &memory);
    let header = Header { flags: HDR_F_NEEDS_CSUM, csum_start: 34, csum_offset: 16, ..Header::default() };
    net.send(0, &header, b"a packet").unwrap();
    net.kick(0).unwrap();
    let bytes = sent(&mut to).unwrap();
    assert_eq!(bytes, b"\x01\0\0\0\0\0\x22\0\x10\0\0\0a packet");
    let long = vec![0; BUFFER_LEN as usize];
    let len = HEADER_LEN + long.len();
    assert_eq!(net.send(0, &header, &long), Err(RequestError::TooLong { len, slot: BUFFER_LEN as usize }));
    // The ring is full before the buffers are used up, and all come back.
    net.kick(0).unwrap();
    for _ in 0..4 {
        net.send(0, &header, b"more").unwrap();
    }
    assert_eq!((net.send(0, &header, b"too many"), net.sending(0)), (Err(RequestError::Full), Ok(4)));
    net.kick(0).unwrap();
    while sent(&mut to).is_some() {}
    net.kick(0).unwrap();
    assert_eq!(net.sending(0), Ok(0));
    net.send(0, &header, b"again").unwrap();
}

/// Buffers whose packets have gone are collected when there are no others: whatever the program holds, and however seldom it kicks.
#[test]
fn a_queue_is_full_only_while_the_device_has_it() {
    // With 4 held the queue to send runs out, with 2 the buffers.
    for (format, holds) in
        [(Features::NONE, 4), (Features::NONE, 2), (Features::RING_PACKED, 4), (Features::RING_PACKED, 2)]
    {
        let (mut net, memory) = net(format, 4, &Plan::default());
        let (mut from, mut to) = (receiving(&mut net, &memory), sending(&mut net, &memory));
        for number in 0..holds {
            fill(&mut from, &behind(1, &[number; 60]), 72);
        }
        let held: Vec<_> = core::iter::from_fn(|| net.receive(0).unwrap()).collect();
        assert_eq!(held.len(), usize::from(holds));
        if holds == 2 {
            net.kick(0).unwrap();
        }
        for _ in 0..10 {
            let mut count = 0;
            while net.send(0, &Header::default(), b"a packet").is_ok() {
                count += 1;
            }
            assert!(count > 0, "{format}, {holds} held");
            net.kick(0).unwrap();
            while sent(&mut to).is_some() {}
        }
        for packet in held {
            net.forward(0, packet).unwrap();
            net.kick(0).unwrap();
            assert!(sent(&mut to).is_some());
        }
        assert_eq!(net.sending(0), Ok(0));
    }
}

/// However many the program holds, and although there is room to send.
#[test]
fn buffers_that_have_gone_are_collected_when_the_device_lacks_some_to_fill() {
    const HELD: usize = 100;
    const BATCH: usize = 64;
    let (mut net, memory) = net(Features::NONE, 256, &Plan { buffer_len: 100, ..Plan::default() });
    let (mut from, mut to) = (receiving(&mut net, &memory), sending(&mut net, &memory));
    let mut receive = |net: &mut TestNet, count| -> Vec<_> {
        (0..count).for_each(|_| fill(&mut from, &behind(1, &[7; 60]), 72));
        core::iter::from_fn(|| net.receive(0).unwrap()).collect()
    };
    let held = receive(&mut net, HELD);
    assert_eq!(held.len(), HELD);
    net.kick(0).unwrap();
    for _ in 0..10 {
        for packet in receive(&mut net, BATCH) {
            net.forward(0, packet).unwrap();
        }
        net.kick(0).unwrap();
        assert_eq!(net.pairs[0].lacking(), 0, "the device has all the buffers to fill that its queue takes");
        while sent(&mut to).is_some() {}
    }
}

#[test]
fn the_device_is_shown_buffers_to_fill_once_it_lacks_a_quarter_of_them() {
    let (mut net, memory) = net(Features::NONE, 16, &Plan::default());
    let mut from = receiving(&mut net, &memory);
    for round in 0..20 {
        for lacking in [1, 2, 3, 0] {
            fill(&mut from, &behind(1, b"a packet"), 20);
            let packet = net.receive(0).unwrap().unwrap();
            net.release(0, packet).unwrap();
            net.kick(0).unwrap();
            assert_eq!(net.pairs[0].lacking(), lacking, "round {round}");
        }
    }
}

/// A device may wait for as many buffers as the longest packet needs.
#[test]
fn s5_1_6_3_1_of_merged_buffers_the_longest_packet_has_enough() {
    for (buffer_len, kept) in [(8192, 12), (6000, 12), (5000, 14), (4600, 15), (1664, 15)] {
        let (mut net, memory) = net(MRG_RXBUF, 16, &Plan { buffer_len, ..Plan::default() });
        let mut from = receiving(&mut net, &memory);
        let mut most = 0;
        for _ in 0..40 {
            fill(&mut from, &behind(1, b"a packet"), 20);
            let packet = net.receive(0).unwrap().unwrap();
            net.release(0, packet).unwrap();
            most = most.max(net.pairs[0].lacking());
            net.kick(0).unwrap();
        }
        assert_eq!(16 - most, kept, "buffers of {buffer_len} bytes");
    }
}

#[test]
fn what_is_at_hand_ends_with_a_line_of_descriptors() {
    let (mut net, memory) = net(Features::RING_PACKED, 256, &Plan::default());
    let mut from = receiving(&mut net, &memory);
    assert_eq!(net.at_hand(0), Ok(0));
    // Two come alone, in the middle of a line.
    (0..2).for_each(|_| fill(&mut from, &behind(1, b"a packet"), 20));
    assert_eq!(net.at_hand(0), Ok(2));
    let early: Vec<_> = (0..2).map(|_| net.receive(0).unwrap().unwrap()).collect();
    (0..100).for_each(|_| fill(&mut from, &behind(1, b"a packet"), 20));
    let take = |net: &mut TestNet| {
        let count = net.at_hand(0).unwrap();
        for _ in 0..count {
            let packet = net.receive(0).unwrap().unwrap();
            net.release(0, packet).unwrap();
        }
        count
    };
    assert_eq!([0; 5].map(|_| take(&mut net)), [30, 32, 32, 6, 0]);
    early.into_iter().for_each(|packet| net.release(0, packet).unwrap());
}

#[test]
fn s5_1_6_4_a_packet_may_be_in_several_buffers() {
    let (mut net, memory) = net(MRG_RXBUF, 8, &small_buffers());
    let (mut from, mut to) = (receiving(&mut net, &memory), sending(&mut net, &memory));
    fill_several(&mut from, LONG_FRAME);
    let packet = net.receive(0).unwrap().unwrap();
    assert_eq!((packet.len(), read(&mut net, &packet)), (LONG_FRAME.len(), LONG_FRAME.to_vec()));
    let mut part = [0; 6];
    assert_eq!(net.read(0, &packet, 7, &mut part), Ok(6));
    assert_eq!(part, LONG_FRAME[7..13]);
    net.forward(0, packet).unwrap();
    net.kick(0).unwrap();
    assert_eq!(sent(&mut to), Some(behind(0, LONG_FRAME)));
}

/// virtio 1.3 §5.1.6.4.1: a packet goes on in another buffer when this one is full, and not before, whatever its header says.
#[test]
fn s5_1_6_4_a_buffer_that_is_not_full_is_a_packet() {
    for (taken, packets) in [(MRG_RXBUF, 2), (MRG_RXBUF | GUEST_CSUM, 1)] {
        let (mut net, memory) = net(taken, 8, &Plan { offloads: GUEST_CSUM, ..small_buffers() });
        let mut from = receiving(&mut net, &memory);
        fill(&mut from, &behind(2, b"one"), SMALL - 6);
        fill(&mut from, &behind(1, b"two"), SMALL - 6);
        let count = core::iter::from_fn(|| net.receive(0).unwrap()).count();
        assert_eq!(count, packets, "where a header is looked at anyway, it is believed");
    }
}

/// virtio 1.3 §5.1.6.4.1: flags and segment sizes belong to offloads, and none was taken.
#[test]
fn s5_1_6_4_a_header_says_nothing_without_what_gives_it_a_meaning() {
    let said = Header { flags: HDR_F_DATA_VALID, hdr_len: 54, ..Header::default() };
    for (taken, heard) in [(Features::NONE, Header::default()), (GUEST_CSUM, said)] {
        let (mut net, memory) = net(taken, 4, &Plan { offloads: GUEST_CSUM, ..Plan::default() });
        let mut from = receiving(&mut net, &memory);
        fill(&mut from, b"\x02\0\x36\0\0\0\0\0\0\0\x01\0a packet", 20);
        let packet = net.receive(0).unwrap().unwrap();
        assert_eq!((packet.header(), read(&mut net, &packet)), (heard, b"a packet".to_vec()), "{taken:?}");
    }
}

/// A buffer of a packet in several is one of its own again, however those went: nothing is read, sent or released with it.
#[test]
fn s5_1_6_4_buffers_part_when_their_packet_has_gone() {
    const ROUNDS: u8 = 12;
    for forwarded in [false, true] {
        let (mut net, memory) = net(MRG_RXBUF, 4, &small_buffers());
        let (mut from, mut to) = (receiving(&mut net, &memory), sending(&mut net, &memory));
        fill_several(&mut from, LONG_FRAME);
        let packet = net.receive(0).unwrap().unwrap();
        if forwarded {
            net.forward(0, packet).unwrap();
            net.kick(0).unwrap();
            assert_eq!(sent(&mut to), Some(behind(0, LONG_FRAME)));
        } else {
            net.release(0, packet).unwrap();
        }
        for round in 0..ROUNDS {
            net.kick(0).unwrap();
            fill(&mut from, &behind(1, &[round; 9]), 21);
            let packet = net.receive(0).unwrap().unwrap();
            assert_eq!(read(&mut net, &packet), [round; 9]);
            net.forward(0, packet).unwrap();
            net.kick(0).unwrap();
            assert_eq!(sent(&mut to), Some(behind(0, &[round; 9])));
        }
        net.kick(0).unwrap();
        let waiting: Vec<_> = core::iter::from_fn(|| from.pop().unwrap()).collect();
        let places: BTreeSet<_> = waiting.iter().map(|chain| chain.writable()[0].addr()).collect();
        assert_eq!((places.len(), waiting.len()), (4, 4), "no buffer is there twice");
        waiting.into_iter().for_each(Chain::discard);
    }
}

#[test]
fn row77_a_number_of_buffers_beyond_those_that_are_there_is_an_error_and_loses_none() {
    let (mut net, memory) = net(MRG_RXBUF, 4, &small_buffers());
    let mut from = receiving(&mut net, &memory);
    for _ in 0..10 {
        fill(&mut from, &behind(0xffff, b"the first"), SMALL);
        assert_eq!(net.receive(0), Err(RequestError::ShortReply { written: 1, wanted: 0xffff }));
        fill(&mut from, &[0; 5], 5);
        fill(&mut from, &behind(0, b"good"), 16);
        let packet = net.receive(0).unwrap().unwrap();
        assert_eq!(packet.len(), 4, "the one without a whole header is skipped");
        net.release(0, packet).unwrap();
        net.kick(0).unwrap();
    }
}

#[test]
fn row78_what_came_before_an_invented_buffer_is_received_before_the_queue_says_so() {
    let (mut net, memory) = net(Features::NONE, 4, &Plan::default());
    let mut from = receiving(&mut net, &memory);
    fill(&mut from, &behind(1, b"one"), 15);
    fill(&mut from, &behind(1, b"two"), 15);
    let used = net.pairs[0].receive_layout().device_area;
    memory
        .write(IoAddr(used.0 + (USED_RING + 2 * USED_ELEMENT_SIZE) as u64), &[99, 0, 0, 0, 15, 0, 0, 0])
        .unwrap();
    memory.write(IoAddr(used.0 + USED_IDX as u64), &[3, 0]).unwrap();
    for expected in [b"one", b"two"] {
        let packet = net.receive(0).unwrap().unwrap();
        assert_eq!(read(&mut net, &packet), expected);
        net.release(0, packet).unwrap();
    }
    let broken = Err(RequestError::Queue(QueueError::BufferId(99)));
    assert_eq!(net.receive(0).map(|_| ()), broken);
    // The other queue works, and its device may sleep.
    net.send(0, &Header::default(), b"a packet").unwrap();
    assert_eq!(net.kick(0), broken);
    assert_eq!(net.device().transport().calls.last(), Some(&Call::Notify(1)));
}

#[test]
fn row76_a_device_that_says_it_wrote_more_than_there_is_room_for_gives_what_there_is() {
    let (mut net, memory) = net(Features::NONE, 4, &Plan { buffer_len: 100, ..Plan::default() });
    let mut from = receiving(&mut net, &memory);
    fill(&mut from, &behind(1, &[7; 88]), u32::MAX);
    let packet = net.receive(0).unwrap().unwrap();
    assert_eq!((packet.len(), read(&mut net, &packet).len()), (88, 88));
    net.release(0, packet).unwrap();
}

#[test]
fn s5_1_4_the_card_describes_itself_where_that_was_negotiated() {
    let (mut with, _memory) = net(MAC | MTU | STATUS_FIELD, 4, &Plan::default());
    assert_eq!((with.address(), with.mtu_bytes()), (Some([2, 0, 0, 0, 0, 5]), Some(9000)));
    assert_eq!(with.link(), Ok(Link { up: true, announce: false }));
    with.device().transport().config[STATUS] = 2;
    assert_eq!(with.link(), Ok(Link { up: false, announce: true }));
    let (mut without, _memory) = net(Features::NONE, 4, &Plan::default());
    assert_eq!((without.address(), without.mtu_bytes()), (None, None));
    assert_eq!(without.link(), Ok(Link { up: true, announce: false }));
    assert_eq!(without.receive(1), Err(RequestError::NoQueue));
}

#[test]
fn commands_need_a_queue_for_them() {
    let (mut net, _memory) = net(Features::NONE, 4, &Plan::default());
    let mut wait = || ControlFlow::Break(());
    assert_eq!(net.switch_on(Switch::Promiscuous, &mut wait), Err(RequestError::Refused));
    assert_eq!(net.set_pairs(2, &mut wait), Err(RequestError::NoQueue));
}
