//! [`Connection`]: data, credit (virtio 1.3 §5.10.6.3, counters that go around), and what is to be said next.

use super::{Progress, Received, SocketError};
use alloc::collections::VecDeque;
use vioduct_spec::vsock::{
    HOST_CID, Header, OP_CREDIT_REQUEST, OP_CREDIT_UPDATE, OP_REQUEST, OP_RESPONSE, OP_RST, OP_RW,
    OP_SHUTDOWN, SHUTDOWN_RECEIVE, SHUTDOWN_SEND, TYPE_STREAM,
};

/// Bytes that are kept until they are received: the other side's credit on each connection.
pub const BUFFER_BYTES: u32 = 64 << 10;
/// The other side is told of its credit once this much of it is new.
const WORTH_TELLING_BYTES: u32 = BUFFER_BYTES / 4;
const BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// What a packet says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Say {
    Request,
    Response,
    Reset,
    Shutdown,
    Data,
    CreditUpdate,
    CreditRequest,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The host is to be asked.
    Requesting,
    /// It was.
    Requested,
    /// The host has asked, and is to be answered.
    Responding,
    Open,
    /// It is over, which the host is to be told.
    Resetting,
    Over,
}

#[derive(Debug)]
pub(super) struct Connection {
    local: u32,
    remote: u32,
    phase: Phase,
    /// Nobody has it here any more.
    closed: bool,
    received: VecDeque<u8>,
    received_count: u32,
    consumed: u32,
    /// The consumed bytes that the host was told of.
    told: u32,
    sent: u32,
    host_consumed: u32,
    host_buffer_bytes: u32,
    /// What the host does no more, and this side: flags of SHUTDOWN.
    host_shut: u32,
    shut: u32,
    shut_told: u32,
    credit_wanted: bool,
    /// The host is to be asked for credit; and was, and has not given any.
    starved: bool,
    credit_asked: bool,
}

impl Connection {
    pub(super) fn requesting(local: u32, remote: u32) -> Self {
        Self::new(local, remote, Phase::Requesting)
    }

    pub(super) fn responding(request: &Header) -> Self {
        let mut connection = Self::new(request.dst_port, request.src_port, Phase::Responding);
        connection.learn(request);
        connection
    }

    fn new(local: u32, remote: u32, phase: Phase) -> Self {
        Self {
            local,
            remote,
            phase,
            closed: false,
            received: VecDeque::new(),
            received_count: 0,
            consumed: 0,
            told: 0,
            sent: 0,
            host_consumed: 0,
            host_buffer_bytes: 0,
            host_shut: 0,
            shut: 0,
            shut_told: 0,
            credit_wanted: false,
            starved: false,
            credit_asked: false,
        }
    }

    pub(super) fn ports(&self) -> (u32, u32) {
        (self.local, self.remote)
    }

    pub(super) fn progress(&self) -> Progress {
        match self.phase {
            Phase::Requesting | Phase::Requested => Progress::Connecting,
            Phase::Responding | Phase::Open => Progress::Open,
            Phase::Resetting | Phase::Over => Progress::Over,
        }
    }

    /// Whether neither side has it any more.
    pub(super) fn is_done(&self) -> bool {
        self.closed && self.phase == Phase::Over
    }

    /// A packet has come.
    pub(super) fn hear(&mut self, header: &Header, data: &[u8]) {
        self.learn(header);
        match (self.phase, header.op) {
            (_, OP_RST) => self.phase = Phase::Over,
            (Phase::Resetting | Phase::Over, _) => {}
            (Phase::Requested, OP_RESPONSE) => self.phase = Phase::Open,
            (Phase::Open, OP_RW) => self.take_in(data),
            (Phase::Open, OP_SHUTDOWN) => self.host_shuts(header.flags & BOTH),
            (Phase::Open, OP_CREDIT_UPDATE) => {}
            (Phase::Open, OP_CREDIT_REQUEST) => self.credit_wanted = true,
            _ => self.phase = Phase::Resetting,
        }
    }

    /// The credit that every packet carries. A host that says it has consumed what was never sent is left.
    fn learn(&mut self, header: &Header) {
        let in_flight = self.sent.wrapping_sub(self.host_consumed);
        if header.fwd_cnt.wrapping_sub(self.host_consumed) > in_flight {
            self.phase = Phase::Resetting;
            return;
        }
        (self.host_consumed, self.host_buffer_bytes) = (header.fwd_cnt, header.buf_alloc);
        if self.room() > 0 {
            (self.starved, self.credit_asked) = (false, false);
        }
    }

    /// A host may have made its buffer smaller than what is in flight.
    fn room(&self) -> u32 {
        self.host_buffer_bytes.saturating_sub(self.sent.wrapping_sub(self.host_consumed))
    }

