//! The device end of a split ring.

use crate::CHECKED;
use crate::area::{Area, Areas, Descriptor};
use crate::buffers::{Buffers, Table, finish};
use crate::burst::{Next, Single};
use crate::chain::Body;
use crate::device::{MoreWork, Notify, Options, Used};
use crate::error::{QueueError, SetupError};
use crate::event::passed;
use crate::layout::{QueuePosition, RingIndex};
use crate::memory::IoAddr;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use vioduct_spec::ring::split::{
    AVAIL_F_NO_INTERRUPT, AVAIL_FLAGS, AVAIL_IDX, AVAIL_RING, USED_ELEMENT_SIZE, USED_F_NO_NOTIFY,
    USED_FLAGS, USED_IDX, USED_RING, avail_event, used_event,
};
use vioduct_spec::ring::{DESC_F_INDIRECT, DESC_F_NEXT};

pub(crate) struct Ring<A> {
    areas: Areas<A>,
    size: u16,
    /// Turns a free-running index into an entry's number. A word of its own: loaded together with an index beside it that was
    /// just stored, the size would wait for that store to leave the core (docs/decisions/0003).
    entry_mask: usize,
    options: Options,
    /// Next entry of the available ring to look at.
    next_available: u16,
    /// The driver's index as last read: what lies before it needs no further look.
    seen_available: u16,
    /// Next entry of the used ring to fill.
    next_used: u16,
    /// The index as the driver sees it.
    published_used: u16,
    /// The index when a notification was last decided on; none right after the start, when the first is always sent.
    decided_used: Option<u16>,
}

impl<A: Area> Ring<A> {
    pub(crate) fn new(
        areas: Areas<A>,
        size: u16,
        options: Options,
        position: QueuePosition,
    ) -> Result<Self, SetupError> {
        let (available, used) = (position.available.index, position.used.index);
        if available.wrapping_sub(used) > size {
            return Err(SetupError::Position);
        }
        Ok(Self {
            areas,
            size,
            entry_mask: usize::from(size - 1),
            options,
            next_available: available,
            seen_available: available,
            next_used: used,
            published_used: used,
            decided_used: None,
        })
    }

    pub(crate) fn position(&self) -> QueuePosition {
        QueuePosition {
            available: RingIndex { index: self.next_available, ..RingIndex::START },
            used: RingIndex { index: self.next_used, ..RingIndex::START },
        }
    }

    /// The one place where a free-running index becomes an entry's number; the size is a power of two.
    #[inline(always)]
    fn entry(&self, index: u16) -> usize {
        usize::from(index) & self.entry_mask
    }

    /// How many buffers the driver has made available beyond those popped, by its index as it is now.
    #[inline]
    fn refresh(&mut self) -> Result<u16, QueueError> {
        self.seen_available = self.areas.driver.load_u16(AVAIL_IDX, Ordering::Acquire)?;
        let ahead = self.seen_available.wrapping_sub(self.next_available);
        // What the driver has not been told is used takes descriptors still: it cannot make more available than are left.
        let held = self.next_available.wrapping_sub(self.published_used);
        if CHECKED && ahead > self.size.saturating_sub(held) {
            return Err(QueueError::AvailableIndex {
                found: self.seen_available,
                processed: self.next_available,
            });
        }
        Ok(ahead)
    }

    pub(crate) fn poll(&mut self) -> Result<MoreWork, QueueError> {
        let more = self.seen_available != self.next_available || self.refresh()? != 0;
        Ok(MoreWork::from_pending(more))
    }

    #[inline(always)]
    pub(crate) fn pop(&mut self, buffers: &mut Buffers) -> Result<Option<Box<Body>>, QueueError> {
        if self.seen_available == self.next_available && self.refresh()? == 0 {
            return Ok(None);
        }
        let at = AVAIL_RING + 2 * self.entry(self.next_available);
        let head = self.areas.driver.load_u16(at, Ordering::Relaxed)?;
        let mut body = buffers.take();
        if let Err(fault) = self.fill(head, buffers, &mut body) {
            buffers.recycle(body);
            return Err(fault);
        }
        self.next_available = self.next_available.wrapping_add(1);
        Ok(Some(body))
    }

