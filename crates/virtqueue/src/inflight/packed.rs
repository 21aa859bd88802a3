//! The record of a packed queue: the descriptors of each chain in flight, for the ring's may have been overwritten by used ones.
//!
//! After a crash, the descriptors between the next used place and the next available one are the device's, and as many as those of
//! the chains in flight. So the chains are put back there, in order, as if the driver had just made them available, and the ring
//! begins again at its next used place. That also takes back used descriptors of a batch that was never published. The driver does
//! not look there: it waits for its next used descriptor, which is the first of them and reads as available before and after.

use super::{IN_FLIGHT, VERSION, Words, field, word};
use crate::area::{Area, Areas, Descriptor, Mapped};
use crate::buffers::Buffers;
use crate::chain::Body;
use crate::device::{MoreWork, Notify, Options, Used};
use crate::error::{QueueError, SetupError};
use crate::layout::{QueuePosition, RingIndex, Wrap};
use crate::memory::MemoryFault;
use crate::packed::{self, available_bits, is_available};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use vioduct_spec::ring::{DESC_F_AVAIL, DESC_F_USED};

/// Features; version, size, free head and old free head; used index, old used index and both wrap counters; padding.
pub(super) const HEADER_WORDS: usize = 4;
/// In flight (8 bits), next, last, number of descriptors; counter; id, flags, length; address.
pub(super) const ENTRY_WORDS: usize = 4;

/// A packed ring and its record.
pub(crate) struct Ring {
    pub(super) ring: packed::device::Ring<Mapped>,
    pub(super) record: Record,
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
        let (record, position) = Record::open(words, size, options, position, &areas.descriptors)?;
        let ring = packed::device::Ring::new(areas, size, options, position)?;
        Ok(Self { ring, record })
    }

    pub(crate) fn position(&self) -> QueuePosition {
        self.ring.position()
    }

    pub(crate) fn pop(&mut self, buffers: &mut Buffers) -> Result<Option<Box<Body>>, QueueError> {
        let start = self.ring.position().available;
        let popped = self.ring.pop(buffers)?;
        if let Some(body) = &popped {
            self.record.popped(body, start, |place| self.ring.descriptor(place))?;
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
        self.ring.arm()
    }

    pub(crate) fn poll(&mut self) -> Result<MoreWork, QueueError> {
        self.ring.poll()
    }

    pub(crate) fn disarm(&mut self) -> Result<(), QueueError> {
        self.ring.disarm()
    }
}

/// One entry's first word, privately.
#[derive(Clone, Copy, Default)]
struct Entry {
    /// The next of the chain, or of the free list.
    next: u16,
    last: u16,
    descriptors: u16,
}

/// The record, and private copies of what it must not be asked for.
pub(super) struct Record {
    words: Words,
    size: u16,
    entries: Box<[Entry]>,
    free: u16,
    free_head: u16,
    old_free_head: u16,
    used: RingIndex,
    old_used: RingIndex,
    counter: u64,
    /// The first entry of the chain of each buffer id in flight.
    heads: Box<[u16]>,
    /// First entries of used chains that are not published.
    batch: Vec<u16>,
    /// With `IN_ORDER`, where one used descriptor stands for several chains: first entries in flight, oldest first.
    order: Option<VecDeque<u16>>,
}

impl Record {
    /// Opens a record beside a ring: where the ring begins.
    fn open(
        words: Words,
        size: u16,
        options: Options,
        position: QueuePosition,
        ring: &Mapped,
    ) -> Result<(Self, QueuePosition), SetupError> {
        let (lists, places) = (words.load(1)?, words.load(2)?);
        let mut record = Self {
            words,
            size,
            entries: vec![Entry::default(); usize::from(size)].into(),
            free: size,
            free_head: field(lists, 2),
            old_free_head: field(lists, 3),
            used: place(field(places, 0), places >> 32),
            old_used: place(field(places, 1), places >> 40),
            counter: 0,
            heads: vec![0; usize::from(size)].into(),
            batch: Vec::with_capacity(usize::from(size)),
            order: options.in_order.then(VecDeque::new),
        };
        match field(lists, 0) {
            0 => {
                (record.used, record.old_used) = (position.used, position.used);
                record.begin()?;
                Ok((record, position))
            }
            VERSION if field(lists, 1) == size => {
                record.settle_batch(ring)?;
                let chains = record.in_flight()?;
                record.put_back(&chains, ring)?;
                let start = record.used;
                Ok((record, QueuePosition { available: start, used: start }))
            }
            _ => Err(SetupError::Record),
        }
    }

