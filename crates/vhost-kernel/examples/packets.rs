//! Packets go both ways through vhost in the kernel, which is stopped and started again in between: by a pause, by a reset, and by another
//! device that goes on where the one before stood. Each packet must come once, whole, in order, and behind the header that it is to have.
//!
//! In half of the runs the interface gives no headers, and the kernel makes them (`VHOST_NET_F_VIRTIO_NET_HDR`).
//!
//! There is no guest. This program has the memory and the drivers' ends of the queues; the packets are those of a socket in the network
//! 198.18.61.0/24 (RFC 2544), by an interface of its own. It needs root, `ip`, and `/dev/vhost-net`:
//!
//! `cargo run -p vioduct-vhost-kernel --example packets`
//!
//! This module holds `unsafe` to make an interface without headers, and to ask the kernel for a thread, which no library does.
#![allow(unsafe_code)]

use std::error::Error;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use vioduct_net::Net;
use vioduct_spec::net::MRG_RXBUF;
use vioduct_spec::{Features, Status, vhost};
use vioduct_vhost_kernel::{Framing, KernelBackend, Kind, Service};
use vioduct_virtio_device::rig::Rig;
use vioduct_virtio_device::{Endpoint, EndpointState, Inline, MemoryMap, Options};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type Backend = KernelBackend<Inline<Net>>;

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// virtio 1.3 §5.1.6: in front of each packet; its last field says how many buffers the packet takes.
const HEADER_LEN: usize = 12;
const COUNT_AT: usize = 10;
/// Buffers that are kept in the receive queue.
const BUFFERS: u16 = 96;
const ROUNDS: u32 = 24;
/// Packets each way in a round, and those of them that are sent and made available while the device stands still.
const PACKETS: u32 = 12;
const PACKETS_OF_A_STOP: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(20);

const HOST: Ipv4Addr = Ipv4Addr::new(198, 18, 61, 1);
const GUEST: Ipv4Addr = Ipv4Addr::new(198, 18, 61, 2);
/// Nobody needs to be asked for an address.
const EVERYBODY: Ipv4Addr = Ipv4Addr::new(198, 18, 61, 255);
const GUEST_PORT: u16 = 9;

fn main() -> Outcome {
    threads_of_a_card()?;
    for framing in [Framing::Header, Framing::Bare] {
        for merged in [Features::NONE, MRG_RXBUF] {
            for notified in [Features::NONE, Features::EVENT_IDX] {
                Exchange::new(framing, merged | notified)?.run()?;
            }
        }
    }
    Ok(())
}

/// Each queue of a card has a thread of its own where the kernel's vhost-net makes threads, and both have one where it does not.
fn threads_of_a_card() -> Outcome {
    let (expected, why) = match makes_threads()? {
        true => (2, "for it makes them"),
        false => (1, "for it makes no others"),
    };
    let start = Instant::now();
    while threads()? > 0 {
        // That of the device above has ended, or will.
        if start.elapsed() > PATIENCE {
            return Err("a thread of the kernel's does not end".into());
        }
    }
    let _card = Interface::new(Framing::Header)?.backend(Arc::new(MemoryMap::anonymous(4096)?))?;
    let count = threads()?;
    if count != expected {
        return Err(
            format!("a card has {count} of the kernel's threads in place of {expected}, {why}").into()
        );
    }
    println!("ok: a card has {count} of the kernel's threads, {why}");
    Ok(())
}

/// Whether vhost-net takes `VHOST_NEW_WORKER`.
fn makes_threads() -> Outcome<bool> {
    let node = OwnedFd::from(OpenOptions::new().read(true).write(true).open("/dev/vhost-net")?);
    call(&node, vhost::SET_OWNER.into(), &mut 0)?;
    let mut worker = 0_u32;
    match call(&node, vhost::NEW_WORKER.into(), &mut worker) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// How many threads of the kernel's serve devices of this process.
fn threads() -> Outcome<usize> {
    let mut count = 0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let name = std::fs::read_to_string(thread?.path().join("comm"));
        count += usize::from(name.is_ok_and(|name| name.starts_with("vhost-")));
    }
    Ok(count)
}

