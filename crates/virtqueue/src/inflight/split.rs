//! The record of a split queue: for each head, whether it is in flight and since when; and the list of the last batch of used
//! heads, from which a crash between publishing and recording is told.

use super::{IN_FLIGHT, VERSION, Words, field, word};
use crate::area::{Area, Areas, Mapped};
use crate::buffers::Buffers;
use crate::chain::Body;
use crate::device::{MoreWork, Notify, Options, Used};
use crate::error::{QueueError, SetupError};
use crate::layout::{QueuePosition, RingIndex};
use crate::memory::MemoryFault;
use crate::split;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use vioduct_spec::ring::split::USED_IDX;

/// Features, then version, size, head of the last batch, used index.
pub(super) const HEADER_WORDS: usize = 2;
/// In flight (8 bits) and next of the batch (the highest 16), then the counter.
pub(super) const ENTRY_WORDS: usize = 2;

/// A split ring and its record.
pub(crate) struct Ring {
    pub(super) ring: split::device::Ring<Mapped>,
    pub(super) record: Record,
    /// Heads that were in flight when the queue stopped without completing them, oldest first.
    again: VecDeque<u16>,
}

impl Ring {
    /// Resumes from the record; if there is nothing in it yet, starts at `position`.
    pub(crate) fn new(
        areas: Areas<Mapped>,
        size: u16,
        options: Options,
        position: QueuePosition,
        words: Words,
    ) -> Result<Self, SetupError> {
        let used = areas.device.load_u16(USED_IDX, Ordering::Acquire)?;
        let (record, again) = Record::open(words, size, options, used)?;
        let position = match &again {
            None => position,
            Some(again) => {
                let index = |index| RingIndex { index, ..RingIndex::START };
                let available = index(used.wrapping_add(again.len() as u16));
                QueuePosition { available, used: index(used) }
            }
        };
        let ring = split::device::Ring::new(areas, size, options, position)?;
        Ok(Self { ring, record, again: again.unwrap_or_default() })
    }

    pub(crate) fn position(&self) -> QueuePosition {
        self.ring.position()
    }

    pub(crate) fn pop(&mut self, buffers: &mut Buffers) -> Result<Option<Box<Body>>, QueueError> {
        if let Some(head) = self.again.pop_front() {
            let body = self.ring.pop_head(head, buffers)?;
            self.record.popped_again(head);
            return Ok(Some(body));
        }
        let popped = self.ring.pop(buffers)?;
        if let Some(body) = &popped {
            self.record.popped(body.id)?;
        }
        Ok(popped)
    }

    pub(crate) fn push_used(&mut self, used: Used) -> Result<(), QueueError> {
        self.record.completed(used);
        self.ring.push_used(used)
    }

    pub(crate) fn publish(&mut self) -> Result<Notify, QueueError> {
        self.record.announce()?;
        let notify = self.ring.publish()?;
        self.record.confirm()?;
        Ok(notify)
    }

    pub(crate) fn arm(&mut self) -> Result<MoreWork, QueueError> {
        let more = self.ring.arm()?;
        Ok(if self.again.is_empty() { more } else { MoreWork::Pending })
    }

    pub(crate) fn poll(&mut self) -> Result<MoreWork, QueueError> {
        if self.again.is_empty() { self.ring.poll() } else { Ok(MoreWork::Pending) }
    }

    pub(crate) fn disarm(&mut self) -> Result<(), QueueError> {
        self.ring.disarm()
    }
}

/// The record, and private copies of what it must not be asked for.
pub(super) struct Record {
    words: Words,
    size: u16,
    /// Of each head, what follows it in the list of used heads.
    next: Box<[u16]>,
    last_batch: u16,
    used: u16,
    counter: u64,
    /// Used heads that are not published.
    batch: Vec<u16>,
    /// With `IN_ORDER`, where one used entry stands for several heads: what is in flight, oldest first.
    order: Option<VecDeque<u16>>,
}

impl Record {
    /// Opens a record beside a ring with the used index `used`: what is in flight, oldest first, or `None` if it is a new one.
    fn open(
        words: Words,
        size: u16,
        options: Options,
        used: u16,
    ) -> Result<(Self, Option<VecDeque<u16>>), SetupError> {
        let state = words.load(1)?;
        let mut record = Self {
            words,
            size,
            next: (0..size).map(|_| 0).collect(),
            last_batch: field(state, 2),
            used,
            counter: 0,
            batch: Vec::with_capacity(usize::from(size)),
            order: options.in_order.then(VecDeque::new),
        };
        match field(state, 0) {
            0 => {
                record.begin()?;
                Ok((record, None))
            }
            VERSION if field(state, 1) == size => {
                record.forget_batch(used.wrapping_sub(field(state, 3)))?;
                let again = record.in_flight()?;
                Ok((record, Some(again)))
            }
            _ => Err(SetupError::Record),
        }
    }

