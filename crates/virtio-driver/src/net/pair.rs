//! [`Pair`]: a queue to receive and one to send, and the buffers that go between them.

use super::header::{Header, Raw};
use crate::device::{Device, Negotiated};
use crate::dma::{Dma, DmaBuffer};
use crate::error::{InitError, RequestError};
use crate::lent::Lent;
use crate::request_queue::Options;
use crate::transport::Transport;
use crate::virtqueue::{QueueSetup, Virtqueue};
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use vioduct_spec::Features;
use vioduct_spec::net::{
    GUEST_OFFLOADS, HEADER_LEN, MAX_FRAME_BYTES, MRG_RXBUF, receive_queue, transmit_queue,
};
use vioduct_virtqueue::{AddError, Buffer, Completion};

/// Bytes that a buffer is a multiple of: two ends do not share a cache line.
const ALIGN: usize = 64;

/// Bytes before a buffer, so that a packet behind its header is aligned to 16 bytes: devices copy it by wide accesses.
const LEAD: usize = HEADER_LEN.next_multiple_of(16) - HEADER_LEN;

/// Bytes of the longest packet, header included.
const LONGEST: u32 = (HEADER_LEN + MAX_FRAME_BYTES) as u32;

/// Packets that are taken from the queue together, so that the processor fetches what is waited for otherwise, one after the other.
const LOOK_AHEAD: usize = 32;

/// A packet that was received, where it lies. Dropped, its buffers are lost until the device is reset: give it to
/// [`Net::release`](super::Net::release) or [`Net::forward`](super::Net::forward).
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a packet keeps its buffers until it is released or forwarded"]
pub struct Received {
    first: Piece,
    frame_len: usize,
    header: Raw,
}

/// What is in one buffer. One word, as it is stored and loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Piece(u64);

impl Piece {
    const fn new(slot: u16, written: u32) -> Self {
        Self((slot as u64) << 32 | written as u64)
    }

    const fn slot(self) -> u16 {
        (self.0 >> 32) as u16
    }

    const fn written(self) -> u32 {
        self.0 as u32
    }
}

impl Received {
    /// What is to be done to it, or has been.
    #[must_use]
    pub const fn header(&self) -> Header {
        self.header.decode()
    }

    /// Its length in bytes, without the header.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub const fn len(&self) -> usize {
        self.frame_len
    }
}

pub(super) struct Pair<D: Dma> {
    receive: Virtqueue<D, u16>,
    transmit: Virtqueue<D, u16>,
    memory: Lent<DmaBuffer<D>>,
    slot_len: usize,
    buffer_len: u32,
    /// Slots of which nobody has use.
    free: Vec<u16>,
    /// What lies behind that of a slot, where a packet is in several.
    links: Vec<Option<Piece>>,
    /// Taken from the queue, and of packets not yet received.
    ahead: VecDeque<Piece>,
    /// Kept from one packet to the next, so that none allocates.
    pieces: Vec<Buffer>,
    /// The device gets buffers to fill once it lacks so many.
    refill_at: u16,
    merges: bool,
    headers: Headers,
}

/// A quarter of a queue, so that the device is shown new buffers seldom: each time, it waits for a line that this processor has written.
/// Fewer where the rest would not do for the longest packet, for which a device may wait.
fn refill_at(size: u16, buffers_of_longest: u32) -> u16 {
    let spare = u32::from(size).saturating_sub(buffers_of_longest) as u16;
    (size / 4).min(spare).max(1)
}

/// What a received packet's header can say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Headers {
    /// What an offload has done, or is yet to do.
    Meaningful,
    /// How many buffers the packet is in, and nothing else.
    Counts,
    /// Nothing.
    Plain,
}

impl Headers {
    const fn of(negotiated: Features) -> Self {
        match (negotiated.0 & GUEST_OFFLOADS.0, negotiated.contains(MRG_RXBUF)) {
            (1.., _) => Self::Meaningful,
            (0, true) => Self::Counts,
            (0, false) => Self::Plain,
        }
    }

