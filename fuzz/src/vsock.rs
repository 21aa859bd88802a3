//! The socket device, whose driver says anything in its packets, with host programs that come, speak, listen, and go in between.
//!
//! The bytes: a byte of options, which are [`input::features`] and [`PACKED`], and then steps. A step is a code, modulo the number of
//! codes, and its arguments.

use crate::input::{self, Input};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use vioduct_spec::vsock::{
    EVENT_QUEUE, HEADER_LEN, HOST_CID, Header, OP_CREDIT_REQUEST, OP_REQUEST, OP_RW, QUEUES, RECEIVE_QUEUE,
    TRANSMIT_QUEUE, TYPE_STREAM,
};
use vioduct_spec::{Features, Status};
use vioduct_virtio_device::Inline;
use vioduct_virtio_device::rig::Rig;
use vioduct_virtqueue::RingFormat;
use vioduct_vsock::{Listener, Setup, Vsock};

/// The ring is a packed one.
pub const PACKED: u8 = 1 << 3;
/// Bytes of a step: code, and eleven of arguments.
pub const STEP_LEN: usize = 12;
/// Ports that the guest uses.
pub const GUEST_PORTS: [u32; 4] = [1234, 7000, 7001, u32::MAX];
/// Ports of the host's: that where a program listens, one where none does, and those that callers have first.
pub const HOST_PORTS: [u32; 4] = [52, 53, 1 << 30, (1 << 30) + 1];
/// Room that the driver says it has, in bytes.
pub const ROOM: [u32; 4] = [64 << 10, 0, 7, u32::MAX];
/// What host programs say first.
pub const GREETINGS: [&[u8]; 8] = [
    b"CONNECT 1234\n",
    b"CONNECT 7000\nhello",
    b"CONNECT 1234\nhello again",
    b"CONNECT 4294967295\n",
    b"CONNECT",
    b" 1234\n",
    b"CONNECT 4294967296\n",
    b"anything of more than 32 bytes, and no end of the line",
];

const CID: u32 = 3;
/// More than anything here takes.
const STEPS: usize = 10_000;

/// What is wrong with a packet, by bits.
struct Lies(u8);

impl Lies {
    fn are(&self, bit: u8) -> bool {
        self.0 & 1 << bit != 0
    }
}

enum Step {
    Send { header: Header, lies: Lies, data_len: usize },
    Receive { pieces: [u32; 2], readable: usize },
    Event { len: u32 },
    Call { greeting: usize },
    Accept,
    Say { which: usize, len: usize },
    Hear { which: usize, len: usize },
    Shut { which: usize, how: Shutdown },
    Leave { which: usize },
}

impl Step {
    fn decode(input: &mut Input<'_>) -> Self {
        let mut step = Input(input.bytes(STEP_LEN));
        match step.below(16) {
            0..=6 => Self::packet(&mut step),
            7..=9 => Self::Receive {
                pieces: [u32::from(step.u16()) % 5000, u32::from(step.u16()) % 5000],
                readable: step.below(256).saturating_sub(250),
            },
            10 => Self::Event { len: u32::from(step.u8() % 8) },
            11 => Self::Call { greeting: step.below(GREETINGS.len()) },
            12 => Self::Accept,
            13 => Self::Say { which: step.below(256), len: usize::from(step.u16()) },
            14 => Self::Hear { which: step.below(256), len: usize::from(step.u16()) },
            _ => match (step.below(256), step.below(4)) {
                (which, 0) => Self::Shut { which, how: Shutdown::Read },
                (which, 1) => Self::Shut { which, how: Shutdown::Write },
                (which, 2) => Self::Shut { which, how: Shutdown::Both },
                (which, _) => Self::Leave { which },
            },
        }
    }

    fn packet(step: &mut Input<'_>) -> Self {
        let (op, ports, lies) = (step.below(9) as u16, step.u8(), Lies(step.u8()));
        let of = |all: [u32; 4], bits: u8| all[usize::from(bits % 4)];
        let (data_len, flags, room) = (usize::from(step.u16()), u32::from(step.u8()), step.u8());
        // Small, whether it is counted up or down.
        let fwd_cnt = i32::from(step.u16().cast_signed()).cast_unsigned();
        let header = Header {
            src_cid: u64::from(CID) + u64::from(lies.are(0)),
            dst_cid: HOST_CID + u64::from(lies.are(1)),
            src_port: of(GUEST_PORTS, ports),
            dst_port: of(HOST_PORTS, ports >> 2),
            len: if lies.are(2) { step.u16().into() } else { data_len as u32 },
            socket_type: TYPE_STREAM + u16::from(lies.are(3)),
            op,
            flags,
            buf_alloc: of(ROOM, room),
            fwd_cnt,
        };
        Self::Send { header, lies, data_len }
    }
}

/// A folder for sockets, gone when this is.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("vioduct-fuzz-{}", std::process::id()));
        // One that a run before this one was stopped in.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).expect("a folder for sockets");
        Self(path)
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Host {
    guest: Rig<Inline<Vsock>>,
    server: UnixListener,
    programs: Vec<UnixStream>,
    folder: Folder,
}