    /// Pops buffers of one descriptor each until there are `up_to`, and says what is next.
    #[inline(always)]
    pub(crate) fn pop_singles(
        &mut self,
        buffers: &mut Buffers,
        singles: &mut Vec<Single>,
        up_to: usize,
    ) -> Result<Next, QueueError> {
        while singles.len() < up_to {
            if self.seen_available == self.next_available && self.refresh()? == 0 {
                return Ok(Next::Nothing);
            }
            match self.pop_single(buffers)? {
                Ok(single) => singles.push(single),
                Err(next) => return Ok(next),
            }
            self.next_available = self.next_available.wrapping_add(1);
        }
        Ok(Next::Unknown)
    }

    #[inline(always)]
    fn pop_single(&self, buffers: &mut Buffers) -> Result<Result<Single, Next>, QueueError> {
        let at = AVAIL_RING + 2 * self.entry(self.next_available);
        let head = self.areas.driver.load_u16(at, Ordering::Relaxed)?;
        let descriptor = self.descriptor(head)?;
        match descriptor.third() & (DESC_F_INDIRECT | DESC_F_NEXT) {
            0 => buffers.single(head, IoAddr(descriptor.addr), descriptor.len(), descriptor.third()),
            _ => Ok(Err(Next::Other)),
        }
    }

    /// A chain that was popped before, by a device end that is no more: its place in the available ring is passed.
    pub(crate) fn pop_head(&mut self, head: u16, buffers: &mut Buffers) -> Result<Box<Body>, QueueError> {
        let mut body = buffers.take();
        match self.fill(head, buffers, &mut body) {
            Ok(()) => Ok(body),
            Err(fault) => {
                buffers.recycle(body);
                Err(fault)
            }
        }
    }

    #[inline(always)]
    fn fill(&self, head: u16, buffers: &mut Buffers, body: &mut Body) -> Result<(), QueueError> {
        let first = self.descriptor(head)?;
        // The commonest chains go the shortest way; a loop in here would double it.
        match first.third() & (DESC_F_INDIRECT | DESC_F_NEXT) {
            0 => buffers.append_only(body, IoAddr(first.addr), first.len(), first.third())?,
            DESC_F_INDIRECT => self.fill_from_table(first, buffers, body)?,
            _ => self.walk(first, buffers, body)?,
        }
        // The used ring counts buffers, so that each is one here.
        body.descriptors = 1;
        buffers.lend(head, body)
    }

    #[inline(always)]
    fn fill_from_table(
        &self,
        reference: Descriptor,
        buffers: &mut Buffers,
        body: &mut Body,
    ) -> Result<(), QueueError> {
        let table = self.table(reference, buffers)?;
        let first = buffers.entry(&table, 0)?;
        if first.third() & (DESC_F_INDIRECT | DESC_F_NEXT) == 0 {
            return buffers.append_only(body, IoAddr(first.addr), first.len(), first.third());
        }
        body.clear();
        self.walk_table(&table, first, 0, buffers, body)
    }

    /// The table that a descriptor refers to. virtio 1.3 §2.7.5.3.1: not with `NEXT`, nor unless negotiated.
    #[inline(always)]
    fn table(&self, reference: Descriptor, buffers: &mut Buffers) -> Result<Table, QueueError> {
        if !self.options.indirect || reference.third() & DESC_F_NEXT != 0 {
            return Err(QueueError::Indirect);
        }
        buffers.table(IoAddr(reference.addr), reference.len())
    }

    #[inline(always)]
    fn descriptor(&self, index: u16) -> Result<Descriptor, QueueError> {
        // The area is as long as the table, so that its check is the check of the index.
        let loaded = self.areas.descriptors.load_descriptor(usize::from(index), Ordering::Relaxed);
        loaded.map_err(
            |fault| {
                if index >= self.size { QueueError::DescriptorIndex(index) } else { fault.into() }
            },
        )
    }