/// A card, and the host that it talks with.
struct Exchange {
    card: Rig<Backend>,
    interface: Interface,
    host: UdpSocket,
    features: Features,
    /// Packets of the driver's, those of them whose buffers are used, and those that the host has heard.
    sent: u32,
    used: u32,
    heard: u32,
    /// Packets of the host's, and those that the driver has received.
    told: u32,
    received: u32,
    /// Buffers in the receive queue.
    waiting: u16,
}

/// What becomes of the device in a round.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    GoesOn,
    Pauses,
    Moves,
}

impl Exchange {
    fn new(framing: Framing, features: Features) -> Outcome<Self> {
        let interface = Interface::new(framing)?;
        let host = UdpSocket::bind((HOST, 0))?;
        host.set_broadcast(true)?;
        host.set_nonblocking(true)?;
        let card = Rig::in_reset(interface.backend(Arc::new(MemoryMap::anonymous(4096)?))?)?;
        let (sent, used, heard, told, received) = (0, 0, 0, 0, 0);
        Ok(Self { card, interface, host, features, sent, used, heard, told, received, waiting: 0 })
    }

    /// As one driver and, after a reset, as the next.
    fn run(&mut self) -> Outcome {
        let what = format!("{}, {}", self.interface, self.features);
        let mut stops = 0;
        for _ in 0..2 {
            self.bring_up()?;
            for round in 0..ROUNDS {
                stops += self.round(round).map_err(|error| format!("{what}: {error}"))?;
            }
            self.wait_for_all().map_err(|error| format!("{what}: {error}"))?;
            let _ = self.card.endpoint.write_status(0);
        }
        if self.card.endpoint.backend().service() != Service::Kernel {
            return Err(format!("{what}: the kernel has not served it").into());
        }
        println!("ok: {what}: {} packets each way, {stops} stops, each packet once and whole", self.sent);
        Ok(())
    }

    fn bring_up(&mut self) -> Outcome {
        let memory = self.card.memory.clone();
        self.card.endpoint.backend_mut().share(memory);
        self.card.negotiate(self.features)?;
        self.card.enable_queue(RECEIVE)?;
        self.card.enable_queue(TRANSMIT)?;
        self.waiting = 0;
        self.card.write_status(Status::DRIVER_OK)?;
        Ok(())
    }

    /// Packets each way; how often the device has stopped.
    fn round(&mut self, round: u32) -> Outcome<u32> {
        let turn = [Turn::Pauses, Turn::GoesOn, Turn::Moves][round as usize % 3];
        self.exchange(PACKETS - PACKETS_OF_A_STOP)?;
        // It is at another point of its work each time.
        sleep(Duration::from_micros(u64::from(round) * 40));
        if turn != Turn::GoesOn {
            let state = self.card.endpoint.save();
            self.take()?;
            self.stands_where(&state)?;
            self.exchange(PACKETS_OF_A_STOP)?;
            if turn == Turn::Moves {
                self.move_on(&state)?;
            }
            self.card.endpoint.resume();
        } else {
            self.exchange(PACKETS_OF_A_STOP)?;
        }
        self.take()?;
        Ok(u32::from(turn != Turn::GoesOn))
    }

    /// All that the kernel has taken is used when it stops, and it says so.
    fn stands_where(&mut self, state: &EndpointState) -> Outcome {
        for q in [RECEIVE, TRANSMIT] {
            let queue = state.queues.get(usize::from(q)).ok_or("the queue is not there")?;
            let position = queue.position.ok_or_else(|| format!("queue {q} has failed"))?;
            let used = self.card.queue(q)?.next_used();
            if (position.available, position.used) != (used, used) {
                return Err(format!("queue {q}: the kernel stands at {position:?}, and used {used:?}").into());
            }
        }
        Ok(())
    }

    /// Has another device go on, at a node of its own.
    fn move_on(&mut self, state: &EndpointState) -> Outcome {
        let (memory, notifications) = (self.card.memory.clone(), self.card.notifications.clone());
        let backend = self.interface.backend(memory.clone())?;
        let mut next = Endpoint::new(backend, memory, notifications, Rig::<Backend>::TRANSPORT);
        next.restore(state)?;
        self.card.endpoint = next;
        Ok(())
    }

