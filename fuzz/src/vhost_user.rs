//! A vhost-user front-end that says anything, over virtio-demo, while it writes to the memory that it shares.
//!
//! The bytes: a byte of options, the length of what lies in memory from its start in two bytes, that, and steps to the end. A
//! step is a code, modulo the number of codes, and its arguments.

use crate::input::{Input, features};
use crate::memory::MAPPED_START;
use crate::shared::{
    Descriptors, PAGE_LEN, PAGES, SharedFile, ignore_broken_pipes, open_descriptors, pieces, receive, send,
};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use vioduct_spec::ring::{DESC_F_AVAIL, DESC_F_USED, DESCRIPTOR_SIZE, packed, split};
use vioduct_vhost_user::{Conversation, Limits, Turn};
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::{Inline, Signal};
use vioduct_virtqueue::RingFormat;

/// By how much the front-end's own addresses differ from the guest's.
const USER_SHIFT: u64 = 0x7f00_0000_0000;
/// The device works when it is kicked; otherwise when it is stepped.
pub const AUTO: u8 = 1;

const REPLY: u32 = 5;
const NEED_REPLY: u32 = 9;
const VERSION: u32 = 1;

/// Numbers of requests, as the first byte of a step chooses them.
pub const REQUESTS: [u8; 33] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 21, 24, 25, 31, 32, 34, 35, 36, 37, 38,
    39, 40, 42, 43, 20,
];

/// A step that is a request without an answer asked for; others follow from it.
pub const ASK: u8 = 0;
/// The same with an answer.
pub const ASK_ANSWER: u8 = 1;
/// Bytes are written to memory.
pub const POKE: u8 = 10;
/// The kick eventfd is signalled.
pub const KICK: u8 = 11;
/// The device works.
pub const WORK: u8 = 12;

struct Front {
    conversation: Conversation<Inline<VirtioDemo>>,
    socket: UnixStream,
    memory: SharedFile,
    descriptors: Descriptors,
    replies: Vec<u8>,
    state: Turn,
}

/// One run: how many buffers the device has taken.
pub fn run(bytes: &[u8]) -> u64 {
    ignore_broken_pipes();
    let before = open_descriptors();
    let taken = converse(&mut Input(bytes));
    assert_eq!(open_descriptors(), before, "descriptors are left open");
    taken
}

fn converse(input: &mut Input<'_>) -> u64 {
    let options = input.u8();
    let device = VirtioDemo::default();
    let device = if options & AUTO == 0 { Inline::new(device) } else { Inline::auto(device) };
    // Nothing that this front-end sends has an end that comes later.
    let limits = Limits { transfer_limit: Duration::from_millis(1), ..Limits::default() };
    let (near, far) = UnixStream::pair().expect("sockets");
    let conversation = Conversation::new(far.into(), device, &limits).expect("descriptors");
    let mut front = Front {
        conversation,
        socket: near,
        memory: SharedFile::new(),
        descriptors: Descriptors::new(),
        replies: Vec::new(),
        state: Turn::Open,
    };
    let image_len = usize::from(input.u16());
    front.memory.put(0, input.bytes(image_len));
    while front.state == Turn::Open && !input.is_empty() {
        front.step(input);
    }
    let taken = front.conversation.device().stats(0).map_or(0, |stats| stats.chains);
    let Front { conversation, memory, .. } = front;
    drop(conversation);
    memory.check();
    taken
}