    /// virtio 1.3 §2.7.5: follows `next` from the first. Each descriptor is copied once, checked, and used from the copy.
    #[inline(never)]
    fn walk(&self, first: Descriptor, buffers: &mut Buffers, body: &mut Body) -> Result<(), QueueError> {
        body.clear();
        let mut descriptor = first;
        let mut count = 0u16;
        while descriptor.third() & DESC_F_INDIRECT == 0 {
            buffers.append(body, IoAddr(descriptor.addr), descriptor.len(), descriptor.third())?;
            if descriptor.third() & DESC_F_NEXT == 0 {
                return finish(body);
            }
            descriptor = self.descriptor(descriptor.fourth())?;
            count += 1;
            // A chain has no more descriptors than the queue (virtio 1.3 §2.7.5.3.1); one that does may be a loop.
            if CHECKED && count >= self.size {
                return Err(QueueError::ChainTooLong);
            }
        }
        let table = self.table(descriptor, buffers)?;
        let first = buffers.entry(&table, 0)?;
        self.walk_table(&table, first, count, buffers, body)
    }

    /// virtio 1.3 §2.7.5.3: the table's descriptors are chained from its first; `WRITE` on the descriptor that refers to the table
    /// is ignored (§2.7.5.3.2). `before` descriptors of the chain came before it.
    #[inline(never)]
    fn walk_table(
        &self,
        table: &Table,
        first: Descriptor,
        before: u16,
        buffers: &mut Buffers,
        body: &mut Body,
    ) -> Result<(), QueueError> {
        let mut descriptor = first;
        let mut count = before;
        loop {
            if CHECKED && count >= self.size {
                return Err(QueueError::ChainTooLong);
            }
            count += 1;
            let flags = descriptor.third();
            if flags & DESC_F_INDIRECT != 0 {
                return Err(QueueError::Indirect);
            }
            buffers.append(body, IoAddr(descriptor.addr), descriptor.len(), flags)?;
            if flags & DESC_F_NEXT == 0 {
                return finish(body);
            }
            descriptor = buffers.entry(table, descriptor.fourth())?;
        }
    }

    /// Fills one used entry, which stands for the `used.buffers` last buffers (more than one with `IN_ORDER` only: virtio 1.3
    /// §2.7.9).
    #[inline(always)]
    pub(crate) fn push_used(&mut self, used: Used) -> Result<(), QueueError> {
        let at = USED_RING + USED_ELEMENT_SIZE * self.entry(self.next_used);
        self.areas.device.store_u32_pair(at, u32::from(used.id), used.written)?;
        self.next_used = self.next_used.wrapping_add(used.buffers);
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn publish(&mut self) -> Result<Notify, QueueError> {
        let new = self.next_used;
        if new == self.published_used {
            return Ok(Notify::Suppressed);
        }
        self.published_used = new;
        // virtio 1.3 §2.7.8.2: the entries are visible before the index is.
        self.areas.device.store_u16(USED_IDX, new, Ordering::Release)?;
        // The index before the driver's wish: a driver that re-arms (§2.7.14) either sees the index or is seen.
        self.areas.device.fence();
        if !self.options.event_index {
            let flags = self.areas.driver.load_u16(AVAIL_FLAGS, Ordering::Relaxed)?;
            return Ok(Notify::from_needed(flags & AVAIL_F_NO_INTERRUPT == 0));
        }
        let event = self.areas.driver.load_u16(used_event(self.size), Ordering::Relaxed)?;
        let before = self.decided_used.replace(new);
        Ok(Notify::from_needed(before.is_none_or(|old| passed(event, new, old))))
    }

    /// virtio 1.3 §2.7.10.2: asks to be notified of the next buffer, and looks once more: a buffer that came before the request was
    /// seen is found here.
    pub(crate) fn arm(&mut self) -> Result<MoreWork, QueueError> {
        if self.options.event_index {
            let at = avail_event(self.size);
            self.areas.device.store_u16(at, self.next_available, Ordering::Relaxed)?;
        } else {
            self.areas.device.store_u16(USED_FLAGS, 0, Ordering::Relaxed)?;
        }
        self.areas.device.fence();
        Ok(MoreWork::from_pending(self.refresh()? != 0))
    }

    /// With the event index there is nothing to do: the index asked for lies behind as soon as a buffer is popped.
    pub(crate) fn disarm(&mut self) -> Result<(), QueueError> {
        if !self.options.event_index {
            self.areas.device.store_u16(USED_FLAGS, USED_F_NO_NOTIFY, Ordering::Relaxed)?;
        }
        Ok(())
    }
}
