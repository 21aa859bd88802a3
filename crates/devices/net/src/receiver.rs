//! [`Receiver`]: packets from a port into the driver's buffers.

use crate::handler::give_back;
use crate::port::Shared;
use crate::request::{Header, RECEIVED, judge_frame_len, to_fill};
use crate::transmitter::{Pumped, is_gone};
use rustix::io::{Errno, read};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use vioduct_spec::net::{HEADER_LEN, MAX_FRAME_BYTES, MRG_RXBUF};
use vioduct_virtio_device::{BufferError, Burst, Chain, Fault, Features, Io, Next};

/// Packets that one wake takes from the port, whether or not the driver wants them.
const LIMIT: usize = 256;

/// How often a packet for the driver is copied after the system has given it: it is judged out of the driver's reach, and then copied to
/// its buffers.
pub const COPIES_RECEIVED: u32 = 1;

/// What has become of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Placed {
    /// It is with the driver, or dropped.
    Done,
    /// There is no room for it yet.
    Waiting,
}

/// One packet, out of reach of the driver, until it has room for it.
pub(crate) struct Inbox {
    /// Header and packet.
    bytes: Box<[u8]>,
    frame_len: Option<usize>,
    header: Header,
}

pub(crate) struct Receiver {
    queue: u16,
    negotiated: Features,
    shared: Arc<Shared>,
    pub(crate) inbox: Inbox,
    /// Buffers for the packet in the inbox, too few so far.
    gathered: Vec<Chain>,
    /// How long they are together.
    room_bytes: u64,
    /// Buffers that were popped ahead of their packets, in order: one that was taken out, and those behind it.
    kept: Option<Chain>,
    rooms: Burst,
    queue_size: u16,
}

impl Inbox {
    fn new() -> Self {
        // One byte more than is good, for a packet that is too long is not to pass for one that is not.
        let bytes = vec![0; HEADER_LEN + MAX_FRAME_BYTES + 1].into();
        Self { bytes, frame_len: None, header: Header::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frame_len.is_none()
    }

    fn header_bytes(&self) -> [u8; HEADER_LEN] {
        self.bytes.first_chunk().copied().unwrap_or_default()
    }

    fn frame(&self, frame_len: usize) -> &[u8] {
        self.bytes.get(HEADER_LEN..HEADER_LEN + frame_len).unwrap_or_default()
    }

    /// Where a packet of this length is put, for [`accept`](Self::accept).
    pub(crate) fn room(&mut self, frame_len: usize) -> &mut [u8] {
        self.bytes.get_mut(HEADER_LEN..HEADER_LEN + frame_len).unwrap_or_default()
    }

    /// The packet is there.
    pub(crate) fn accept(&mut self, frame_len: usize, header: Header) {
        (self.frame_len, self.header) = (Some(frame_len), header);
    }
}

impl Receiver {
    pub(crate) fn new(queue: u16, negotiated: Features, shared: Arc<Shared>) -> Self {
        let (gathered, inbox) = (Vec::new(), Inbox::new());
        Self {
            queue,
            negotiated,
            shared,
            inbox,
            gathered,
            room_bytes: 0,
            kept: None,
            rooms: Burst::new(0),
            queue_size: 0,
        }
    }

    pub(crate) fn queue(&self) -> u16 {
        self.queue
    }

    pub(crate) fn started(&mut self, io: &mut Io<'_>) {
        self.queue_size = io.queue_size(self.queue).unwrap_or_default();
    }

    /// Takes packets from the port and hands them over, as long as there are some, and room for them.
    pub(crate) fn pump(&mut self, port: &impl AsFd, io: &mut Io<'_>) -> Result<Pumped, Fault> {
        for _ in 0..LIMIT {
            if self.inbox.is_empty() {
                match self.take(port) {
                    Ok(Taken::Packet) => {}
                    Ok(Taken::Unwanted) => continue,
                    Ok(Taken::Nothing) => return Ok(Pumped::Dry),
                    Err(error) => return Ok(Pumped::Gone(error)),
                }
            }
            if self.place(io)? == Placed::Waiting {
                return Ok(Pumped::Dry);
            }
        }
        Ok(Pumped::Limit)
    }

    /// Takes a packet from the port.
    fn take(&mut self, port: &impl AsFd) -> io::Result<Taken> {
        let len = loop {
            match read(port, &mut *self.inbox.bytes) {
                Ok(len) => break len,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Taken::Nothing),
                Err(error) if is_gone(error) => return Err(error.into()),
                Err(error) => {
                    self.shared.drop_received(io::Error::from(error));
                    return Ok(Taken::Unwanted);
                }
            }
        };
        // The other end of a socket was closed.
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let frame_len = len.saturating_sub(HEADER_LEN);
        let judged = judge_frame_len(frame_len as u64).and_then(|()| {
            let taken = self.shared.offloads();
            Header::judge(&self.inbox.header_bytes(), frame_len as u64, &RECEIVED, taken)
        });
        match judged {
            Err(refused) => {
                self.shared.drop_received(refused);
                Ok(Taken::Unwanted)
            }
            Ok(_) if !self.shared.filter().wants(self.inbox.frame(frame_len), self.negotiated) => {
                Ok(Taken::Unwanted)
            }
            Ok(header) => {
                self.inbox.accept(frame_len, header);
                Ok(Taken::Packet)
            }
        }
    }

