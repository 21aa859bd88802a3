//! [`Connection`]: what is under way between a guest's program and a host's, and what is to be said next.

use crate::credit::{BUFFER_BYTES, FromGuest, ToGuest};
use crate::greeting::accepted;
use crate::host::{Got, Sent, Stream};
use crate::request::Op;
use rustix::net::Shutdown;
use std::collections::VecDeque;
use vioduct_spec::vsock::{
    HEADER_LEN, HOST_CID, Header, OP_CREDIT_REQUEST, OP_CREDIT_UPDATE, OP_REQUEST, OP_RESPONSE, OP_RST,
    OP_RW, OP_SHUTDOWN, SHUTDOWN_RECEIVE, SHUTDOWN_SEND, TYPE_STREAM,
};
use vioduct_virtio_device::{BufferError, Chain, Reader};

const BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// The ports of a connection, by which it is known.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Ports {
    pub(crate) guest: u32,
    pub(crate) host: u32,
}

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// A host program wants it, which the guest is to be told.
    Requesting,
    /// The guest was told.
    Requested,
    /// The guest wants it and has it, which it is to be told.
    Responding,
    Open,
    /// It is over, which the guest is to be told.
    Resetting,
    /// The guest has forgotten it; what it had sent before is for the host program still.
    Draining,
    Over,
}

#[derive(Debug)]
pub(crate) struct Connection {
    ports: Ports,
    phase: Phase,
    /// `None` once the host program has gone, or has been left.
    stream: Option<Stream>,
    from_guest: FromGuest,
    to_guest: ToGuest,
    /// What the host program has not read yet: at most [`BUFFER_BYTES`].
    unread: VecDeque<u8>,
    /// What was read from the host program and has not been sent: no more than one read gives.
    unsent: VecDeque<u8>,
    /// The host program may have written something.
    readable: bool,
    /// What the guest does no more, as it has said: flags of SHUTDOWN.
    guest_shut: u32,
    /// Of which the host program was told.
    guest_shut_told: u32,
    /// What the host program does no more.
    host_shut: u32,
    /// Of which the guest was told.
    host_shut_told: u32,
    /// The guest has asked for its credit.
    credit_wanted: bool,
    /// The guest was asked for credit, and has not given any.
    credit_asked: bool,
}

impl Connection {
    /// One that a host program wants, which has said something more already.
    pub(crate) fn of_host(ports: Ports, stream: Stream, said: Vec<u8>) -> Self {
        let mut connection = Self::new(ports, stream, Phase::Requesting);
        connection.unsent = said.into();
        connection
    }

    /// One that the guest wants, by a packet with this header.
    pub(crate) fn of_guest(ports: Ports, stream: Stream, request: &Header) -> Self {
        let mut connection = Self::new(ports, stream, Phase::Responding);
        connection.learn(request);
        connection
    }

    fn new(ports: Ports, stream: Stream, phase: Phase) -> Self {
        Self {
            ports,
            phase,
            stream: Some(stream),
            from_guest: FromGuest::default(),
            to_guest: ToGuest::default(),
            unread: VecDeque::new(),
            unsent: VecDeque::new(),
            readable: true,
            guest_shut: 0,
            guest_shut_told: 0,
            host_shut: 0,
            host_shut_told: 0,
            credit_wanted: false,
            credit_asked: false,
        }
    }

    pub(crate) fn ports(&self) -> Ports {
        self.ports
    }

    pub(crate) fn stream(&self) -> Option<&Stream> {
        self.stream.as_ref()
    }

