//! The driver end of a split ring.

use crate::area::{Area, Areas, Descriptor, LINE};
use crate::device::{MoreWork, Options};
use crate::driver::{Buffer, Indirect, Kick};
use crate::error::QueueError;
use crate::event::passed;
use crate::layout::{RingIndex, Wrap};
use crate::slots::{FreeList, Ids, Reported, Returned, Slots};
use core::sync::atomic::Ordering;
use vioduct_spec::ring::split::{
    AVAIL_F_NO_INTERRUPT, AVAIL_FLAGS, AVAIL_IDX, AVAIL_RING, USED_ELEMENT_SIZE, USED_F_NO_NOTIFY,
    USED_FLAGS, USED_IDX, USED_RING, avail_event, used_event,
};
use vioduct_spec::ring::{DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, DESCRIPTOR_SIZE};

/// Cache lines of used entries that are fetched at once.
const MOST_FETCHED: u16 = 4;

pub(crate) struct Ring<A, T> {
    areas: Areas<A>,
    size: u16,
    /// Turns a free-running index into an entry's number. A word of its own: loaded together with an index beside it that was
    /// just stored, the size would wait for that store to leave the core (docs/decisions/0003).
    entry_mask: usize,
    options: Options,
    pub(crate) slots: Slots<T>,
    free: FreeList,
    /// Entries of the available ring filled, and those that the device was shown.
    next_available: u16,
    published_available: u16,
    /// Entries shown since the device's wish was last looked at.
    moved: u16,
    /// Entries of the used ring taken, and those known to be there.
    last_used: u16,
    seen_used: u16,
    /// How many of those ahead are taken by their number alone, their entries not looked at.
    unread: u16,
}

impl<A: Area, T> Ring<A, T> {
    pub(crate) fn new(areas: Areas<A>, size: u16, options: Options) -> Self {
        Self {
            areas,
            size,
            entry_mask: usize::from(size - 1),
            options,
            slots: Slots::new(size, options, Ids::PerDescriptor),
            free: FreeList::new(size),
            next_available: 0,
            published_available: 0,
            moved: 0,
            last_used: 0,
            seen_used: 0,
            unread: 0,
        }
    }

    /// Head index or buffer id of the next buffer.
    #[inline(always)]
    pub(crate) fn next_id(&self) -> u16 {
        self.free.head()
    }

    #[inline(always)]
    pub(crate) fn free_descriptors(&self) -> u16 {
        self.free.count()
    }

    #[inline(always)]
    fn entry(&self, index: u16) -> usize {
        usize::from(index) & self.entry_mask
    }

    /// Writes the descriptors of a buffer and its available entry; the caller has checked that there is room.
    #[inline(always)]
    pub(crate) fn add(
        &mut self,
        readable: &[Buffer],
        writable: &[Buffer],
        writable_len: u32,
        token: T,
    ) -> Result<(), QueueError> {
        let count = (readable.len() + writable.len()) as u16;
        let head = self.free.head();
        self.fetch_ahead(usize::from(head));
        let mut index = head;
        let mut left = count;
        // Two loops: one over both parts asks at every piece which of them it is in.
        let mut put = |part: &Buffer, flags| {
            left -= 1;
            let next = self.free.next(index);
            // virtio 1.3 §2.7.5.2: the links go up by one and from the last to 0, with IN_ORDER as well as without.
            let (flags, link) = if left == 0 { (flags, 0) } else { (flags | DESC_F_NEXT, next) };
            let descriptor = Descriptor::new(part.addr.0, part.len, flags, link);
            let at = usize::from(index);
            index = next;
            self.areas.descriptors.store_descriptor(at, descriptor, Ordering::Relaxed)
        };
        readable.iter().try_for_each(|part| put(part, 0))?;
        writable.iter().try_for_each(|part| put(part, DESC_F_WRITE))?;
        self.free.take(count, index);
        self.slots.post(head, count, writable_len, token);
        self.offer(head)
    }