    /// A new record: the version last, so that a crash before leaves a new one.
    fn begin(&mut self) -> Result<(), MemoryFault> {
        self.last_batch = 0;
        self.words.store(0, 0)?;
        for head in 0..self.size {
            self.mark(head, 0)?;
            self.words.store(Self::entry(head) + 1, 0)?;
        }
        self.store_state()
    }

    /// `count` heads were published and their record was not brought up to date: they are the last of the list.
    fn forget_batch(&mut self, count: u16) -> Result<(), SetupError> {
        if count > self.size {
            return Err(SetupError::Record);
        }
        for head in 0..self.size {
            let next = field(self.words.load(Self::entry(head))?, 3);
            if let Some(place) = self.next.get_mut(usize::from(head)) {
                *place = next;
            }
        }
        let mut head = self.last_batch;
        for _ in 0..count {
            if head >= self.size {
                return Err(SetupError::Record);
            }
            self.mark(head, 0)?;
            head = self.next_of(head);
        }
        Ok(self.store_state()?)
    }

    /// Heads in flight, oldest first; later ones are counted on from there.
    fn in_flight(&mut self) -> Result<VecDeque<u16>, MemoryFault> {
        let mut found = Vec::new();
        for head in 0..self.size {
            if self.words.load(Self::entry(head))? & 0xff == IN_FLIGHT {
                found.push((self.words.load(Self::entry(head) + 1)?, head));
            }
        }
        found.sort_unstable();
        self.counter = found.last().map_or(0, |(counter, _)| counter.wrapping_add(1));
        Ok(found.into_iter().map(|(_, head)| head).collect())
    }

    pub(super) fn popped(&mut self, head: u16) -> Result<(), MemoryFault> {
        self.words.store(Self::entry(head) + 1, self.counter)?;
        self.counter = self.counter.wrapping_add(1);
        self.mark(head, IN_FLIGHT)?;
        self.popped_again(head);
        Ok(())
    }

    /// It is in the record already.
    fn popped_again(&mut self, head: u16) {
        if let Some(order) = &mut self.order {
            order.push_back(head);
        }
    }

    pub(super) fn completed(&mut self, used: Used) {
        match &mut self.order {
            None => self.batch.push(used.id),
            Some(order) => {
                let count = usize::from(used.buffers).min(order.len());
                self.batch.extend(order.drain(..count));
            }
        }
    }

    /// Before the used index moves: lists the batch.
    pub(super) fn announce(&mut self) -> Result<(), MemoryFault> {
        if self.batch.is_empty() {
            return Ok(());
        }
        for place in 0..self.batch.len() {
            let Some(head) = self.batch.get(place).copied() else { break };
            if let Some(next) = self.next.get_mut(usize::from(head)) {
                *next = self.last_batch;
            }
            self.mark(head, IN_FLIGHT)?;
            self.last_batch = head;
        }
        self.store_state()
    }

    /// After it has moved: the batch is in flight no more.
    pub(super) fn confirm(&mut self) -> Result<(), MemoryFault> {
        if self.batch.is_empty() {
            return Ok(());
        }
        for place in 0..self.batch.len() {
            let Some(head) = self.batch.get(place).copied() else { break };
            self.mark(head, 0)?;
        }
        self.used = self.used.wrapping_add(self.batch.len() as u16);
        self.batch.clear();
        self.store_state()
    }

    const fn entry(head: u16) -> usize {
        HEADER_WORDS + ENTRY_WORDS * head as usize
    }

    fn next_of(&self, head: u16) -> u16 {
        self.next.get(usize::from(head)).copied().unwrap_or_default()
    }

    fn mark(&self, head: u16, in_flight: u64) -> Result<(), MemoryFault> {
        self.words.store(Self::entry(head), in_flight | word([0, 0, 0, self.next_of(head)]))
    }

    fn store_state(&self) -> Result<(), MemoryFault> {
        self.words.store(1, word([VERSION, self.size, self.last_batch, self.used]))
    }
}