    /// Row 38 the other way around: a host that sends more than it has credit for is left.
    fn take_in(&mut self, data: &[u8]) {
        let kept = self.received_count.wrapping_sub(self.consumed);
        let beyond = data.len() as u64 > u64::from(BUFFER_BYTES.saturating_sub(kept));
        if beyond || self.host_shut & SHUTDOWN_SEND != 0 {
            self.phase = Phase::Resetting;
            return;
        }
        self.received_count = self.received_count.wrapping_add(data.len() as u32);
        if self.closed || self.shut & SHUTDOWN_RECEIVE != 0 {
            self.consumed = self.consumed.wrapping_add(data.len() as u32);
        } else {
            self.received.extend(data);
        }
    }

    /// virtio 1.3 §5.10.6.5: a shutdown of both directions is answered by a reset.
    fn host_shuts(&mut self, flags: u32) {
        self.host_shut |= flags;
        if self.host_shut == BOTH {
            self.phase = Phase::Resetting;
        }
    }

    pub(super) fn receive(&mut self, out: &mut [u8]) -> Received {
        let ended = self.host_shut & SHUTDOWN_SEND != 0 || self.progress() == Progress::Over;
        let mut count = 0;
        for (to, from) in out.iter_mut().zip(self.received.iter()) {
            *to = *from;
            count += 1;
        }
        self.received.drain(..count);
        self.consumed = self.consumed.wrapping_add(count as u32);
        match (count, ended || self.shut & SHUTDOWN_RECEIVE != 0) {
            (0, true) if !out.is_empty() => Received::End,
            (0, _) => Received::Nothing,
            (count, _) => Received::Bytes(count),
        }
    }

    /// How many bytes can be sent now. If none, the host is asked for credit.
    pub(super) fn sendable(&mut self) -> Result<usize, SocketError> {
        let ended = self.host_shut & SHUTDOWN_RECEIVE != 0 || self.shut & SHUTDOWN_SEND != 0;
        match self.phase {
            Phase::Resetting | Phase::Over => Err(SocketError::Ended),
            _ if ended => Err(SocketError::Ended),
            Phase::Open => {
                self.starved = self.room() == 0;
                Ok(self.room() as usize)
            }
            Phase::Requesting | Phase::Requested | Phase::Responding => Ok(0),
        }
    }

    pub(super) fn shutdown(&mut self, flag: u32) {
        self.shut |= flag;
        if flag & SHUTDOWN_RECEIVE != 0 {
            self.discard();
        }
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
        self.shut = BOTH;
        self.discard();
        match self.phase {
            // The host has not heard of it.
            Phase::Requesting => self.phase = Phase::Over,
            Phase::Requested | Phase::Responding => self.phase = Phase::Resetting,
            Phase::Open | Phase::Resetting | Phase::Over => {}
        }
    }

    fn discard(&mut self) {
        self.consumed = self.consumed.wrapping_add(self.received.len() as u32);
        self.received = VecDeque::new();
    }

    /// The device has lost it.
    pub(super) fn lose(&mut self) {
        self.phase = Phase::Over;
    }

    /// What is to be said, beside data.
    pub(super) fn next(&mut self) -> Option<Say> {
        let untold = self.shut & !self.shut_told != 0;
        let worth_telling = self.consumed.wrapping_sub(self.told) >= WORTH_TELLING_BYTES;
        match self.phase {
            Phase::Requesting => Some(Say::Request),
            Phase::Responding => Some(Say::Response),
            Phase::Resetting => Some(Say::Reset),
            Phase::Open if untold => Some(Say::Shutdown),
            Phase::Open if self.credit_wanted || worth_telling => Some(Say::CreditUpdate),
            Phase::Open if self.starved && !self.credit_asked => Some(Say::CreditRequest),
            Phase::Open | Phase::Requested | Phase::Over => None,
        }
    }

    /// The header of a packet with `len` bytes of data.
    pub(super) fn header(&self, say: Say, cid: u64, len: u32) -> Header {
        Header {
            src_cid: cid,
            dst_cid: HOST_CID,
            src_port: self.local,
            dst_port: self.remote,
            len,
            socket_type: TYPE_STREAM,
            op: number(say),
            flags: if say == Say::Shutdown { self.shut } else { 0 },
            buf_alloc: BUFFER_BYTES,
            fwd_cnt: self.consumed,
        }
    }

    /// It was said.
    pub(super) fn said(&mut self, say: Say, len: u32) {
        (self.told, self.credit_wanted) = (self.consumed, false);
        match say {
            Say::Request => self.phase = Phase::Requested,
            Say::Response => self.phase = Phase::Open,
            Say::Reset => self.phase = Phase::Over,
            Say::Shutdown => self.shut_told = self.shut,
            Say::Data => self.sent = self.sent.wrapping_add(len),
            Say::CreditRequest => self.credit_asked = true,
            Say::CreditUpdate => {}
        }
    }
}

fn number(say: Say) -> u16 {
    match say {
        Say::Request => OP_REQUEST,
        Say::Response => OP_RESPONSE,
        Say::Reset => OP_RST,
        Say::Shutdown => OP_SHUTDOWN,
        Say::Data => OP_RW,
        Say::CreditUpdate => OP_CREDIT_UPDATE,
        Say::CreditRequest => OP_CREDIT_REQUEST,
    }
}