    /// Descriptors are mostly used in turn. Where a cache line of them begins, the device's processor has those that follow; if there are
    /// free ones, the line after next is on its way from now on.
    #[inline(always)]
    fn fetch_ahead(&self, index: usize) {
        const PER_LINE: usize = LINE / DESCRIPTOR_SIZE;
        if index.is_multiple_of(PER_LINE) && usize::from(self.free.count()) > 3 * PER_LINE {
            let ahead = (index + 2 * PER_LINE) & self.entry_mask;
            self.areas.descriptors.fetch_to_write(ahead * DESCRIPTOR_SIZE);
        }
    }

    /// The same with one descriptor that refers to a table (virtio 1.3 §2.7.5.3).
    #[inline(always)]
    pub(crate) fn add_indirect(
        &mut self,
        indirect: &Indirect<A>,
        parts: (&[Buffer], &[Buffer]),
        writable_len: u32,
        token: T,
    ) -> Result<(), QueueError> {
        let (readable, writable) = parts;
        let head = self.free.head();
        let first = indirect.first_entry(head);
        let count = readable.len() + writable.len();
        let mut position = 0;
        // Two loops: one over both parts asks at every piece which of them it is in.
        let mut put = |part: &Buffer, flags| {
            let entry = first + position;
            position += 1;
            let (flags, link) =
                if position == count { (flags, 0) } else { (flags | DESC_F_NEXT, position as u16) };
            indirect.store(entry, Descriptor::new(part.addr.0, part.len, flags, link))
        };
        readable.iter().try_for_each(|part| put(part, 0))?;
        writable.iter().try_for_each(|part| put(part, DESC_F_WRITE))?;
        let table_len = Indirect::<A>::table_len(count);
        let reference = Descriptor::new(indirect.table_address(head).0, table_len, DESC_F_INDIRECT, 0);
        self.areas.descriptors.store_descriptor(usize::from(head), reference, Ordering::Relaxed)?;
        let next = self.free.next(head);
        self.free.take(1, next);
        self.slots.post(head, 1, writable_len, token);
        self.offer(head)
    }

    #[inline(always)]
    fn offer(&mut self, head: u16) -> Result<(), QueueError> {
        let at = AVAIL_RING + 2 * self.entry(self.next_available);
        // With one descriptor a buffer, an entry is what it was a lap ago: a line that is not written stays where the device reads it.
        if self.areas.driver.load_u16(at, Ordering::Relaxed)? != head {
            self.areas.driver.store_u16(at, head, Ordering::Relaxed)?;
        }
        self.next_available = self.next_available.wrapping_add(1);
        Ok(())
    }

    /// virtio 1.3 §2.7.13.3.1: descriptors and entries are visible before the index.
    #[inline(always)]
    pub(crate) fn publish(&mut self) -> Result<(), QueueError> {
        let (old, new) = (self.published_available, self.next_available);
        if old != new {
            self.areas.driver.store_u16(AVAIL_IDX, new, Ordering::Release)?;
            self.published_available = new;
            self.moved = self.moved.saturating_add(new.wrapping_sub(old));
        }
        Ok(())
    }

    /// virtio 1.3 §2.7.13.4.1: the index is there before the look at whether the device wants to be notified.
    #[inline(always)]
    pub(crate) fn kick_prepare(&mut self) -> Result<Kick, QueueError> {
        self.publish()?;
        let moved = core::mem::take(&mut self.moved);
        if moved == 0 {
            return Ok(Kick::Suppressed);
        }
        self.areas.driver.fence();
        if self.options.event_index {
            // So many are more than the index tells apart. A notification too many does no harm.
            if moved > self.size {
                return Ok(Kick::Needed);
            }
            let new = self.published_available;
            let old = new.wrapping_sub(moved);
            let event = self.areas.device.load_u16(avail_event(self.size), Ordering::Relaxed)?;
            return Ok(Kick::from_needed(passed(event, new, old)));
        }
        let flags = self.areas.device.load_u16(USED_FLAGS, Ordering::Relaxed)?;
        Ok(Kick::from_needed(flags & USED_F_NO_NOTIFY == 0))
    }

    /// virtio 1.3 §2.9: `next_off` is the whole available index in a split ring.
    pub(crate) fn notification_data(&self) -> u16 {
        self.published_available
    }

