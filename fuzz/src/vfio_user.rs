//! A vfio-user client that says anything, over virtio-demo as a PCI function, while it writes to the memory that it shares, answers
//! the server's own calls anyhow, goes and comes back.
//!
//! The bytes: a byte of options, the length of what lies in memory from its start in two bytes, that, and steps to the end. A
//! step is a code, modulo the number of codes, and its arguments. The server has a thread of its own; what is no message waits
//! until it has obeyed all messages before.

use crate::input::Input;
use crate::memory::MAPPED_START;
use crate::shared::{
    Descriptors, PAGE_LEN, PAGES, SharedFile, await_server, ignore_broken_pipes, open_descriptors, pieces,
    receive, send,
};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::thread;
use vioduct_vfio_user::{Device, Server};
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::{EventFd, Inline, Signal};

/// Whether the client gives no descriptors with its memory, so that the device reaches it by messages.
pub const MESSAGES: u8 = 1;

const HEADER_LEN: usize = 16;
const REPLY: u32 = 1;
const ERROR: u32 = 0x20;
const NO_REPLY: u32 = 0x10;
const VERSION: u16 = 1;
const GET_INFO: u16 = 4;
const DMA_READ: u16 = 11;
const DMA_WRITE: u16 = 12;
const MIGRATION_READ: u16 = 17;
const MIGRATION_WRITE: u16 = 18;
/// No other message has this id, if the input does not say so.
const BARRIER: u16 = 0xfffe;

/// Numbers of commands, as the first byte of a step chooses them.
pub const COMMANDS: [u16; 17] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 15, 16, 17, 18, 11, 14];

/// A step that is a command; others follow from it.
pub const COMMAND: u8 = 0;
/// A write of four bytes at most to a BAR: offset, width as a power of two, value.
pub const BAR_WRITE: u8 = 1;
/// The same to configuration space.
pub const CONFIG_WRITE: u8 = 2;
/// Bytes are written to memory.
pub const POKE: u8 = 10;
/// The client goes, and another comes.
pub const COME_BACK: u8 = 15;

struct Client {
    address: SocketAddr,
    socket: UnixStream,
    memory: SharedFile,
    descriptors: Descriptors,
    by_messages: bool,
    /// How calls of the server's are answered.
    manner: u8,
    received: Vec<u8>,
    /// Where the server asks, if not over the connection, and what has come from there.
    twin: Option<(UnixStream, Vec<u8>)>,
    /// The last piece of the device's state that was read.
    saved: Vec<u8>,
    /// Messages that may not have been obeyed yet.
    sent: usize,
    /// The connection is of use no more.
    gone: bool,
}

/// As many as fit into the socket with their replies.
const MAX_SENT: usize = 16;

/// One run: how often the device has signalled a completion.
pub fn run(bytes: &[u8]) -> u64 {
    ignore_broken_pipes();
    let before = open_descriptors();
    let signals = serve(&mut Input(bytes));
    assert_eq!(open_descriptors(), before, "descriptors are left open");
    signals
}