impl Front {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.u8() % 16 {
            ASK | 2..=7 => self.request(VERSION, input),
            ASK_ANSWER => self.request(NEED_REPLY, input),
            8 => self.any_message(input),
            9 => self.any_bytes(input),
            POKE => {
                let (at, len) = (input.u16(), input.below(32));
                self.memory.put(at.into(), input.bytes(len));
            }
            KICK => self.descriptors.kick.signal(),
            WORK => {
                let _ = self.conversation.device().run(1 + input.below(8));
            }
            13 => self.offer(input),
            14 => self.descriptors.answer_socket(input.bytes(20)),
            _ => self.descriptors.socket = None,
        }
    }

    /// A request as the specification has it, more or less.
    fn request(&mut self, flags: u32, input: &mut Input<'_>) {
        let number = REQUESTS[input.below(REQUESTS.len())];
        let (payload, mut fds) = self.payload(number, input);
        match input.u8() {
            0..=0xef => {}
            0xf0..=0xf7 => fds.push(self.descriptors.choose(input.u8(), &mut self.memory)),
            _ => {
                let code = input.u8();
                fds.iter_mut().for_each(|fd| *fd = self.descriptors.choose(code, &mut self.memory));
            }
        }
        self.say(&frame(number.into(), flags, &payload), &fds, input);
    }

    fn any_message(&mut self, input: &mut Input<'_>) {
        let (number, flags, len) = (input.u8().into(), u32::from(input.u8()) ^ VERSION, input.u8());
        let payload = input.bytes(len.into());
        let fds = self.any_fds(input);
        self.say(&frame(number, flags, payload), &fds, input);
    }

    fn any_bytes(&mut self, input: &mut Input<'_>) {
        let len = input.u8();
        let bytes = input.bytes(len.into());
        let fds = self.any_fds(input);
        self.say(bytes, &fds, input);
    }

    fn any_fds(&mut self, input: &mut Input<'_>) -> Vec<OwnedFd> {
        // The server may take anything for a region, too, from a descriptor that it knows.
        self.memory.share_all();
        (0..input.below(12)).map(|_| self.descriptors.choose(input.u8(), &mut self.memory)).collect()
    }

    /// Sends a message, in pieces between which the server has its turn.
    fn say(&mut self, message: &[u8], fds: &[OwnedFd], input: &mut Input<'_>) {
        let mut fds = fds;
        for piece in pieces(message, input) {
            if !send(&self.socket, &piece, fds) {
                self.state = Turn::Over;
            }
            fds = &[];
            if self.state == Turn::Open {
                self.state = self.conversation.turn();
            }
            self.listen();
        }
    }

    /// Replies are well-formed, whatever was asked.
    fn listen(&mut self) {
        while let Some(more) =
            receive(&self.socket, &mut self.descriptors.received).filter(|more| !more.is_empty())
        {
            self.replies.extend(more);
        }
        while let Some((header, rest)) = self.replies.split_first_chunk::<12>() {
            let mut words = Input(header);
            let (_, flags, len) = (words.u32(), words.u32(), words.u32() as usize);
            assert_eq!(flags, REPLY);
            assert!(len <= 12 + 4096);
            if rest.len() < len {
                break;
            }
            self.replies.drain(..12 + len);
        }
    }

    /// A memory file for a region that is shared by it.
    fn file(&mut self, offset: u64, len: u64) -> Vec<OwnedFd> {
        self.memory.share(offset, len);
        vec![self.memory.file()]
    }

    /// What a request carries.
    fn payload(&mut self, number: u8, input: &mut Input<'_>) -> (Vec<u8>, Vec<OwnedFd>) {
        match number {
            2 => (longs(&[device_features(input)]), Vec::new()),
            5 => {
                let count = [1, 0, 2, 3][input.below(4)];
                let regions: Vec<_> = (0..count).map(|_| self.region(input)).collect();
                let payload = regions.iter().flat_map(|(region, _)| longs(region)).collect();
                let fds = regions.into_iter().flat_map(|(_, fds)| fds).collect();
                ([words(&[count, 0]), payload].concat(), fds)
            }
            6 => {
                let (pages, offset) = (u64::from(input.u8()) * 0x100, page(input));
                (longs(&[pages, offset]), self.file(offset, pages))
            }
            7 | 12..=14 | 21 => self.event(number, input),
            8 | 10 | 11 | 18 | 35 => (words(&[ring(input), number_of(input)]), Vec::new()),
            9 => (ring_address(input), Vec::new()),
            16 => (longs(&[protocol_features(input)]), Vec::new()),
            24 | 25 => {
                let (offset, len) = (u32::from(input.u8()), u32::from(input.u8()));
                let data = input.bytes(len as usize);
                ([words(&[offset, data.len() as u32, input.u8().into()]), data.to_vec()].concat(), Vec::new())
            }
            31 | 32 => self.records(number, input),
            37 | 38 => {
                let (region, fds) = self.region(input);
                ([longs(&[0]), longs(&region)].concat(), if number == 37 { fds } else { Vec::new() })
            }
            39 => (longs(&[input.u8().into()]), Vec::new()),
            42 => {
                let fd = self.descriptors.choose(5 + input.u8() % 4, &mut self.memory);
                (words(&[input.u8().into(), input.u8().into()]), vec![fd])
            }
            _ => (Vec::new(), Vec::new()),
        }
    }

    /// A kick, a call, an error, a log, a socket; perhaps none.
    fn event(&mut self, number: u8, input: &mut Input<'_>) -> (Vec<u8>, Vec<OwnedFd>) {
        const NO_FD: u64 = 0x100;
        let fd = match number {
            21 => return (Vec::new(), vec![self.descriptors.open_socket()]),
            7 => return (Vec::new(), vec![self.descriptors.choose(2, &mut self.memory)]),
            12 => self.descriptors.choose(1, &mut self.memory),
            _ => self.descriptors.choose(2, &mut self.memory),
        };
        match input.u8() {
            ring @ 0..=0x7f => (longs(&[ring.into()]), vec![fd]),
            ring => (longs(&[u64::from(ring & 0x7f) | NO_FD]), Vec::new()),
        }
    }

    /// Records in the file that the server made, or in memory that this front-end writes to.
    fn records(&mut self, number: u8, input: &mut Input<'_>) -> (Vec<u8>, Vec<OwnedFd>) {
        let (own, rings, size) = (input.u8() & 1 == 0, 1 + u16::from(input.u8()), input.u16());
        let (len, offset) = if own { (0x2000, page(input)) } else { (0x10_0000, 0) };
        let payload = [longs(&[len, offset]), words(&[u32::from(rings) | u32::from(size) << 16])].concat();
        match (number, own) {
            (31, _) => (payload, Vec::new()),
            (_, true) => (payload, self.file(offset, PAGE_LEN * PAGES)),
            (_, false) => (payload, vec![self.descriptors.choose(3, &mut self.memory)]),
        }
    }

    /// Guest address, length, the front-end's address, offset in the file.
    fn region(&mut self, input: &mut Input<'_>) -> ([u64; 4], Vec<OwnedFd>) {
        match input.u8() {
            0xf0.. => {
                self.memory.share_all();
                ([input.u64(), input.u64(), input.u64(), input.u64()], vec![self.memory.file()])
            }
            pages => {
                let (start, offset) = (page(input), page(input));
                let len = if pages == 0 { PAGES } else { u64::from(pages) } * PAGE_LEN;
                let guest = MAPPED_START + start;
                ([guest, len, guest + USER_SHIFT, offset], self.file(offset, len))
            }
        }
    }

    /// The driver makes a buffer available, as an honest one would, in a ring at `area`.
    fn offer(&mut self, input: &mut Input<'_>) {
        let (area, size, id) = (u64::from(input.u16()), u16::from(input.u8()).max(1), u16::from(input.u8()));
        let options = input.u8();
        if options & 1 == 0 {
            let index = self.memory.get(area + split::AVAIL_IDX as u64, 2);
            let index = u16::from_le_bytes([index[0], index[1]]);
            let slot = split::AVAIL_RING + 2 * usize::from(index % size);
            self.memory.put(area + slot as u64, &id.to_le_bytes());
            self.memory.put(area + split::AVAIL_IDX as u64, &index.wrapping_add(1).to_le_bytes());
        } else {
            let flags = if options & 2 == 0 { DESC_F_AVAIL } else { DESC_F_USED } | u16::from(options >> 5);
            let slot = area + (usize::from(size) * DESCRIPTOR_SIZE) as u64;
            self.memory.put(slot + packed::DESC_ID as u64, &id.to_le_bytes());
            self.memory.put(slot + packed::DESC_FLAGS as u64, &flags.to_le_bytes());
        }
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

fn frame(number: u32, flags: u32, payload: &[u8]) -> Vec<u8> {
    [words(&[number, flags, payload.len() as u32]), payload.to_vec()].concat()
}

fn page(input: &mut Input<'_>) -> u64 {
    u64::from(input.u8()) * PAGE_LEN
}

/// Ring 0, mostly.
fn ring(input: &mut Input<'_>) -> u32 {
    match input.u8() {
        0..=0xef => 0,
        few @ 0xf0..=0xf7 => u32::from(few & 7),
        _ => input.u32(),
    }
}

/// A size, a base, a switch.
fn number_of(input: &mut Input<'_>) -> u32 {
    match input.u8() {
        few @ 0..=0xbf => few.into(),
        0xc0..=0xdf => input.u16().into(),
        _ => input.u32(),
    }
}

/// Flags, and the offsets of the areas in memory.
fn ring_address(input: &mut Input<'_>) -> Vec<u8> {
    let head = words(&[ring(input), input.u8().into()]);
    let mut area = || MAPPED_START + u64::from(input.u16());
    let areas = [area() + USER_SHIFT, area() + USER_SHIFT, area() + USER_SHIFT, area()];
    [head, longs(&areas)].concat()
}

/// Bits 0 to 2 are [`features`], bit 3 the packed layout, bits 4 and 5 those of the protocol: not to be used, the log.
fn device_features(input: &mut Input<'_>) -> u64 {
    match input.u8() {
        bits @ 0..=0x3f => {
            let format = if bits & 8 == 0 { RingFormat::Split } else { RingFormat::Packed };
            let protocol = if bits & 16 == 0 { 1 << 30 } else { 0 };
            let log = if bits & 32 == 0 { 0 } else { 1 << 26 };
            features(format, bits).0 | protocol | log
        }
        _ => input.u64(),
    }
}

/// All that there are, or some.
fn protocol_features(input: &mut Input<'_>) -> u64 {
    const ALL: u64 = 0x9_f22b;
    match input.u8() {
        0 => ALL,
        1 => ALL & !(1 << 14),
        2..=0x7f => ALL & u64::from(input.u32()),
        _ => input.u64(),
    }
}