/// One run; how many packets have come from the device.
pub fn run(bytes: &[u8]) -> usize {
    let mut input = Input(bytes);
    let options = input.u8();
    let format = if options & PACKED == 0 { RingFormat::Split } else { RingFormat::Packed };
    let mut host = Host::new(input::features(format, options & 1));
    let mut packets = 0;
    while !input.is_empty() {
        host.step(Step::decode(&mut input));
        packets += host.settle();
    }
    packets
}

impl Host {
    fn new(features: Features) -> Self {
        let folder = Folder::new();
        let listener = Some(Listener::bind(&folder.socket("v")).expect("a socket"));
        let server = UnixListener::bind(folder.socket("v_52")).expect("a socket");
        server.set_nonblocking(true).expect("a socket has modes");
        let device = Inline::new(Vsock::new(Setup { cid: CID, listener }));
        let guest = Rig::new(device, features).expect("a device comes up");
        Self { guest, server, programs: Vec::new(), folder }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send { header, lies, data_len } => self.send(header, &lies, data_len),
            Step::Receive { pieces, readable } => self.submit(RECEIVE_QUEUE, &vec![0; readable], &pieces),
            Step::Event { len } => self.submit(EVENT_QUEUE, &[], &[len, 0]),
            Step::Call { greeting } => self.call(GREETINGS[greeting]),
            Step::Accept => self.programs.extend(self.server.accept().map(|(stream, _)| stream)),
            Step::Say { which, len } => self.with(which, |mut program| program.write(&vec![0x55; len])),
            Step::Hear { which, len } => self.with(which, |mut program| program.read(&mut vec![0; len])),
            Step::Shut { which, how } => self.with(which, |program| program.shutdown(how).map(|()| 0)),
            Step::Leave { which } => self.leave(which),
        }
    }

    /// Makes a buffer available, if there is room for it.
    fn submit(&mut self, q: u16, readable: &[u8], writable: &[u32]) {
        let readable: Vec<&[u8]> = readable.chunks(31 << 10).collect();
        let writable: Vec<u32> = writable.iter().copied().filter(|len| *len > 0).collect();
        if self.guest.submit(q, &readable, &writable).is_ok() {
            let _ = self.guest.kick(q).expect("there is such a queue");
        }
    }

    fn send(&mut self, header: Header, lies: &Lies, data_len: usize) {
        let mut packet = header.to_bytes().to_vec();
        packet.resize(HEADER_LEN + data_len, 0xaa);
        if lies.are(4) {
            packet.truncate(usize::from(lies.0) % (HEADER_LEN + 1));
        }
        self.submit(TRANSMIT_QUEUE, &packet, &[u32::from(lies.are(5)), 0]);
    }

    fn call(&mut self, greeting: &[u8]) {
        let Ok(mut program) = UnixStream::connect(self.folder.socket("v")) else { return };
        program.write_all(greeting).expect("a socket takes a line");
        self.programs.push(program);
    }

    /// A host program does something; that its connection is gone is nothing special.
    fn with(&self, which: usize, deed: impl FnOnce(&UnixStream) -> std::io::Result<usize>) {
        let Some(program) = self.programs.get(which % self.programs.len().max(1)) else { return };
        program.set_nonblocking(true).expect("a socket has modes");
        if let Err(error) = deed(program) {
            assert_ne!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
    }

    fn leave(&mut self, which: usize) {
        if !self.programs.is_empty() {
            drop(self.programs.swap_remove(which % self.programs.len()));
        }
    }

    /// The device does what there is to do, comes to rest, and is in health; the number of its packets, which are as they must be.
    fn settle(&mut self) -> usize {
        assert!(self.guest.endpoint.backend_mut().run(STEPS) < STEPS, "the device does not come to rest");
        assert!(!self.guest.endpoint.status().contains(Status::NEEDS_RESET), "rings are as they must be");
        let mut packets = 0;
        for q in 0..QUEUES {
            while let Some(reply) = self.guest.take(q).expect("the device keeps to the rules of the queue") {
                if q == RECEIVE_QUEUE && reply.written > 0 {
                    check(&reply.bytes[..reply.written as usize]);
                    packets += 1;
                }
                assert!(
                    q == RECEIVE_QUEUE || reply.written == 0,
                    "nothing has been moved, and nothing is said"
                );
            }
        }
        packets
    }
}

/// A packet of the device's.
fn check(packet: &[u8]) {
    let (header, data) = packet.split_first_chunk::<HEADER_LEN>().expect("a packet has a header");
    let header = Header::from_bytes(header);
    assert_eq!(header.len as usize, data.len());
    // What was sent to somebody else is answered in their name.
    let from = [HOST_CID, HOST_CID + 1];
    assert!(header.dst_cid == u64::from(CID) && from.contains(&header.src_cid), "{header:?}");
    assert!((OP_REQUEST..=OP_CREDIT_REQUEST).contains(&header.op), "{header:?}");
    assert_eq!(header.op == OP_RW, header.len > 0, "{header:?}");
}