    /// Hands the packet in the inbox over, once there are as many buffers as it takes: one, or any number with `MRG_RXBUF`. Until
    /// then it stays.
    pub(crate) fn place(&mut self, io: &mut Io<'_>) -> Result<Placed, Fault> {
        let Some(frame_len) = self.inbox.frame_len else { return Ok(Placed::Done) };
        let wanted = (HEADER_LEN + frame_len) as u64;
        while self.room_bytes < wanted && (self.gathered.is_empty() || self.merges()) {
            let Some(chain) = self.next_room(Next::Other, io)? else {
                if self.holds_all() {
                    break;
                }
                return Ok(Placed::Waiting);
            };
            match to_fill(&chain) {
                Ok(()) => {
                    self.room_bytes += chain.writable_len();
                    self.gathered.push(chain);
                }
                Err(refused) => {
                    self.shared.say(format_args!("a buffer comes back untouched: {refused}"));
                    io.complete(self.queue, chain, 0)?;
                }
            }
        }
        self.inbox.frame_len = None;
        if self.room_bytes < wanted {
            self.shared.drop_received("the driver's buffers are too short for it");
            self.let_go(io)?;
            return Ok(Placed::Done);
        }
        self.fill(frame_len, io)?;
        Ok(Placed::Done)
    }

    fn merges(&self) -> bool {
        self.negotiated.contains(MRG_RXBUF)
    }

    /// Whether the driver has no descriptor left for another buffer: then it is not waited for.
    fn holds_all(&self) -> bool {
        let descriptors: usize = self.gathered.iter().map(|chain| chain.writable().len()).sum();
        !self.gathered.is_empty() && descriptors >= usize::from(self.queue_size)
    }

    /// Writes header and packet into the buffers that were gathered, and gives them back.
    fn fill(&mut self, frame_len: usize, io: &mut Io<'_>) -> Result<(), Fault> {
        // virtio 1.3 §5.1.6.4.1: the number of buffers is that of the packet, and 1 without MRG_RXBUF.
        let header = self.inbox.header.encode(self.gathered.len() as u16);
        let bytes = self.inbox.bytes.get_mut(..HEADER_LEN + frame_len).unwrap_or_default();
        bytes.iter_mut().zip(header).for_each(|(to, from)| *to = from);
        let mut rest: &[u8] = bytes;
        self.room_bytes = 0;
        let mut outcome = Ok(());
        for chain in self.gathered.drain(..) {
            match chain.writer().write(rest) {
                Ok(count) if outcome.is_ok() => {
                    rest = rest.get(count..).unwrap_or_default();
                    outcome = io.complete(self.queue, chain, count as u32);
                }
                Ok(_) => chain.discard(),
                Err(error) => outcome = outcome.and(give_back(self.queue, chain, error, io)),
            }
        }
        outcome
    }

    /// Whether nothing waits here.
    pub(crate) fn is_idle(&self) -> bool {
        self.inbox.is_empty()
    }

    /// Buffers of one piece that were popped, and wait for packets.
    pub(crate) fn rooms(&mut self) -> &mut Burst {
        &mut self.rooms
    }

    /// Whether a buffer is there without a look at the queue.
    pub(crate) fn has_room(&self) -> bool {
        self.keeps() || !self.rooms.is_empty()
    }

    /// Whether there is one before the [`rooms`](Self::rooms).
    pub(crate) fn keeps(&self) -> bool {
        self.kept.is_some()
    }

    /// Keeps a buffer for the next packet.
    pub(crate) fn keep(&mut self, room: Chain) {
        self.kept = Some(room);
    }

    /// The next buffer: one that is there, or what the queue has if it has another kind.
    pub(crate) fn next_room(&mut self, next: Next, io: &mut Io<'_>) -> Result<Option<Chain>, Fault> {
        match self.kept.take().or_else(|| io.chain_of(self.queue, &mut self.rooms)) {
            None if next == Next::Other => io.pop(self.queue),
            room => Ok(room),
        }
    }

    /// Gives back what is held, with nothing in it. The packet stays.
    pub(crate) fn let_go(&mut self, io: &mut Io<'_>) -> Result<(), Fault> {
        self.room_bytes = 0;
        let mut held = self.gathered.drain(..).chain(self.kept.take());
        held.try_for_each(|chain| io.complete(self.queue, chain, 0))?;
        let count = self.rooms.len();
        io.complete_burst(self.queue, &mut self.rooms, count)
    }

    /// Copies a packet that the driver has sent into the inbox.
    pub(crate) fn load(&mut self, sent: &Chain, frame_len: usize, header: Header) -> Result<(), BufferError> {
        let mut reader = sent.reader();
        reader.skip(HEADER_LEN)?;
        reader.read_exact(self.inbox.room(frame_len))?;
        self.inbox.accept(frame_len, header);
        Ok(())
    }
}

impl Drop for Receiver {
    /// Its queue is gone: the driver has taken the buffers back.
    fn drop(&mut self) {
        self.gathered.drain(..).chain(self.kept.take()).for_each(Chain::discard);
        self.rooms.discard();
    }
}

/// What a look at the port brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Taken {
    Packet,
    /// One that was dropped.
    Unwanted,
    Nothing,
}