    /// Nothing in flight: every entry in the free list.
    fn begin(&mut self) -> Result<(), MemoryFault> {
        self.free = self.size;
        (self.free_head, self.old_free_head) = (0, 0);
        self.words.store(0, 0)?;
        for entry in 0..self.size {
            if let Some(place) = self.entries.get_mut(usize::from(entry)) {
                *place = Entry { next: entry + 1, ..Entry::default() };
            }
            self.mark(entry, 0)?;
        }
        self.store_places()?;
        // With the version, so last: a crash before leaves a new record, or the one that is given up.
        self.store_lists()
    }

    /// If a batch was under way, it is taken as published or not at all, whichever its first descriptor says: it is as the driver
    /// made it, or the device has used it, or the driver has seen that and made it available in the next round.
    fn settle_batch(&mut self, ring: &Mapped) -> Result<(), SetupError> {
        if self.used.index >= self.size || self.old_used.index >= self.size {
            return Err(SetupError::Record);
        }
        if self.used != self.old_used {
            let first = ring.load_descriptor(usize::from(self.old_used.index), Ordering::Acquire)?;
            if !is_available(first.fourth(), self.old_used.wrap) {
                (self.old_used, self.old_free_head) = (self.used, self.free_head);
            }
        }
        (self.used, self.free_head) = (self.old_used, self.old_free_head);
        self.store_lists()?;
        Ok(self.store_places()?)
    }

    /// The chains in flight, oldest first: first entry and descriptors of each. An entry of the free list is not in flight, even
    /// if it says so; none is in two chains.
    fn in_flight(&mut self) -> Result<Vec<(u16, Vec<Descriptor>)>, SetupError> {
        let mut firsts = Vec::new();
        for entry in 0..self.size {
            firsts.push(self.words.load(Self::entry(entry))?);
        }
        let first = |entry: u16| firsts.get(usize::from(entry)).copied();
        let mut seen = vec![false; usize::from(self.size)];
        let mut visit =
            |entry: u16| seen.get_mut(usize::from(entry)).is_some_and(|seen| !core::mem::replace(seen, true));
        let mut free = self.free_head;
        while visit(free) {
            self.words.store(Self::entry(free), first(free).unwrap_or_default() & !0xff)?;
            free = first(free).map_or(self.size, |word| field(word, 1));
        }
        let mut chains = Vec::new();
        for head in 0..self.size {
            let word = first(head).unwrap_or_default();
            if word & 0xff != IN_FLIGHT || seen.get(usize::from(head)).is_none_or(|seen| *seen) {
                continue;
            }
            let (last, count) = (field(word, 2), field(word, 3));
            let mut descriptors = Vec::new();
            let (mut entry, mut end) = (head, head);
            for _ in 0..count {
                let seen = seen.get_mut(usize::from(entry)).ok_or(SetupError::Record)?;
                if core::mem::replace(seen, true) {
                    return Err(SetupError::Record);
                }
                descriptors.push(self.load_descriptor(entry)?);
                end = entry;
                entry = first(entry).map_or(self.size, |word| field(word, 1));
            }
            if descriptors.is_empty() || end != last {
                return Err(SetupError::Record);
            }
            chains.push((self.words.load(Self::entry(head) + 1)?, head, descriptors));
        }
        chains.sort_by_key(|(counter, head, _)| (*counter, *head));
        Ok(chains.into_iter().map(|(_, head, descriptors)| (head, descriptors)).collect())
    }

    /// Puts chains back into the ring, then empties the record. Whenever this ends early, the chains that are still in the record
    /// are the first ones, and at their places in the ring already; the others are behind them there.
    fn put_back(&mut self, chains: &[(u16, Vec<Descriptor>)], ring: &Mapped) -> Result<(), SetupError> {
        let mut place = self.used;
        for descriptor in chains.iter().flat_map(|(_, descriptors)| descriptors) {
            let flags = descriptor.fourth() & !(DESC_F_AVAIL | DESC_F_USED) | available_bits(place.wrap);
            let index = usize::from(place.index);
            ring.store_descriptor(index, descriptor.with_fourth(flags), Ordering::Release)?;
            place = place.packed_advance(1, self.size);
        }
        for (head, _) in chains.iter().rev() {
            let first = self.words.load(Self::entry(*head))?;
            self.words.store(Self::entry(*head), first & !0xff)?;
        }
        Ok(self.begin()?)
    }