    /// Sends so many packets each way.
    fn exchange(&mut self, count: u32) -> Outcome {
        self.offer_buffers()?;
        for _ in 0..count {
            let frame = self.frame(self.sent);
            let header = self.interface.header();
            let whole = [&header[..], &frame].concat();
            // A header may be in a piece of its own, in several, or with the packet.
            let (first, second) = [(12, 20), (5, 14), (0, 0)][self.sent as usize % 3];
            let pieces = [&whole[..first], &whole[first..second], &whole[second..]];
            let pieces: Vec<_> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
            self.card.submit(TRANSMIT, &pieces, &[])?;
            self.sent += 1;
            self.host.send_to(&content(self.told), (EVERYBODY, GUEST_PORT))?;
            self.told += 1;
        }
        let _ = self.card.kick(TRANSMIT)?;
        Ok(())
    }

    /// Fills the receive queue up. Where packets are merged, most of them take several buffers.
    fn offer_buffers(&mut self) -> Outcome {
        let pieces: &[u32] = if self.features.contains(MRG_RXBUF) { &[100, 300] } else { &[12, 1600] };
        while self.waiting < BUFFERS {
            self.card.submit(RECEIVE, &[], pieces)?;
            self.waiting += 1;
        }
        let _ = self.card.kick(RECEIVE)?;
        Ok(())
    }

    /// Takes what has come, on either side.
    fn take(&mut self) -> Outcome {
        while self.card.take(TRANSMIT)?.is_some() {
            self.used += 1;
        }
        while let Some(packet) = self.received()? {
            if is_ours(&packet) {
                same(&packet[FRAME_HEAD_LEN..], self.received, "the driver receives")?;
                self.received += 1;
            }
        }
        let mut datagram = [0; 2048];
        loop {
            match self.host.recv(&mut datagram) {
                Ok(len) => same(&datagram[..len], self.heard, "the host hears")?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            self.heard += 1;
        }
    }

    /// The next packet in the receive queue, without its header.
    fn received(&mut self) -> Outcome<Option<Vec<u8>>> {
        let Some(mut first) = self.card.take(RECEIVE)? else { return Ok(None) };
        first.bytes.truncate(first.written as usize);
        let (head, rest) = first.bytes.split_at_checked(HEADER_LEN).ok_or("a packet without a header")?;
        let count = u16::from_le_bytes([head[COUNT_AT], head[COUNT_AT + 1]]);
        // No offload was negotiated: there is nothing else to say.
        if head[..COUNT_AT] != [0; COUNT_AT] || count == 0 {
            return Err(format!("a packet has the header {head:x?}").into());
        }
        let mut packet = rest.to_vec();
        for _ in 1..count {
            let more = self.card.take(RECEIVE)?.ok_or("a packet has fewer buffers than it says")?;
            packet.extend(&more.bytes[..more.written as usize]);
        }
        self.waiting -= count;
        Ok(Some(packet))
    }

    fn wait_for_all(&mut self) -> Outcome {
        let start = Instant::now();
        loop {
            self.take()?;
            let Self { sent, used, heard, told, received, .. } = *self;
            if (used, heard, received) == (sent, sent, told) {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                let sum =
                    format!("of {sent} packets {used} were taken and {heard} came; of {told}, {received}");
                return Err(sum.into());
            }
            sleep(Duration::from_millis(1));
            self.offer_buffers()?;
        }
    }

    /// A packet of the driver's for the host's socket.
    fn frame(&self, number: u32) -> Vec<u8> {
        let SocketAddr::V4(to) = self.host.local_addr().unwrap_or_else(|_| (HOST, 0).into()) else {
            return Vec::new();
        };
        let data = content(number);
        let udp_len = (data.len() + 8) as u16;
        let [a, b, c, d] = GUEST.octets();
        let mut ip = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, a, b, c, d, 0, 0, 0, 0];
        ip[2..4].copy_from_slice(&(udp_len + 20).to_be_bytes());
        ip[16..].copy_from_slice(&to.ip().octets());
        let checksum = checksum(&ip);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        let ethernet = [[0xff; 6], [2, 0, 0, 0, 0, 2]].concat();
        // A checksum of zero is none.
        let udp = [GUEST_PORT, to.port(), udp_len, 0].map(u16::to_be_bytes).concat();
        [&ethernet[..], &[8, 0], &ip, &udp, &data].concat()
    }
}

