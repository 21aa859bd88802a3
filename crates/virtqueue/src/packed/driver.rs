//! The driver end of a packed ring.

use super::{PER_LINE, available_bits, fetch_around, is_used};
use crate::area::{Area, Areas, Descriptor};
use crate::device::{MoreWork, Options};
use crate::driver::{Buffer, Indirect, Kick};
use crate::error::QueueError;
use crate::event::Wanted;
use crate::layout::{RingIndex, Wrap};
use crate::slots::{FreeList, Ids, Reported, Returned, Slots};
use core::sync::atomic::Ordering;
use vioduct_spec::ring::{DESC_F_AVAIL, DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, DESCRIPTOR_SIZE};

pub(crate) struct Ring<A, T> {
    areas: Areas<A>,
    size: u16,
    options: Options,
    pub(crate) slots: Slots<T>,
    /// Free buffer ids; free descriptors are counted apart.
    ids: FreeList,
    free: u16,
    /// Next descriptor to make available.
    available: RingIndex,
    /// Next descriptor that the device will mark used.
    used: RingIndex,
    /// The first descriptor made available since the last publication: written last, so that all appear at once.
    held: Option<(u16, Descriptor)>,
    /// Descriptors made available since the device's wish was last looked at.
    moved: u16,
}

impl<A: Area, T> Ring<A, T> {
    pub(crate) fn new(areas: Areas<A>, size: u16, options: Options) -> Self {
        Self {
            areas,
            size,
            options,
            slots: Slots::new(size, options, Ids::PerBuffer),
            ids: FreeList::new(size),
            free: size,
            available: RingIndex::START,
            used: RingIndex::START,
            held: None,
            moved: 0,
        }
    }

    /// Head index or buffer id of the next buffer.
    #[inline(always)]
    pub(crate) fn next_id(&self) -> u16 {
        self.ids.head()
    }

    #[inline(always)]
    pub(crate) fn free_descriptors(&self) -> u16 {
        self.free
    }

    /// Writes one descriptor at the next place; the first of a batch is held back (virtio 1.3 §2.8.17, §2.8.21.1).
    #[inline(always)]
    fn place(&mut self, descriptor: Descriptor) -> Result<(), QueueError> {
        let at = self.available;
        self.fetch_ahead(usize::from(at.index));
        let marked = descriptor.with_fourth(descriptor.fourth() | available_bits(at.wrap));
        if self.held.is_none() {
            self.held = Some((at.index, marked));
        } else {
            self.areas.descriptors.store_descriptor(usize::from(at.index), marked, Ordering::Relaxed)?;
        }
        self.available = at.packed_advance(1, self.size);
        Ok(())
    }

    /// Where a cache line of descriptors begins: the device's processor has those that follow; if they are free, the one after next is on
    /// its way from now on.
    #[inline(always)]
    fn fetch_ahead(&self, index: usize) {
        const AHEAD: usize = 2 * PER_LINE;
        if index.is_multiple_of(PER_LINE) && usize::from(self.free) > AHEAD + PER_LINE {
            let size = usize::from(self.size);
            let ahead = if index + AHEAD < size { index + AHEAD } else { index + AHEAD - size };
            self.areas.descriptors.fetch_to_write(ahead * DESCRIPTOR_SIZE);
        }
    }

    #[inline(always)]
    fn post(&mut self, id: u16, descriptors: u16, writable_len: u32, token: T) {
        let next = self.ids.next(id);
        self.ids.take(1, next);
        self.free -= descriptors;
        // A device that reports buffers before they are published lets more than a lap pass.
        self.moved = self.moved.saturating_add(descriptors);
        self.slots.post(id, descriptors, writable_len, token);
    }

    /// Writes the descriptors of a buffer; the caller has checked that there is room.
    #[inline(always)]
    pub(crate) fn add(
        &mut self,
        readable: &[Buffer],
        writable: &[Buffer],
        writable_len: u32,
        token: T,
    ) -> Result<(), QueueError> {
        let count = (readable.len() + writable.len()) as u16;
        let id = self.ids.head();
        let mut left = count;
        // Two loops: one over both parts asks at every piece which of them it is in.
        let mut put = |part: &Buffer, flags| {
            left -= 1;
            let flags = if left == 0 { flags } else { flags | DESC_F_NEXT };
            self.place(Descriptor::new(part.addr.0, part.len, id, flags))
        };
        readable.iter().try_for_each(|part| put(part, 0))?;
        writable.iter().try_for_each(|part| put(part, DESC_F_WRITE))?;
        self.post(id, count, writable_len, token);
        Ok(())
    }