    /// Records a chain whose descriptors begin at `start` in the ring.
    pub(super) fn popped(
        &mut self,
        body: &Body,
        start: RingIndex,
        descriptor: impl Fn(RingIndex) -> Result<Descriptor, QueueError>,
    ) -> Result<(), QueueError> {
        let count = body.descriptors;
        // A driver that uses descriptors again which it has not been told are used.
        if count > self.free {
            return Err(QueueError::ChainTooLong);
        }
        let head = self.free_head;
        let (mut entry, mut last, mut place) = (head, head, start);
        for _ in 0..count {
            self.store_descriptor(entry, descriptor(place)?)?;
            last = entry;
            entry = self.next_of(entry);
            place = place.packed_advance(1, self.size);
        }
        if let Some(first) = self.entries.get_mut(usize::from(head)) {
            (first.last, first.descriptors) = (last, count);
        }
        self.words.store(Self::entry(head) + 1, self.counter)?;
        self.counter = self.counter.wrapping_add(1);
        self.mark(head, IN_FLIGHT)?;
        (self.free_head, self.old_free_head) = (entry, entry);
        self.free -= count;
        self.store_lists()?;
        if let Some(place) = self.heads.get_mut(usize::from(body.id)) {
            *place = head;
        }
        if let Some(order) = &mut self.order {
            order.push_back(head);
        }
        Ok(())
    }

    pub(super) fn completed(&mut self, used: Used) {
        match &mut self.order {
            None => self.batch.extend(self.heads.get(usize::from(used.id))),
            Some(order) => {
                let count = usize::from(used.buffers).min(order.len());
                self.batch.extend(order.drain(..count));
            }
        }
    }

    /// Before the batch is published: frees its entries, and moves the used place; the old ones stay as they are.
    pub(super) fn announce(&mut self) -> Result<(), MemoryFault> {
        if self.batch.is_empty() {
            return Ok(());
        }
        for place in 0..self.batch.len() {
            let Some(head) = self.batch.get(place).copied() else { break };
            let Some(Entry { last, descriptors, .. }) = self.entries.get(usize::from(head)).copied() else {
                break;
            };
            if let Some(last) = self.entries.get_mut(usize::from(last)) {
                last.next = self.free_head;
            }
            self.mark(last, if last == head { IN_FLIGHT } else { 0 })?;
            self.free_head = head;
            self.free += descriptors;
            self.used = self.used.packed_advance(descriptors, self.size);
        }
        self.store_lists()?;
        self.store_places()
    }

    /// After it is published: the batch is in flight no more, and the old places follow.
    pub(super) fn confirm(&mut self) -> Result<(), MemoryFault> {
        if self.batch.is_empty() {
            return Ok(());
        }
        for place in 0..self.batch.len() {
            let Some(head) = self.batch.get(place).copied() else { break };
            self.mark(head, 0)?;
        }
        self.batch.clear();
        (self.old_free_head, self.old_used) = (self.free_head, self.used);
        self.store_lists()?;
        self.store_places()
    }

    const fn entry(entry: u16) -> usize {
        HEADER_WORDS + ENTRY_WORDS * entry as usize
    }

    fn next_of(&self, entry: u16) -> u16 {
        self.entries.get(usize::from(entry)).map_or(self.size, |entry| entry.next)
    }

    fn mark(&self, entry: u16, in_flight: u64) -> Result<(), MemoryFault> {
        let Entry { next, last, descriptors } =
            self.entries.get(usize::from(entry)).copied().unwrap_or_default();
        self.words.store(Self::entry(entry), in_flight | word([0, next, last, descriptors]))
    }

    fn store_descriptor(&self, entry: u16, descriptor: Descriptor) -> Result<(), MemoryFault> {
        let len = descriptor.len();
        let fields = [descriptor.third(), descriptor.fourth(), len as u16, (len >> 16) as u16];
        self.words.store(Self::entry(entry) + 2, word(fields))?;
        self.words.store(Self::entry(entry) + 3, descriptor.addr)
    }

    fn load_descriptor(&self, entry: u16) -> Result<Descriptor, MemoryFault> {
        let (fields, addr) =
            (self.words.load(Self::entry(entry) + 2)?, self.words.load(Self::entry(entry) + 3)?);
        Ok(Descriptor::new(addr, (fields >> 32) as u32, field(fields, 0), field(fields, 1)))
    }

    fn store_lists(&self) -> Result<(), MemoryFault> {
        self.words.store(1, word([VERSION, self.size, self.free_head, self.old_free_head]))
    }

    /// Both places in one word, so that none is half of each.
    fn store_places(&self) -> Result<(), MemoryFault> {
        let wraps = self.used.wrap.bit() | self.old_used.wrap.bit() << 8;
        self.words.store(2, word([self.used.index, self.old_used.index, wraps, 0]))
    }
}

/// A place from its index and, in the lowest byte, its wrap counter.
const fn place(index: u16, wrap: u64) -> RingIndex {
    RingIndex { index, wrap: Wrap::from_bit((wrap & 0xff) as u16) }
}