/// Of Ethernet, IPv4 and UDP.
const FRAME_HEAD_LEN: usize = 14 + 20 + 8;

/// Whether a packet is one of the host's socket's: its system has others to send.
fn is_ours(packet: &[u8]) -> bool {
    packet.len() > FRAME_HEAD_LEN
        && packet[12..14] == [8, 0]
        && packet[14] == 0x45
        && packet[23] == 17
        && packet[36..38] == GUEST_PORT.to_be_bytes()
}

/// What a packet carries: its number, and bytes of its own, of another length than the last one's.
fn content(number: u32) -> Vec<u8> {
    let len = 4 + number as usize * 397 % 1400;
    let bytes = (0..len).map(|at| (at as u32).wrapping_mul(0x9e37_79b9).wrapping_add(number * 0x0101) as u8);
    let mut content: Vec<u8> = bytes.collect();
    content[..4].copy_from_slice(&number.to_be_bytes());
    content
}

fn same(data: &[u8], number: u32, who: &str) -> Outcome {
    let expected = content(number);
    if data == expected {
        return Ok(());
    }
    let found = data.first_chunk().map(|number| u32::from_be_bytes(*number));
    let (len, wanted) = (data.len(), expected.len());
    Err(format!("{who} packet {found:?} of {len} bytes in place of {number}, of {wanted}, or other bytes")
        .into())
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// A TAP interface with the host's address, which goes when this does.
struct Interface {
    tap: OwnedFd,
    framing: Framing,
}

impl Interface {
    fn new(framing: Framing) -> Outcome<Self> {
        let mut options = OpenOptions::new();
        let tap = options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
        let tap = OwnedFd::from(tap);
        // SAFETY: all zeroes is a request about an interface without a name: it is made of arrays and numbers.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        let headers = if framing == Framing::Header { libc::IFF_VNET_HDR } else { 0 };
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | headers) as libc::c_short;
        call(&tap, libc::TUNSETIFF, &mut request)?;
        if framing == Framing::Header {
            call(&tap, libc::TUNSETVNETHDRSZ, &mut (HEADER_LEN as libc::c_int))?;
        }
        let name = request.ifr_name.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0);
        let name = String::from_utf8(name.collect())?;
        let address = format!("{HOST}/24");
        ip(&["address", "add", &address, "broadcast", "+", "dev", &name])?;
        ip(&["link", "set", &name, "up"])?;
        Ok(Self { tap, framing })
    }

    /// A card that the kernel serves with it, as long as nothing is refused. What a card of ours has beside queues does not matter.
    fn backend(&self, memory: Arc<MemoryMap>) -> Outcome<Backend> {
        let card = Inline::new(Net::from_options(&Options::parse("net,port=reflect")?)?);
        let kind = Kind::Net { taps: vec![self.tap.try_clone()?], framing: self.framing };
        Ok(KernelBackend::of_the_kernels_alone(card, kind, memory)?)
    }

    /// What the driver puts in front of a packet. What the interface does not take, nobody looks at.
    fn header(&self) -> [u8; HEADER_LEN] {
        match self.framing {
            Framing::Header => [0; HEADER_LEN],
            Framing::Bare => [0xff; HEADER_LEN],
        }
    }
}

impl std::fmt::Display for Interface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.framing {
            Framing::Header => "the interface's headers",
            Framing::Bare => "the kernel's headers",
        })
    }
}

fn ip(words: &[&str]) -> Outcome {
    match Command::new("ip").args(words).status()?.success() {
        true => Ok(()),
        false => Err(format!("ip {} has failed", words.join(" ")).into()),
    }
}

fn call<T>(fd: &OwnedFd, number: libc::c_ulong, argument: &mut T) -> io::Result<()> {
    // SAFETY: the calls above read and write no more than their argument (`linux/if_tun.h`, `linux/vhost.h`), and not after their return.
    match unsafe { libc::ioctl(fd.as_raw_fd(), number, std::ptr::from_mut(argument)) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