    /// Whether the one before a packet is looked at, which would be waited for: the device has just written its line. Of several buffers
    /// it fills all but the last (virtio 1.3 §5.1.6.4.1), so one that is not full is the only one.
    const fn says(self, buffer: Filled) -> bool {
        match self {
            Self::Meaningful => true,
            Self::Counts => matches!(buffer, Filled::Whole),
            Self::Plain => false,
        }
    }
}

/// How far a packet's first buffer was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Filled {
    Whole,
    Partly,
}

impl<D: Dma + Clone> Pair<D> {
    pub(super) fn set_up<T: Transport>(
        device: &mut Device<T, Negotiated>,
        number: u16,
        buffer_len: u32,
        options: &Options,
        dma: &D,
    ) -> Result<Self, InitError> {
        let setup = QueueSetup { max_size: options.queue_size, indirect_entries: options.indirect_entries };
        let negotiated = device.negotiated();
        let receive = device.set_up_queue(receive_queue(number), setup, dma)?;
        let transmit = device.set_up_queue(transmit_queue(number), setup, dma)?;
        let buffer_len = buffer_len.max(HEADER_LEN as u32 + 1);
        let slot_len = (LEAD + buffer_len as usize).next_multiple_of(ALIGN);
        let slots = receive.ring().size().saturating_add(transmit.ring().size());
        let memory = DmaBuffer::new(dma.clone(), slot_len * usize::from(slots))?;
        let merges = negotiated.contains(MRG_RXBUF);
        let buffers_of_longest = if merges { LONGEST.div_ceil(buffer_len) } else { 1 };
        Ok(Self {
            refill_at: refill_at(receive.ring().size(), buffers_of_longest),
            memory: Lent::new(memory, receive.access()),
            receive,
            transmit,
            slot_len,
            buffer_len,
            free: (0..slots).rev().collect(),
            links: vec![None; slots.into()],
            ahead: VecDeque::with_capacity(LOOK_AHEAD),
            pieces: Vec::new(),
            merges,
            headers: Headers::of(negotiated),
        })
    }
}

impl<D: Dma> Pair<D> {
    fn at(&self, slot: u16) -> usize {
        usize::from(slot) * self.slot_len + LEAD
    }

    fn buffer(&self, slot: u16, len: u32) -> Result<Buffer, RequestError> {
        Ok(self.memory.piece(self.at(slot), len)?)
    }

    pub(super) fn send(&mut self, header: &Header, frame: &[u8]) -> Result<(), RequestError> {
        let len = HEADER_LEN + frame.len();
        if len > self.buffer_len as usize {
            return Err(RequestError::TooLong { len, slot: self.buffer_len as usize });
        }
        self.make_room(1)?;
        if self.free.is_empty() {
            self.reclaim()?;
        }
        let slot = *self.free.last().ok_or(RequestError::Full)?;
        let start = self.at(slot);
        Raw::of(header).write(&mut self.memory, start)?;
        self.memory.write(start + HEADER_LEN, frame)?;
        self.transmit
            .add(&[self.buffer(slot, len as u32)?], &[], slot)
            .map_err(|(error, _)| refusal(error))?;
        self.free.pop();
        Ok(())
    }

    #[inline]
    pub(super) fn receive(&mut self) -> Result<Option<Received>, RequestError> {
        while let Some(first) = self.next()? {
            // A device that gives a buffer back empty has had no use for it.
            let Some(frame_len) = (first.written() as usize).checked_sub(HEADER_LEN) else {
                self.free.push(first.slot());
                continue;
            };
            let filled = if first.written() < self.buffer_len { Filled::Partly } else { Filled::Whole };
            let header = match self.headers.says(filled) {
                true => Raw::read(&self.memory, self.at(first.slot()))?,
                false => Raw::PLAIN,
            };
            let mut packet = Received { first, frame_len, header };
            if self.merges && header.buffers() > 1 {
                self.gather(&mut packet)?;
            }
            return Ok(Some(packet));
        }
        Ok(None)
    }

