//! The network card through the conformance tests, and the driver of network cards against it.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::{read, write};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use vioduct_loopback::failure::same;
use vioduct_loopback::{Depth, Machine, Outcome, Rig, conformance};
use vioduct_net::{Address, Link, Net, Port, Reflect, Setup, Sockets};
use vioduct_spec::Features;
use vioduct_spec::net::*;
use vioduct_virtio_driver::net::{Header, Plan, Switch};
use vioduct_virtio_driver::{Net as Driver, Options};

const DEPTHS: [Depth; 4] = [Depth::Verbs, Depth::Mmio, Depth::Pci, Depth::VhostUser];
const FORMATS: [Features; 2] = [Features::NONE, Features::RING_PACKED];
const SETUP: Setup = Setup { address: Address([2, 0, 0, 0, 0, 1]), pairs: 1, mtu_bytes: Some(1500) };
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// Packets that wait for the driver: more than a test takes between two exercises.
const AHEAD: u32 = 100;
const FRAME_LEN: usize = 60;

fn cable() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
}

fn card(setup: Setup) -> (Net, Vec<OwnedFd>) {
    let (ours, theirs) = (0..setup.pairs).map(|_| cable()).unzip();
    (Net::new(Arc::new(Sockets::new(ours).unwrap()), setup).unwrap(), theirs)
}

/// A packet with a number in it, behind a header that asks for nothing.
fn numbered(number: u32) -> Vec<u8> {
    let mut packet = vec![0; HEADER_LEN + FRAME_LEN];
    packet[HEADER_LEN..HEADER_LEN + 6].copy_from_slice(&SETUP.address.0);
    packet[HEADER_LEN + 6..HEADER_LEN + 12].copy_from_slice(&PEER);
    packet[HEADER_LEN + 20..HEADER_LEN + 24].copy_from_slice(&number.to_le_bytes());
    packet
}

/// Whoever is at the other end of the cable.
struct Peer {
    cable: OwnedFd,
    /// The number of the next packet to the driver.
    next: u32,
    /// The number of the last that it got.
    last: Option<u32>,
}

impl Peer {
    fn send(&mut self, count: u32) {
        for _ in 0..count {
            write(&self.cable, &numbered(self.next)).unwrap();
            self.next += 1;
        }
    }
}

thread_local! {
    /// The peer of the card that this thread has made last.
    static PEER_OF_LAST: RefCell<Option<Peer>> = const { RefCell::new(None) };
}

/// Always has a packet for a buffer in the receive queue: it is answered, whatever it is.
fn in_use() -> Box<Net> {
    let (net, mut theirs) = card(SETUP);
    let mut peer = Peer { cable: theirs.remove(0), next: 0, last: None };
    peer.send(AHEAD);
    PEER_OF_LAST.with_borrow_mut(|last| *last = Some(peer));
    Box::new(net)
}

/// Whatever has been done to the device before, no packet comes twice or out of order.
fn receive_and_send(rig: &mut Rig) -> Outcome {
    const LEN: u32 = (HEADER_LEN + FRAME_LEN) as u32;
    let came = rig.request(receive_queue(0), &[], &[HEADER_LEN as u32, 20, 1600])?;
    same("bytes received", came.written, LEN)?;
    let sent = numbered(77);
    rig.request(transmit_queue(0), &[&sent[..12], &sent[12..30], &sent[30..]], &[])?;
    PEER_OF_LAST.with_borrow_mut(|peer| {
        let peer = peer.as_mut().unwrap();
        let number = u32::from_le_bytes(came.bytes[HEADER_LEN + 20..HEADER_LEN + 24].try_into().unwrap());
        same("a packet that came before", peer.last.is_some_and(|last| last >= number), false)?;
        let mut expected = numbered(number);
        expected[HEADER_NUM_BUFFERS] = 1;
        same("the packet", &came.bytes[..LEN as usize], &expected[..])?;
        let taken = number - peer.last.map_or(0, |last| last + 1) + 1;
        peer.last = Some(number);
        peer.send(taken);
        let mut got = [0; 200];
        let len = read(&peer.cable, &mut got).unwrap();
        same("what was sent", &got[..len], &sent[..])
    })
}

conformance!(net_in_use, || in_use(), receive_and_send);

fn options(format: Features) -> Options {
    let features = Options::default().features.without(Features::RING_PACKED) | format;
    Options { features, ..Options::default() }
}