fn serve(input: &mut Input<'_>) -> u64 {
    let name = format!("vioduct-fuzz-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name).expect("a name");
    let listener = UnixListener::bind_addr(&address).expect("nobody else listens there");
    let device = Device::virtio(Inline::auto(VirtioDemo::default())).expect("a PCI device");
    let mut server = Server::inherited(listener.into(), device).expect("a socket that listens");
    let stopper = server.stopper();
    let thread = thread::spawn(move || server.run());
    let options = input.u8();
    let mut client = Client {
        socket: UnixStream::connect_addr(&address).expect("the server listens"),
        address,
        memory: SharedFile::new(),
        descriptors: Descriptors::new(),
        by_messages: options & MESSAGES != 0,
        manner: 0,
        received: Vec::new(),
        twin: None,
        saved: Vec::new(),
        sent: 0,
        gone: false,
    };
    let image_len = usize::from(input.u16());
    client.memory.put(0, input.bytes(image_len));
    while !client.gone && !input.is_empty() {
        client.step(input);
    }
    client.settle();
    client.leave();
    stopper.stop();
    thread.join().expect("the server does not panic").expect("the server can go on");
    let Client { memory, descriptors, .. } = client;
    memory.check();
    descriptors.call.take()
}

impl Client {
    fn step(&mut self, input: &mut Input<'_>) {
        let code = input.u8() % 16;
        if code >= POKE || self.sent >= MAX_SENT {
            self.settle();
        }
        match code {
            COMMAND | 3..=7 => self.command(input),
            BAR_WRITE => self.write_register(0, input),
            CONFIG_WRITE => self.write_register(7, input),
            8 => self.any_message(input),
            9 => self.any_bytes(input),
            POKE => {
                let (at, len) = (input.u16(), input.below(32));
                self.memory.put(at.into(), input.bytes(len));
            }
            11 => {
                if let Some(kick) = self.descriptors.received.take() {
                    EventFd::from(kick).signal();
                }
            }
            12 | 13 => self.manner = input.u8(),
            14 => self.by_messages ^= true,
            COME_BACK.. => self.come_back(),
        }
    }

    /// Ends the connection, and waits until the server knows.
    fn leave(&mut self) {
        self.twin = None;
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
        loop {
            match receive(&self.socket, &mut self.descriptors.received) {
                None => break,
                Some(bytes) if bytes.is_empty() => await_server(&[&self.socket]),
                Some(_) => {}
            }
        }
    }

    fn come_back(&mut self) {
        self.leave();
        self.socket = UnixStream::connect_addr(&self.address).expect("the server listens");
        self.received.clear();
    }

    /// A command as the specification has it, more or less.
    fn command(&mut self, input: &mut Input<'_>) {
        let number = COMMANDS[input.below(COMMANDS.len())];
        if number == MIGRATION_WRITE {
            // What is written may be what was read before.
            self.settle();
        }
        let (payload, mut fds) = self.payload(number, input);
        let flags = match input.u8() {
            0..=0xdf => 0,
            0xe0..=0xef => NO_REPLY,
            _ => {
                fds.push(self.descriptors.choose(input.u8(), &mut self.memory));
                0
            }
        };
        self.say(&frame(u16::from(input.u8()), number, flags, &payload), &fds, input);
    }

    fn write_register(&mut self, region: u32, input: &mut Input<'_>) {
        let (offset, len, value) = (u64::from(input.u16()), 1u32 << input.below(3), input.u32());
        let data = value.to_le_bytes();
        let payload = [longs(&[offset]), words(&[region, len]), data[..len as usize].to_vec()].concat();
        self.say(&frame(0, 10, 0, &payload), &[], &mut Input(&[]));
    }

    fn any_message(&mut self, input: &mut Input<'_>) {
        let (id, number, flags) = (u16::from(input.u8()), u16::from(input.u8()), u32::from(input.u8()));
        let len = input.u8();
        let payload = input.bytes(len.into());
        let fds = self.any_fds(input);
        self.say(&frame(id, number, flags, payload), &fds, input);
    }

    /// After these nobody knows where a message begins.
    fn any_bytes(&mut self, input: &mut Input<'_>) {
        let len = input.u8();
        let bytes = input.bytes(len.into());
        let fds = self.any_fds(input);
        send(&self.socket, bytes, &fds);
        self.gone = true;
    }

    fn any_fds(&mut self, input: &mut Input<'_>) -> Vec<OwnedFd> {
        // The server may keep a mapping of anything.
        self.memory.share_all();
        (0..input.below(20)).map(|_| self.descriptors.choose(input.u8(), &mut self.memory)).collect()
    }

    /// Sends a message in pieces.
    fn say(&mut self, message: &[u8], fds: &[OwnedFd], input: &mut Input<'_>) {
        let mut fds = fds;
        for piece in pieces(message, input) {
            self.gone |= !send(&self.socket, &piece, fds);
            fds = &[];
        }
        self.sent += 1;
    }

    /// Waits until the server has obeyed all messages.
    fn settle(&mut self) {
        if std::mem::take(&mut self.sent) == 0 {
            return;
        }
        let barrier = frame(BARRIER, GET_INFO, 0, &words(&[16, 0, 0, 0]));
        self.gone |= !send(&self.socket, &barrier, &[]);
        while !self.gone && !self.listen() {
            let twin = self.twin.as_ref().map(|(twin, _)| twin);
            await_server(&std::iter::once(&self.socket).chain(twin).collect::<Vec<_>>());
            self.listen_to_twin();
        }
    }

    /// Takes what the server says, and answers what it asks for. Whether it has come to the barrier.
    fn listen(&mut self) -> bool {
        let Some(more) = receive(&self.socket, &mut self.descriptors.received) else {
            self.gone = true;
            return true;
        };
        self.received.extend(more);
        while let Some(Frame { id, command, flags, payload }) = Frame::take(&mut self.received) {
            if flags == 0 {
                let answer = self.answer(id, command, &payload);
                self.gone |= !send(&self.socket, &answer, &[]);
                continue;
            }
            assert_eq!(flags & !ERROR, REPLY);
            assert!(flags & ERROR == 0 || payload.is_empty());
            match (id, command) {
                (BARRIER, GET_INFO) => return true,
                (_, MIGRATION_READ) => self.saved = payload.get(8..).unwrap_or_default().to_vec(),
                (_, VERSION) if payload.windows(4).any(|word| word == b"twin") => {
                    let twin = self.descriptors.received.take().expect("the twin comes along");
                    self.twin = Some((twin.into(), Vec::new()));
                }
                _ => {}
            }
        }
        false
    }

    fn listen_to_twin(&mut self) {
        let Some((twin, mut received)) = self.twin.take() else { return };
        let Some(more) = receive(&twin, &mut None) else { return };
        received.extend(more);
        while let Some(Frame { id, command, flags, payload }) = Frame::take(&mut received) {
            assert_eq!(flags, 0, "the server asks");
            let answer = self.answer(id, command, &payload);
            if !send(&twin, &answer, &[]) {
                return;
            }
        }
        self.twin = Some((twin, received));
    }

    /// The device reaches memory that came without a descriptor.
    fn answer(&mut self, id: u16, command: u16, payload: &[u8]) -> Vec<u8> {
        let mut fields = Input(payload);
        let (address, count) = (fields.u64(), fields.u64());
        let offset = address.wrapping_sub(MAPPED_START);
        let (manner, count_of) = (self.manner, if self.manner == 3 { count / 2 } else { count });
        let head = [address.to_ne_bytes(), count_of.to_ne_bytes()].concat();
        let body = match command {
            DMA_READ => [head, self.memory.get(offset, count_of as usize)].concat(),
            DMA_WRITE => {
                self.memory.put(offset, fields.0);
                head
            }
            other => panic!("the server asks for {other}"),
        };
        match manner {
            1 => frame(id, command, REPLY | ERROR, &[]),
            2 => frame(id, command, REPLY, &body[..body.len() / 2]),
            4 => {
                // As the driver that the device reads from could.
                self.memory.put(offset, &[manner; 4]);
                frame(id, command, REPLY, &body)
            }
            5 => [frame(id ^ 1, command, REPLY, &body), frame(id, command, REPLY, &body)].concat(),
            6 => {
                self.gone = true;
                Vec::new()
            }
            _ => frame(id, command, REPLY, &body),
        }
    }

    /// What a command carries.
    fn payload(&mut self, number: u16, input: &mut Input<'_>) -> (Vec<u8>, Vec<OwnedFd>) {
        let none = Vec::new();
        match number {
            1 => (version(input), none),
            2 => self.dma_map(input),
            3 => {
                let (page, pages) = (u64::from(input.u8()), u64::from(input.u8()));
                let address = if pages == 0 { 0 } else { MAPPED_START + page * PAGE_LEN };
                let flags = if pages == 0 { 2 } else { u32::from(input.u8() & 2) };
                ([words(&[24, flags]), longs(&[address, pages * PAGE_LEN])].concat(), none)
            }
            4 => (words(&[16, 0, 0, 0]), none),
            5 => (words(&[32, 0, input.u8().into(), 0, 0, 0, 0, 0]), none),
            6 => (words(&[u32::from(input.u8()) * 8, 0, input.u8().into(), 0]), none),
            7 => (words(&[16, 0, input.u8().into(), 0]), none),
            8 => self.set_irqs(input),
            9 => {
                let (region, offset, len) =
                    (input.u8().into(), input.u16().into(), input.access_len() as u32);
                ([longs(&[offset]), words(&[region, len])].concat(), none)
            }
            10 => {
                let (region, offset, len) = (input.u8().into(), input.u16().into(), input.access_len());
                let data = vec![input.u8(); len];
                ([longs(&[offset]), words(&[region, len as u32]), data].concat(), none)
            }
            15 => {
                let count = input.below(4);
                let writes = (0..count).flat_map(|_| small_write(input)).collect();
                ([longs(&[count as u64]), writes].concat(), none)
            }
            16 => (feature(input), none),
            MIGRATION_READ => {
                let size = u32::from(input.u8()) << 4;
                (words(&[8 + size, size]), none)
            }
            MIGRATION_WRITE => {
                let state = self.state_to_write(input);
                let len = state.len() as u32;
                ([words(&[8 + len, len]), state].concat(), none)
            }
            _ => (input.bytes(16).to_vec(), none),
        }
    }

    /// What was read, perhaps with a byte changed, or anything.
    fn state_to_write(&self, input: &mut Input<'_>) -> Vec<u8> {
        let mut state = self.saved.clone();
        match input.u8() {
            0 => {}
            1 => {
                let (at, flip) = (usize::from(input.u16()), input.u8());
                state.get_mut(at).into_iter().for_each(|byte| *byte ^= flip);
            }
            len => state = input.bytes(len.into()).to_vec(),
        }
        state
    }

    fn dma_map(&mut self, input: &mut Input<'_>) -> (Vec<u8>, Vec<OwnedFd>) {
        let access = [3, 1, 2, 0][input.below(4)];
        let (page, pages, file_page) = (u64::from(input.u8()), u64::from(input.u8()), u64::from(input.u8()));
        let (len, offset) = (if pages == 0 { PAGES } else { pages } * PAGE_LEN, file_page * PAGE_LEN);
        // Pages far away, to have many of them.
        let address = if page == 0xff { input.u64() } else { MAPPED_START + page * PAGE_LEN };
        let payload = [words(&[32, access]), longs(&[offset, address, len])].concat();
        if self.by_messages {
            return (payload, Vec::new());
        }
        if access & 2 != 0 {
            self.memory.share(offset, len);
        }
        (payload, vec![self.memory.file()])
    }

    fn set_irqs(&mut self, input: &mut Input<'_>) -> (Vec<u8>, Vec<OwnedFd>) {
        const DATA_EVENTFD: u32 = 4;
        const TRIGGER: u32 = 0x20;
        let (index, start, count) = (2 ^ u32::from(input.u8()), input.u8().into(), u32::from(input.u8()));
        let flags = match input.u8() {
            0 => DATA_EVENTFD | TRIGGER,
            other => other.into(),
        };
        let bytes = if flags & 2 == 0 { &[] } else { input.bytes(count as usize) };
        let fds = if flags & DATA_EVENTFD == 0 { 0 } else { count.min(16) };
        let fds = (0..fds).map(|_| self.descriptors.choose(2, &mut self.memory)).collect();
        let argsz = 20 + bytes.len() as u32;
        ([words(&[argsz, flags, index, start, count]), bytes.to_vec()].concat(), fds)
    }
}

/// A message of the server's.
struct Frame {
    id: u16,
    command: u16,
    flags: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// The first of `received`, once it is there.
    fn take(received: &mut Vec<u8>) -> Option<Self> {
        let (header, rest) = received.split_first_chunk::<HEADER_LEN>()?;
        let mut header = Input(header);
        let (id, command, len, flags) = (header.u16(), header.u16(), header.u32() as usize, header.u32());
        let payload_len = len.checked_sub(HEADER_LEN).expect("a message holds its header");
        let payload = rest.get(..payload_len)?.to_vec();
        received.drain(..len);
        Some(Self { id, command, flags, payload })
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

fn frame(id: u16, command: u16, flags: u32, payload: &[u8]) -> Vec<u8> {
    let head = words(&[u32::from(id) | u32::from(command) << 16]);
    [head, words(&[(HEADER_LEN + payload.len()) as u32, flags, 0]), payload.to_vec()].concat()
}

fn version(input: &mut Input<'_>) -> Vec<u8> {
    let json: &[u8] = match input.u8() {
        0 => br#"{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576,"write_multiple":true}}"#,
        1 => b"",
        2 => br#"{"capabilities":{"max_data_xfer_size":3}}"#,
        3 => br#"{"capabilities":{"twin_socket":{"supported":true}}}"#,
        _ => input.bytes(64),
    };
    let end: &[u8] = if json.is_empty() { &[] } else { &[0] };
    [words(&[input.u8().into()]), json.to_vec(), end.to_vec()].concat()
}

fn small_write(input: &mut Input<'_>) -> Vec<u8> {
    let (region, offset, len) = (u32::from(input.u8()), u64::from(input.u16()), u32::from(input.u8()));
    [longs(&[offset]), words(&[region, len]), input.u64().to_ne_bytes().to_vec()].concat()
}

/// The log of dirty pages, or the state of migration, mostly.
fn feature(input: &mut Input<'_>) -> Vec<u8> {
    const GET: u32 = 1 << 16;
    const SET: u32 = 1 << 17;
    let range = |input: &mut Input<'_>| longs(&[MAPPED_START + u64::from(input.u16()), input.u32().into()]);
    let (flags, data) = match input.u8() {
        0 => (SET | 6, [longs(&[PAGE_LEN]), words(&[0, 0])].concat()),
        1 => (SET | 7, Vec::new()),
        2 => (GET | 8, [range(input), longs(&[1 << input.below(64)])].concat()),
        3 => (SET | 6, [longs(&[PAGE_LEN]), words(&[1, 0]), range(input)].concat()),
        4 => (SET | 2, words(&[input.u8().into(), 0])),
        5 => (GET | 2, Vec::new()),
        6 => (GET | 1, Vec::new()),
        other => (u32::from(input.u8()) << 16 | u32::from(other), input.bytes(24).to_vec()),
    };
    [words(&[u32::from(input.u16()) << 4, flags]), data].concat()
}