    /// The same with one descriptor that refers to a table (virtio 1.3 §2.8.7).
    #[inline(always)]
    pub(crate) fn add_indirect(
        &mut self,
        indirect: &Indirect<A>,
        parts: (&[Buffer], &[Buffer]),
        writable_len: u32,
        token: T,
    ) -> Result<(), QueueError> {
        let (readable, writable) = parts;
        let id = self.ids.head();
        let mut entry = indirect.first_entry(id);
        // Two loops: one over both parts asks at every piece which of them it is in.
        let mut put = |part: &Buffer, flags| {
            let at = entry;
            entry += 1;
            indirect.store(at, Descriptor::new(part.addr.0, part.len, 0, flags))
        };
        readable.iter().try_for_each(|part| put(part, 0))?;
        writable.iter().try_for_each(|part| put(part, DESC_F_WRITE))?;
        self.place(Descriptor::new(
            indirect.table_address(id).0,
            Indirect::<A>::table_len(readable.len() + writable.len()),
            id,
            DESC_F_INDIRECT,
        ))?;
        self.post(id, 1, writable_len, token);
        Ok(())
    }

    /// virtio 1.3 §2.8.21.1.1: the flags of the first descriptor are written after everything else of the batch.
    #[inline(always)]
    pub(crate) fn publish(&mut self) -> Result<(), QueueError> {
        if let Some((index, first)) = self.held.take() {
            self.areas.descriptors.store_descriptor(usize::from(index), first, Ordering::Release)?;
        }
        Ok(())
    }

    /// virtio 1.3 §2.8.21.3.1: what was added is there before the look at whether the device wants to be notified.
    #[inline(always)]
    pub(crate) fn kick_prepare(&mut self) -> Result<Kick, QueueError> {
        self.publish()?;
        if self.moved == 0 {
            return Ok(Kick::Suppressed);
        }
        self.areas.driver.fence();
        let moved = core::mem::take(&mut self.moved);
        let wanted = Wanted::load(&self.areas.device)?;
        Ok(Kick::from_needed(wanted.reached(self.available, moved, self.size)))
    }

    /// virtio 1.3 §2.9 and §2.8.16: `next_off` and `next_wrap` of the next descriptor not yet made available, which what was added
    /// and not yet published is not.
    pub(crate) fn notification_data(&self) -> u16 {
        let unpublished = self
            .held
            .map(|(index, first)| RingIndex { index, wrap: Wrap::from_bit(first.fourth() & DESC_F_AVAIL) });
        unpublished.unwrap_or(self.available).to_packed_word()
    }

    #[inline(always)]
    fn used_descriptor(&self) -> Result<Option<Descriptor>, QueueError> {
        let descriptor =
            self.areas.descriptors.load_descriptor(usize::from(self.used.index), Ordering::Acquire)?;
        Ok((self.slots.in_flight() != 0 && is_used(descriptor.fourth(), self.used.wrap))
            .then_some(descriptor))
    }

    #[inline(always)]
    pub(crate) fn get(&mut self) -> Result<Option<Returned<T>>, QueueError> {
        let reported = match self.slots.in_batch() {
            Some(batch) => batch,
            None => match self.used_descriptor()? {
                // virtio 1.3 §2.8.4 reserves the length where `WRITE` is clear. There are devices that never set it, so the length is
                // believed all the same, as far as there was room to write.
                Some(used) => {
                    fetch_around(&self.areas.descriptors, usize::from(self.used.index));
                    Reported { id: used.third(), written: used.len() }
                }
                None => return Ok(None),
            },
        };
        let returned = self.slots.take(reported)?;
        self.ids.put(returned.id, 1);
        self.free += returned.descriptors;
        self.used = self.used.packed_advance(returned.descriptors, self.size);
        Ok(Some(returned))
    }

    pub(crate) fn disable_callback(&mut self) -> Result<(), QueueError> {
        Ok(Wanted::Never.store(&self.areas.driver)?)
    }

    /// Asks for an interrupt once about `after` more descriptors than the next have been used, and looks once more.
    pub(crate) fn enable_callback(&mut self, after: u16) -> Result<MoreWork, QueueError> {
        let wanted = if self.options.event_index {
            Wanted::At(self.used.packed_advance(after, self.size))
        } else {
            Wanted::Always
        };
        wanted.store(&self.areas.driver)?;
        self.areas.driver.fence();
        let batch = self.slots.in_batch().is_some();
        Ok(MoreWork::from_pending(batch || self.used_descriptor()?.is_some()))
    }

    pub(crate) fn next_available(&self) -> RingIndex {
        self.available
    }

    pub(crate) fn next_used(&self) -> RingIndex {
        self.used
    }

    #[inline(always)]
    pub(crate) const fn whole_lines(&self, count: u16) -> u16 {
        let (size, end) = (self.size as usize, self.used.index as usize + count as usize);
        let beyond = (if end >= size { end - size } else { end } % PER_LINE) as u16;
        if beyond < count { count - beyond } else { count }
    }
}