    /// Whether the guest knows nothing of it any more.
    pub(crate) fn is_forgotten(&self) -> bool {
        matches!(self.phase, Phase::Draining | Phase::Over)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// A packet has come, and `data` stands behind its header. `scratch` is for the data on its way.
    ///
    /// # Errors
    /// If the data cannot be read.
    pub(crate) fn hear(
        &mut self,
        op: Op,
        header: &Header,
        data: &mut Reader<'_>,
        scratch: &mut [u8],
    ) -> Result<(), BufferError> {
        self.learn(header);
        match (self.phase, op) {
            (_, Op::Reset) => self.forget(),
            (Phase::Resetting | Phase::Draining | Phase::Over, _) => {}
            (Phase::Requested, Op::Response) => self.open(),
            (Phase::Open, Op::Data) => self.take_in(header.len, data, scratch)?,
            (Phase::Open, Op::Shutdown) => self.guest_shuts(header.flags & BOTH),
            (Phase::Open, Op::CreditUpdate) => {}
            (Phase::Open, Op::CreditRequest) => self.credit_wanted = true,
            _ => self.abort(),
        }
        Ok(())
    }

    /// The credit that every packet carries.
    fn learn(&mut self, header: &Header) {
        match self.to_guest.update(header.buf_alloc, header.fwd_cnt) {
            Ok(()) => self.credit_asked &= self.to_guest.room() == 0,
            Err(_impossible) => self.abort(),
        }
    }

    fn open(&mut self) {
        self.phase = Phase::Open;
        let line = accepted(self.ports.host);
        let sent = self.stream.as_ref().map(|stream| stream.write(line.as_bytes()));
        // Nothing was written before: it is taken whole, or the host program has gone.
        if sent != Some(Sent::Bytes(line.len())) {
            self.abort();
        }
    }

    /// Row 38: what is kept is bounded by the credit that the guest had.
    fn take_in(&mut self, len: u32, data: &mut Reader<'_>, scratch: &mut [u8]) -> Result<(), BufferError> {
        if self.guest_shut & SHUTDOWN_SEND != 0 || self.from_guest.receive(len).is_err() {
            self.abort();
            return Ok(());
        }
        let mut left = len as usize;
        while left > 0 {
            let most = scratch.len().min(left);
            let piece = scratch.get_mut(..most).unwrap_or_default();
            data.read_exact(piece)?;
            self.unread.extend(&*piece);
            left -= most;
            // What the host program takes at once is never kept for long.
            self.flush();
        }
        Ok(())
    }

    /// Hands over what the host program takes.
    fn flush(&mut self) {
        while let (Some(stream), false) = (&self.stream, self.unread.is_empty()) {
            match stream.write(self.unread.as_slices().0) {
                Sent::Bytes(count) => {
                    self.unread.drain(..count);
                    self.from_guest.forward(count as u32);
                }
                Sent::Blocked => return,
                Sent::Closed => {
                    self.host_shut |= SHUTDOWN_RECEIVE;
                    break;
                }
            }
        }
        self.flushed();
    }

    /// The host program has all that it will read.
    fn flushed(&mut self) {
        self.from_guest.forward(self.unread.len() as u32);
        self.unread.clear();
        match (self.phase, self.guest_shut) {
            (Phase::Draining, _) => self.end(Phase::Over),
            // virtio 1.3 §5.10.6.5: a connection that the sender has shut down in both directions is answered by a reset.
            (Phase::Open, BOTH) => self.end(Phase::Resetting),
            (Phase::Open, SHUTDOWN_SEND) => self.tell_host(SHUTDOWN_SEND, Shutdown::Write),
            _ => {}
        }
    }

    fn guest_shuts(&mut self, flags: u32) {
        self.guest_shut |= flags;
        if self.guest_shut & SHUTDOWN_RECEIVE != 0 {
            self.unsent.clear();
            self.tell_host(SHUTDOWN_RECEIVE, Shutdown::Read);
        }
        self.flush();
    }

    /// Once: that alone is an event on the socket.
    fn tell_host(&mut self, flag: u32, how: Shutdown) {
        if let (Some(stream), 0) = (&self.stream, self.guest_shut_told & flag) {
            stream.shutdown(how);
        }
        self.guest_shut_told |= flag;
    }

    /// The guest has dropped it.
    fn forget(&mut self) {
        match (self.phase, self.unread.is_empty()) {
            (Phase::Open, false) => self.phase = Phase::Draining,
            (Phase::Draining, _) => {}
            _ => self.end(Phase::Over),
        }
    }

    /// The guest has broken the rules, or the host program has gone too early.
    fn abort(&mut self) {
        self.end(Phase::Resetting);
    }

    fn end(&mut self, phase: Phase) {
        self.phase = phase;
        self.stream = None;
        self.unread = VecDeque::new();
        self.unsent = VecDeque::new();
    }

    /// The host program has read, written, or gone.
    pub(crate) fn host_moves(&mut self) {
        self.readable = true;
        let gone = |stream: &Option<Stream>| stream.as_ref().is_some_and(Stream::is_gone);
        match self.phase {
            Phase::Requesting if gone(&self.stream) => self.end(Phase::Over),
            Phase::Requested | Phase::Responding if gone(&self.stream) => self.abort(),
            Phase::Open | Phase::Draining => {
                if self.host_shut & SHUTDOWN_SEND != 0 && gone(&self.stream) {
                    self.host_is_gone();
                }
                self.flush();
            }
            _ => {}
        }
    }

    /// It neither reads nor writes any more, and all that it wrote was read.
    fn host_is_gone(&mut self) {
        self.host_shut = BOTH;
        self.stream = None;
        self.flushed();
    }

    /// Reads what the host program has written, as far as the guest has credit for it.
    fn read_on(&mut self, scratch: &mut [u8]) {
        let most = scratch.len().min(self.to_guest.room() as usize);
        let ended = (self.host_shut & SHUTDOWN_SEND) | (self.guest_shut & SHUTDOWN_RECEIVE);
        let wanted = self.readable && self.unsent.is_empty() && most > 0 && ended == 0;
        let (true, Some(stream)) = (wanted, &self.stream) else { return };
        let room = scratch.get_mut(..most).unwrap_or_default();
        match stream.read(room) {
            Got::Bytes(count) => self.unsent.extend(room.get(..count).unwrap_or_default()),
            Got::Nothing => self.readable = false,
            Got::End => {
                self.host_shut |= SHUTDOWN_SEND;
                if stream.is_gone() {
                    self.host_is_gone();
                }
            }
        }
    }

    /// What is to be said to the guest next, if anything. `scratch` is for data on its way.
    pub(crate) fn next(&mut self, scratch: &mut [u8]) -> Option<Op> {
        match self.phase {
            Phase::Requesting => Some(Op::Request),
            Phase::Responding => Some(Op::Response),
            Phase::Resetting => Some(Op::Reset),
            Phase::Open => self.next_of_open(scratch),
            Phase::Requested | Phase::Draining | Phase::Over => None,
        }
    }

    fn next_of_open(&mut self, scratch: &mut [u8]) -> Option<Op> {
        self.read_on(scratch);
        let (waiting, room) = (!self.unsent.is_empty(), self.to_guest.room());
        let untold = self.host_shut & !self.host_shut_told;
        if waiting && room > 0 {
            Some(Op::Data)
        } else if (waiting || self.readable) && room == 0 && !self.credit_asked {
            Some(Op::CreditRequest)
        } else if self.credit_wanted || self.from_guest.is_worth_telling() {
            Some(Op::CreditUpdate)
        } else if !waiting && untold != 0 {
            Some(Op::Shutdown)
        } else {
            None
        }
    }

    /// Says it: writes the packet, and returns its length in bytes.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn say(&mut self, op: Op, guest_cid: u32, chain: &Chain) -> Result<u32, BufferError> {
        let mut writer = chain.writer();
        let room = usize::try_from(writer.remaining()).unwrap_or(usize::MAX).saturating_sub(HEADER_LEN);
        let credit = self.to_guest.room() as usize;
        let len = if op == Op::Data { self.unsent.len().min(room).min(credit) } else { 0 };
        let flags = if op == Op::Shutdown { self.host_shut } else { 0 };
        let header = self.header(op, guest_cid, len as u32, flags);
        writer.write_all(&header.to_bytes())?;
        let (first, second) = self.unsent.as_slices();
        let in_first = first.len().min(len);
        writer.write_all(first.get(..in_first).unwrap_or_default())?;
        writer.write_all(second.get(..len - in_first).unwrap_or_default())?;
        self.unsent.drain(..len);
        self.to_guest.send(len as u32);
        self.said(op);
        Ok((HEADER_LEN + len) as u32)
    }