    /// virtio 1.3 §5.1.6.4: the others are there when the first is; a device may say of their number what it likes.
    #[inline(never)]
    fn gather(&mut self, packet: &mut Received) -> Result<(), RequestError> {
        let (buffers, mut last) = (packet.header.buffers(), packet.first);
        for number in 1..buffers {
            let Some(piece) = self.next()? else {
                self.let_go(packet.first.slot());
                return Err(RequestError::ShortReply { written: number.into(), wanted: buffers.into() });
            };
            packet.frame_len += piece.written() as usize;
            if let Some(link) = self.links.get_mut(usize::from(last.slot())) {
                *link = Some(piece);
            }
            last = piece;
        }
        Ok(())
    }

    #[inline]
    fn next(&mut self) -> Result<Option<Piece>, RequestError> {
        self.at_hand()?;
        Ok(self.ahead.pop_front())
    }

    /// Takes packets from the queue, and has the processor fetch them.
    fn look_ahead(&mut self) -> Result<(), RequestError> {
        let room = LOOK_AHEAD.saturating_sub(self.ahead.len()) as u16;
        for _ in 0..self.receive.ring().whole_lines(room) {
            let completion = match self.receive.get() {
                // A queue that is broken says so again, once these are received.
                Err(_) if !self.ahead.is_empty() => break,
                outcome => outcome?,
            };
            let Some(Completion { token: slot, written }) = completion else { break };
            self.memory.fetch_to_write(self.at(slot));
            self.ahead.push_back(Piece::new(slot, written));
        }
        Ok(())
    }

    /// How many buffers with packets were taken from the queue together, and are not received yet.
    #[inline]
    pub(super) fn at_hand(&mut self) -> Result<usize, RequestError> {
        if self.ahead.is_empty() {
            self.look_ahead()?;
        }
        Ok(self.ahead.len())
    }

    fn behind(&self, piece: Piece) -> Option<Piece> {
        self.links.get(usize::from(piece.slot())).copied().flatten()
    }

    fn pieces(&self, packet: &Received) -> impl Iterator<Item = Piece> {
        core::iter::successors(Some(packet.first), |piece| self.behind(*piece))
    }

    pub(super) fn read(
        &self,
        packet: &Received,
        offset: usize,
        out: &mut [u8],
    ) -> Result<usize, RequestError> {
        let (mut skip, mut done) = (offset + HEADER_LEN, 0);
        for piece in self.pieces(packet) {
            let written = piece.written() as usize;
            let here = written.saturating_sub(skip);
            let room = out.get_mut(done..).unwrap_or_default();
            let len = here.min(room.len());
            if len > 0 {
                self.memory.read(self.at(piece.slot()) + skip, room.get_mut(..len).unwrap_or_default())?;
            }
            done += len;
            skip = skip.saturating_sub(written);
        }
        Ok(done)
    }

    #[inline]
    pub(super) fn overwrite(&mut self, packet: &Received, bytes: &[u8]) -> Result<(), RequestError> {
        let slot = (packet.first.written() as usize).saturating_sub(HEADER_LEN);
        if bytes.len() > slot {
            return Err(RequestError::TooLong { len: bytes.len(), slot });
        }
        let start = self.at(packet.first.slot()) + HEADER_LEN;
        Ok(self.memory.write(start, bytes)?)
    }

    #[inline]
    pub(super) fn forward(&mut self, packet: Received) -> Result<(), RequestError> {
        let outcome = self.try_forward(&packet);
        if outcome.is_err() {
            self.release(packet);
        }
        outcome
    }

    #[inline]
    fn try_forward(&mut self, packet: &Received) -> Result<(), RequestError> {
        let first = packet.first;
        let start = self.at(first.slot());
        Raw::PLAIN.write(&mut self.memory, start)?;
        if self.behind(first).is_some() {
            return self.forward_pieces(packet);
        }
        self.make_room(1)?;
        let only = self.buffer(first.slot(), first.written())?;
        self.transmit.add(&[only], &[], first.slot()).map_err(|(error, _)| refusal(error))
    }

