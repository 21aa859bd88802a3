//! The card in the smallest machine, plugged into sockets that the test holds, into a mirror, or into an interface.

mod commands;
mod hostile;
mod interfaces;
mod reflection;
mod traffic;

use crate::{Address, Link, Net, Port, Setup, Sockets};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use vioduct_spec::net::*;
use vioduct_spec::{Status, device_type};
use vioduct_virtio_device::rig::{Reply, Rig};
use vioduct_virtio_device::{Backend, DeviceModel, Features, Inline, Options};

const FORMATS: [Features; 2] = [Features::NONE, Features::RING_PACKED];
const STEPS: usize = 10_000;
const ADDRESS: Address = Address([0x52, 0x54, 0, 1, 2, 3]);
const PEER: Address = Address([0x52, 0x54, 0, 9, 9, 9]);
const SETUP: Setup = Setup { address: ADDRESS, pairs: 1, mtu_bytes: None };
/// Nothing of it but control.
const BARE: Features = CTRL_VQ;
const ALL: Features = Features(u64::MAX);
const CONTROL: u16 = control_queue(1);
const PLAIN: [u8; HEADER_LEN] = [0; HEADER_LEN];

type Machine = Rig<Inline<Net>>;

/// A card brought up, and the other ends of its cables.
struct Plugged {
    machine: Machine,
    peers: Vec<UnixDatagram>,
}

fn sockets(count: u16) -> (Sockets, Vec<UnixDatagram>) {
    let (ours, theirs): (Vec<_>, Vec<_>) = (0..count).map(|_| UnixDatagram::pair().unwrap()).unzip();
    theirs.iter().for_each(|peer| peer.set_nonblocking(true).unwrap());
    (Sockets::new(ours.into_iter().map(Into::into).collect()).unwrap(), theirs)
}

/// Over the port, with those of `features` that the card has.
fn machine(port: Arc<dyn Port>, setup: Setup, features: Features) -> Machine {
    let net = Net::new(port, setup).unwrap();
    let known = net.info().features | Features::RING_PACKED;
    Rig::new(Inline::new(net), features & known).unwrap()
}

fn plugged(features: Features) -> Plugged {
    let (port, peers) = sockets(1);
    Plugged { machine: machine(Arc::new(port), SETUP, features | BARE), peers }
}

fn run(machine: &mut Machine) {
    let steps = machine.endpoint.backend_mut().run(STEPS);
    assert!(steps < STEPS, "it does not come to rest");
}

fn healthy(machine: &Machine) {
    assert!(!machine.endpoint.status().contains(Status::NEEDS_RESET));
}

fn dropped(machine: &mut Machine) -> (u64, u64) {
    let crate::Dropped { sent, received } = machine.endpoint.backend_mut().model().dropped();
    (sent, received)
}

/// A packet of `len` bytes.
fn frame(to: Address, from: Address, len: usize) -> Vec<u8> {
    let head = to.0.into_iter().chain(from.0).chain([0x88, 0xb5]);
    head.chain((0..).map(|byte| (byte % 251) as u8)).take(len).collect()
}

fn behind(header: [u8; HEADER_LEN], frame: &[u8]) -> Vec<u8> {
    [&header[..], frame].concat()
}

fn with_buffers(mut header: [u8; HEADER_LEN], count: u16) -> [u8; HEADER_LEN] {
    header[HEADER_NUM_BUFFERS..].copy_from_slice(&count.to_le_bytes());
    header
}

/// A header that asks for a checksum.
fn to_complete(start: u16, offset: u16) -> [u8; HEADER_LEN] {
    let mut header = PLAIN;
    header[HEADER_FLAGS] = HDR_F_NEEDS_CSUM;
    header[HEADER_CSUM_START..HEADER_CSUM_START + 2].copy_from_slice(&start.to_le_bytes());
    header[HEADER_CSUM_OFFSET..HEADER_CSUM_OFFSET + 2].copy_from_slice(&offset.to_le_bytes());
    header
}

/// One that asks for segments, too.
fn to_segment(kind: u8, gso_size: u16, hdr_len: u16) -> [u8; HEADER_LEN] {
    let mut header = to_complete(34, 16);
    header[HEADER_GSO_TYPE] = kind;
    header[HEADER_HDR_LEN..HEADER_HDR_LEN + 2].copy_from_slice(&hdr_len.to_le_bytes());
    header[HEADER_GSO_SIZE..HEADER_GSO_SIZE + 2].copy_from_slice(&gso_size.to_le_bytes());
    header
}

impl Plugged {
    fn peer(&self) -> &UnixDatagram {
        &self.peers[0]
    }

    /// Sends a buffer of these pieces; what the peer got of it.
    fn send(&mut self, pieces: &[&[u8]]) -> Option<Vec<u8>> {
        let reply = self.machine.request_in_pieces(transmit_queue(0), pieces, &[]).unwrap();
        assert_eq!(reply.written, 0);
        got(self.peer())
    }

    /// Makes buffers for packets available.
    fn post(&mut self, buffers: &[&[u32]]) {
        for pieces in buffers {
            self.machine.submit(receive_queue(0), &[], pieces).unwrap();
        }
        let _ = self.machine.kick(receive_queue(0)).unwrap();
        run(&mut self.machine);
    }

    /// A buffer that came back, cut to what was written.
    fn take(&mut self) -> Option<Vec<u8>> {
        run(&mut self.machine);
        self.machine.take(receive_queue(0)).unwrap().map(cut)
    }

    fn command(&mut self, class: u8, command: u8, data: &[u8]) -> u8 {
        self.command_in(CONTROL, class, command, data)
    }

    fn command_in(&mut self, queue: u16, class: u8, command: u8, data: &[u8]) -> u8 {
        let reply = self.machine.request_in_pieces(queue, &[&[class, command], data], &[1]).unwrap();
        assert_eq!(reply.written, 1);
        reply.bytes[0]
    }

    fn config(&mut self) -> [u8; CONFIG_LEN] {
        let mut config = [0; CONFIG_LEN];
        self.machine.endpoint.read_config(0, &mut config);
        config
    }

    fn status(&mut self) -> u16 {
        let config = self.config();
        u16::from_le_bytes([config[STATUS], config[STATUS + 1]])
    }
}

fn got(peer: &UnixDatagram) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 80_000];
    let len = peer.recv(&mut bytes).ok()?;
    Some(bytes[..len].to_vec())
}

fn cut(reply: Reply) -> Vec<u8> {
    reply.bytes[..reply.written as usize].to_vec()
}