    #[inline(always)]
    fn pending(&mut self) -> Result<u16, QueueError> {
        if self.seen_used == self.last_used {
            self.seen_used = self.areas.device.load_u16(USED_IDX, Ordering::Acquire)?;
            let ahead = self.ahead();
            // Once for what was seen: from here on, what is ahead and what is in flight go down together.
            if ahead > self.slots.in_flight() {
                return Err(QueueError::AvailableIndex { found: self.seen_used, processed: self.last_used });
            }
            // Decided here, where batches end: behind one that is taken by its number there may be one that is not.
            if self.slots.count_suffices() {
                self.unread = ahead;
            } else {
                self.fetch_used();
            }
        }
        Ok(self.ahead())
    }

    #[inline(always)]
    fn ahead(&self) -> u16 {
        self.seen_used.wrapping_sub(self.last_used)
    }

    /// The device's processor has the entries that were just seen; those beyond the first few are on their way from now on.
    #[inline(always)]
    fn fetch_used(&self) {
        const PER_LINE: u16 = (LINE / USED_ELEMENT_SIZE) as u16;
        let count = self.ahead().min(MOST_FETCHED * PER_LINE);
        for ahead in (PER_LINE..count).step_by(PER_LINE.into()) {
            let entry = self.entry(self.last_used.wrapping_add(ahead));
            self.areas.device.fetch_to_read(USED_RING + USED_ELEMENT_SIZE * entry);
        }
    }

    #[inline(always)]
    pub(crate) fn get(&mut self) -> Result<Option<Returned<T>>, QueueError> {
        if self.pending()? == 0 {
            return Ok(None);
        }
        let returned = if self.unread > 0 {
            // Lines that this processor never has are the device's to write, and not waited for.
            self.unread -= 1;
            self.slots.take_oldest()?
        } else {
            let reported = self.reported()?;
            self.slots.take(reported)?
        };
        self.free.put(returned.id, returned.descriptors);
        self.last_used = self.last_used.wrapping_add(1);
        Ok(Some(returned))
    }

    /// What the device reports next: a batch of which buffers are left, or its next entry.
    #[inline(always)]
    fn reported(&self) -> Result<Reported, QueueError> {
        if let Some(batch) = self.slots.in_batch() {
            return Ok(batch);
        }
        let at = USED_RING + USED_ELEMENT_SIZE * self.entry(self.last_used);
        let (id, written) = self.areas.device.load_u32_pair(at)?;
        let id = u16::try_from(id).map_err(|_| QueueError::BufferId(u16::MAX))?;
        Ok(Reported { id, written })
    }

    pub(crate) fn disable_callback(&mut self) -> Result<(), QueueError> {
        // With the event index (virtio 1.3 §2.7.7.1: the flag stays 0) the index asked for lies behind after one interrupt; moving
        // it behind now keeps even that one away.
        if self.options.event_index {
            let behind = self.last_used.wrapping_sub(1);
            self.areas.driver.store_u16(used_event(self.size), behind, Ordering::Relaxed)?;
        } else {
            self.areas.driver.store_u16(AVAIL_FLAGS, AVAIL_F_NO_INTERRUPT, Ordering::Relaxed)?;
        }
        Ok(())
    }

    /// Asks for an interrupt once `after` more buffers than the next have been used, and looks once more (virtio 1.3 §2.7.14).
    pub(crate) fn enable_callback(&mut self, after: u16) -> Result<MoreWork, QueueError> {
        if self.options.event_index {
            let event = self.last_used.wrapping_add(after);
            self.areas.driver.store_u16(used_event(self.size), event, Ordering::Relaxed)?;
        } else {
            self.areas.driver.store_u16(AVAIL_FLAGS, 0, Ordering::Relaxed)?;
        }
        self.areas.driver.fence();
        self.seen_used = self.last_used;
        Ok(MoreWork::from_pending(self.pending()? > after))
    }

    pub(crate) fn next_available(&self) -> RingIndex {
        RingIndex { index: self.next_available, wrap: Wrap::Set }
    }

    pub(crate) fn next_used(&self) -> RingIndex {
        RingIndex { index: self.last_used, wrap: Wrap::Set }
    }
}