    #[inline(never)]
    fn forward_pieces(&mut self, packet: &Received) -> Result<(), RequestError> {
        let mut pieces = core::mem::take(&mut self.pieces);
        pieces.clear();
        for piece in self.pieces(packet).filter(|piece| piece.written() > 0) {
            pieces.push(self.buffer(piece.slot(), piece.written())?);
        }
        // A queue that is broken refuses the packet, too, and the list is kept.
        let _ = self.make_room(pieces.len());
        // They come back together.
        let added = self.transmit.add(&pieces, &[], packet.first.slot());
        self.pieces = pieces;
        added.map_err(|(error, _)| refusal(error))
    }

    pub(super) fn release(&mut self, packet: Received) {
        self.let_go(packet.first.slot());
    }

    /// A slot, and those linked behind it, are free.
    #[inline]
    fn let_go(&mut self, first: u16) {
        let mut slot = Some(first);
        while let Some(gone) = slot {
            self.free.push(gone);
            slot = self.links.get_mut(usize::from(gone)).and_then(Option::take).map(Piece::slot);
        }
    }

    /// Collects buffers whose packets have gone.
    pub(super) fn reclaim(&mut self) -> Result<u16, RequestError> {
        let mut count = 0;
        while let Some(completion) = self.transmit.get()? {
            self.let_go(completion.token);
            count += 1;
        }
        Ok(count)
    }

    /// The same if a packet of so many pieces does not fit otherwise.
    #[inline]
    fn make_room(&mut self, pieces: usize) -> Result<(), RequestError> {
        if usize::from(self.transmit.ring().free_descriptors()) < pieces {
            self.reclaim()?;
        }
        Ok(())
    }

    /// What there is to be done once per batch, but to tell the device.
    #[inline]
    pub(super) fn turn(&mut self) -> Result<(), RequestError> {
        // What has come is fetched while buffers are taken and given.
        self.look_ahead()?;
        let (missing, room) =
            (self.receive.ring().free_descriptors(), self.transmit.ring().free_descriptors());
        let refill = missing >= self.refill_at;
        // Sent buffers are collected once they are needed: to be filled, or for a batch or two that is to be sent. Seldom and many at a
        // time, as each look takes a line from the device that it is about to write.
        if refill && self.free.len() < missing.into() || usize::from(room) < 2 * LOOK_AHEAD {
            self.reclaim()?;
        }
        if refill { self.replenish() } else { Ok(()) }
    }

    /// Shows a device that polls what is to be sent.
    #[inline]
    pub(super) fn publish(&mut self) {
        self.transmit.publish();
    }

    /// Shows the device what is to be sent, and buffers to fill; notifies it, if it wants to know.
    #[inline]
    pub(super) fn kick<T: Transport>(&mut self, transport: &mut T) -> Result<(), RequestError> {
        self.transmit.kick(transport)?;
        Ok(self.receive.kick(transport)?)
    }

    /// Gives the device buffers to fill, as many as its queue takes.
    #[inline]
    pub(super) fn replenish(&mut self) -> Result<(), RequestError> {
        for _ in 0..self.receive.ring().free_descriptors() {
            let Some(slot) = self.free.pop() else { break };
            let buffer = self.buffer(slot, self.buffer_len)?;
            if let Err((error, slot)) = self.receive.add(&[], &[buffer], slot) {
                self.free.push(slot);
                return Err(refusal(error));
            }
        }
        self.receive.publish();
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn receive_layout(&self) -> vioduct_virtqueue::RingLayout {
        self.receive.ring().layout()
    }

    #[cfg(test)]
    pub(super) fn lacking(&self) -> u16 {
        self.receive.ring().free_descriptors()
    }

    #[cfg(test)]
    pub(super) fn transmit_layout(&self) -> vioduct_virtqueue::RingLayout {
        self.transmit.ring().layout()
    }

    pub(super) fn sending(&self) -> u16 {
        self.transmit.ring().in_flight()
    }

    pub(super) fn disable_callbacks(&mut self) {
        self.receive.disable_callback();
        self.transmit.disable_callback();
    }
}

fn refusal(error: AddError) -> RequestError {
    match error {
        AddError::Full => RequestError::Full,
        AddError::Empty | AddError::TooLong => RequestError::TooLong { len: 0, slot: 0 },
        AddError::Broken => RequestError::Queue(vioduct_virtqueue::QueueError::Broken),
    }
}
