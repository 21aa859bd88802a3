//! The driver end's private record of what it has posted: a device can lie about everything that is in shared memory, and about
//! nothing that is here.

use crate::device::Options;
use crate::error::QueueError;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// One buffer in flight, under its head index (split) or buffer id (packed).
struct Slot<T> {
    token: Option<T>,
    /// Descriptors it takes in the ring.
    descriptors: u16,
    /// Bytes of its writable part.
    writable: u32,
}

/// A buffer that has come back.
pub(crate) struct Returned<T> {
    pub(crate) token: T,
    pub(crate) id: u16,
    pub(crate) descriptors: u16,
    pub(crate) written: u32,
}

/// What the device says it has used: one buffer, or with `IN_ORDER` the last of several.
#[derive(Clone, Copy)]
pub(crate) struct Reported {
    pub(crate) id: u16,
    pub(crate) written: u32,
}

/// How ids go round the queue where buffers come back in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ids {
    /// The next buffer has the next one: packed rings.
    PerBuffer,
    /// It has the one behind this buffer's descriptors: split rings.
    PerDescriptor,
}

pub(crate) struct Slots<T> {
    slots: Box<[Slot<T>]>,
    in_flight: u16,
    ids: Ids,
    /// With `IN_ORDER`: the oldest id in flight, or the next one where none is, and the entry that stands for several buffers.
    oldest: Option<u16>,
    batch: Option<Reported>,
    /// Whether a buffer was posted that the device writes, so that how much it wrote is of interest.
    written: bool,
}

impl<T> Slots<T> {
    pub(crate) fn new(size: u16, options: Options, ids: Ids) -> Self {
        let slots = (0..size).map(|_| Slot { token: None, descriptors: 0, writable: 0 }).collect();
        let oldest = options.in_order.then_some(0);
        Self { slots, in_flight: 0, ids, oldest, batch: None, written: false }
    }

    pub(crate) fn in_flight(&self) -> u16 {
        self.in_flight
    }

    #[inline]
    pub(crate) fn post(&mut self, id: u16, descriptors: u16, writable: u32, token: T) {
        if let Some(slot) = self.slots.get_mut(usize::from(id)) {
            *slot = Slot { token: Some(token), descriptors, writable };
            self.in_flight += 1;
            self.written |= writable > 0;
        }
    }

    /// With `IN_ORDER`: whether how many buffers the device has used is all that there is to know of them. It says nothing else of
    /// buffers that it only reads.
    #[inline(always)]
    pub(crate) fn count_suffices(&self) -> bool {
        !self.written && self.oldest.is_some()
    }

    /// With `IN_ORDER`: takes back the oldest buffer, whatever the device reports of it.
    #[inline(always)]
    pub(crate) fn take_oldest(&mut self) -> Result<Returned<T>, QueueError> {
        let oldest = self.oldest.unwrap_or_default();
        self.take(Reported { id: oldest, written: 0 })
    }

    /// A batch of which buffers are still to be handed out, so that the ring need not be read.
    pub(crate) fn in_batch(&self) -> Option<Reported> {
        self.batch
    }

    /// Takes back the buffer that the device reports, or with `IN_ORDER` the oldest that its report stands for. The length is
    /// limited to what was posted: a device that says more has overrun nothing but its own word (hostile devices: row 76).
    #[inline(always)]
    pub(crate) fn take(&mut self, reported: Reported) -> Result<Returned<T>, QueueError> {
        let id = match self.oldest {
            None => reported.id,
            Some(oldest) => self.in_turn(oldest, reported).ok_or(QueueError::BufferId(reported.id))?,
        };
        let mut returned = self.release(id)?;
        // virtio 1.3 §2.7.9: an entry left out of a batch says nothing of lengths; it stands for a buffer written whole.
        if id == reported.id {
            returned.written = returned.written.min(reported.written);
        }
        Ok(returned)
    }

    /// With `IN_ORDER`: the oldest buffer, which a report stands for if it names one that is in flight.
    #[inline(always)]
    fn in_turn(&mut self, oldest: u16, reported: Reported) -> Option<u16> {
        self.slots.get(usize::from(reported.id))?.token.as_ref()?;
        let step = match self.ids {
            Ids::PerBuffer => 1,
            Ids::PerDescriptor => self.slots.get(usize::from(oldest))?.descriptors,
        };
        // No queue has more than 2^15 descriptors, nor has a buffer.
        let (next, size) = (oldest + step, self.slots.len() as u16);
        self.oldest = Some(if next < size { next } else { next - size });
        self.batch = (oldest != reported.id).then_some(reported);
        Some(oldest)
    }

    /// Takes one buffer back, as if it were written whole. An id that is out of range, or not in flight, was invented, or reported
    /// twice (hostile devices: row 78).
    #[inline(always)]
    fn release(&mut self, id: u16) -> Result<Returned<T>, QueueError> {
        let bogus = QueueError::BufferId(id);
        let slot = self.slots.get_mut(usize::from(id)).ok_or(bogus)?;
        let token = slot.token.take().ok_or(bogus)?;
        self.in_flight -= 1;
        Ok(Returned { token, id, descriptors: slot.descriptors, written: slot.writable })
    }

    /// Takes every token back, in no particular order, and forgets all.
    pub(crate) fn detach(&mut self) -> Vec<T> {
        self.in_flight = 0;
        self.batch = None;
        self.slots.iter_mut().filter_map(|slot| slot.token.take()).collect()
    }
}

/// Free descriptor indices or buffer ids: used in the order in which they were freed, so that with `IN_ORDER` they go round the
/// ring as virtio 1.3 §2.7.9 and §2.7.5.2 ask.
pub(crate) struct FreeList {
    next: Box<[u16]>,
    head: u16,
    tail: u16,
    count: u16,
}

impl FreeList {
    pub(crate) fn new(size: u16) -> Self {
        let next = (1..size).chain([0]).collect();
        Self { next, head: 0, tail: size - 1, count: size }
    }

    #[inline(always)]
    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    #[inline(always)]
    pub(crate) fn head(&self) -> u16 {
        self.head
    }

    /// What follows an index in the list, or in the chain it was taken for.
    #[inline(always)]
    pub(crate) fn next(&self, index: u16) -> u16 {
        self.next.get(usize::from(index)).copied().unwrap_or_default()
    }

    /// Takes the first `count` indices, the last of which precedes `rest`.
    #[inline(always)]
    pub(crate) fn take(&mut self, count: u16, rest: u16) {
        self.count -= count;
        self.head = rest;
    }

    /// Puts back the `count` indices that are linked from `head`.
    #[inline(always)]
    pub(crate) fn put(&mut self, head: u16, count: u16) {
        let mut last = head;
        for _ in 1..count {
            last = self.next(last);
        }
        if self.count == 0 {
            self.head = head;
        } else if let Some(link) = self.next.get_mut(usize::from(self.tail)) {
            *link = head;
        }
        self.tail = last;
        self.count += count;
    }
}