    fn header(&mut self, op: Op, guest_cid: u32, len: u32, flags: u32) -> Header {
        Header {
            src_cid: HOST_CID,
            dst_cid: guest_cid.into(),
            src_port: self.ports.host,
            dst_port: self.ports.guest,
            len,
            socket_type: TYPE_STREAM,
            op: number(op),
            flags,
            buf_alloc: BUFFER_BYTES,
            fwd_cnt: self.from_guest.tell(),
        }
    }

    fn said(&mut self, op: Op) {
        self.credit_wanted = false;
        match op {
            Op::Request => self.phase = Phase::Requested,
            Op::Response => self.phase = Phase::Open,
            Op::Reset => self.phase = Phase::Over,
            Op::Shutdown => self.host_shut_told = self.host_shut,
            Op::CreditRequest => self.credit_asked = true,
            Op::Data | Op::CreditUpdate => {}
        }
    }
}

fn number(op: Op) -> u16 {
    match op {
        Op::Request => OP_REQUEST,
        Op::Response => OP_RESPONSE,
        Op::Reset => OP_RST,
        Op::Shutdown => OP_SHUTDOWN,
        Op::Data => OP_RW,
        Op::CreditUpdate => OP_CREDIT_UPDATE,
        Op::CreditRequest => OP_CREDIT_REQUEST,
    }
}

/// What answers a packet of no connection.
pub(crate) fn reset_for(packet: &Header) -> Header {
    Header {
        src_cid: packet.dst_cid,
        dst_cid: packet.src_cid,
        src_port: packet.dst_port,
        dst_port: packet.src_port,
        socket_type: packet.socket_type,
        op: OP_RST,
        ..Header::default()
    }
}