/// With each set of what both ends know: merging, offloads, several pairs.
#[test]
fn a_driver_uses_all_that_the_device_has() {
    let offloads = CSUM | HOST_TSO4 | GUEST_CSUM | GUEST_TSO4;
    let plan = Plan { pairs: 2, buffer_len: 256, offloads, ..Plan::default() };
    for (depth, format) in DEPTHS.into_iter().flat_map(|depth| FORMATS.map(|format| (depth, format))) {
        let (model, theirs) = card(Setup { pairs: 2, ..SETUP });
        let cable = model.cable();
        let machine = Machine::new(16 << 20).unwrap();
        let device = machine.attach(model, depth, Features(u64::MAX)).unwrap();
        let transport = device.transport().unwrap();
        let mut driver = Driver::new(transport, &machine.dma(), &options(format), &plan).unwrap();
        assert_eq!((driver.address(), driver.mtu_bytes()), (Some(SETUP.address.0), Some(1500)), "{depth}");
        assert_eq!(driver.pair_count(), 2);
        let mut wait = device.wait();
        driver.set_pairs(2, &mut wait).unwrap();
        driver.set_address([2, 0, 0, 0, 0, 3], &mut wait).unwrap();
        driver.switch_off(Switch::Promiscuous, &mut wait).unwrap();
        driver.set_tables(&[SETUP.address.0], &[], &mut wait).unwrap();
        driver.add_vlan(5, &mut wait).unwrap();
        driver.remove_vlan(5, &mut wait).unwrap();
        driver.set_offloads(GUEST_CSUM, &mut wait).unwrap();
        for (pair, theirs) in (0..2).zip(&theirs) {
            // A packet in several buffers, and one whose checksum is left to the driver.
            let mut long = numbered(u32::from(pair));
            long.resize(HEADER_LEN + 900, 7);
            let mut partial = numbered(9);
            partial[..HEADER_LEN].copy_from_slice(&[1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0]);
            write(theirs, &long).unwrap();
            write(theirs, &partial).unwrap();
            device.run();
            for expected in [&long, &partial] {
                let packet = driver.receive(pair).unwrap().unwrap();
                let mut frame = vec![0; packet.len()];
                assert_eq!(driver.read(pair, &packet, 0, &mut frame), Ok(expected.len() - HEADER_LEN));
                assert!(frame == expected[HEADER_LEN..], "{depth}");
                assert_eq!(packet.header().flags, expected[0]);
                driver.forward(pair, packet).unwrap();
            }
            let header = Header { flags: 1, csum_start: 34, csum_offset: 16, ..Header::default() };
            driver.send(pair, &header, &partial[HEADER_LEN..]).unwrap();
            driver.kick(pair).unwrap();
            device.run();
            // What was forwarded is complete, and asks for nothing.
            let plain = [&[0; HEADER_LEN], &partial[HEADER_LEN..]].concat();
            for expected in [&long, &plain, &partial] {
                let mut got = vec![0; 1000];
                let len = read(theirs, &mut got).unwrap();
                assert!(got[..len] == expected[..], "{depth}");
            }
        }
        cable.set_link(Link::Down);
        device.run();
        assert!(driver.service().unwrap().config_changed && !driver.link().unwrap().up, "{depth}");
    }
}

#[test]
fn every_packet_comes_back_from_a_mirror_once() {
    const COUNT: u32 = 2000;
    for (depth, format) in DEPTHS.into_iter().flat_map(|depth| FORMATS.map(|format| (depth, format))) {
        for without in [Features::NONE, MRG_RXBUF, CTRL_VQ | CTRL_RX_MODE | CTRL_RX_EXTRA] {
            let mirror: Arc<dyn Port> = Arc::new(Reflect);
            let model = Net::new(mirror, SETUP).unwrap();
            let machine = Machine::new(16 << 20).unwrap();
            let device = machine.attach_workers(model, depth, Features(u64::MAX)).unwrap();
            let transport = device.transport().unwrap();
            let plan = Plan { without, ..Plan::default() };
            let mut driver = Driver::new(transport, &machine.dma(), &options(format), &plan).unwrap();
            let mut wait = device.wait();
            let (mut sent, mut back) = (0, 0);
            while back < COUNT {
                while sent < COUNT.min(back + 100)
                    && driver.send(0, &Header::default(), &numbered(sent)[HEADER_LEN..]).is_ok()
                {
                    sent += 1;
                }
                driver.kick(0).unwrap();
                let Some(packet) = driver.receive(0).unwrap() else {
                    assert!(wait().is_continue(), "{depth}: {back} packets, and then none");
                    driver.service().unwrap();
                    continue;
                };
                let mut frame = [0; FRAME_LEN];
                driver.read(0, &packet, 0, &mut frame).unwrap();
                let mut expected = numbered(back)[HEADER_LEN..].to_vec();
                expected[..12].rotate_left(6);
                assert!(frame == expected[..], "{depth}: packet {back}");
                driver.release(0, packet).unwrap();
                back += 1;
            }
        }
    }
}
