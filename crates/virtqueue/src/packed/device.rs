//! The device end of a packed ring.

use super::{fetch_around, is_available, used_bits};
use crate::CHECKED;
use crate::area::{Area, Areas, Descriptor};
use crate::buffers::{Buffers, Table, finish};
use crate::burst::{Next, Single};
use crate::chain::Body;
use crate::device::{MoreWork, Notify, Options, Used};
use crate::error::{QueueError, SetupError};
use crate::event::Wanted;
use crate::layout::{QueuePosition, RingIndex};
use crate::memory::IoAddr;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use vioduct_spec::ring::{DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE};

pub(crate) struct Ring<A> {
    areas: Areas<A>,
    size: u16,
    options: Options,
    /// Next descriptor to look at.
    available: RingIndex,
    /// Next descriptor to mark used.
    used: RingIndex,
    /// Descriptors popped and not yet marked used.
    outstanding: u16,
    /// The first used descriptor since the last publication: written last, so that all appear at once.
    held: Option<(u16, Descriptor)>,
    /// Descriptors marked used since a notification was last decided on; none right after the start, when the first is sent
    /// unless the driver wants none at all.
    moved: Option<u16>,
    /// What this side has last asked for.
    asked: Option<Wanted>,
}

impl<A: Area> Ring<A> {
    pub(crate) fn new(
        areas: Areas<A>,
        size: u16,
        options: Options,
        position: QueuePosition,
    ) -> Result<Self, SetupError> {
        let (available, used) = (position.available, position.used);
        let ahead = if available.wrap == used.wrap { 0 } else { i32::from(size) }
            + i32::from(available.index)
            - i32::from(used.index);
        if available.index >= size || used.index >= size || !(0..=i32::from(size)).contains(&ahead) {
            return Err(SetupError::Position);
        }
        // Buffers that another device end had popped and not used count as outstanding here, too.
        let outstanding = ahead as u16;
        Ok(Self { areas, size, options, available, used, outstanding, held: None, moved: None, asked: None })
    }

    pub(crate) fn position(&self) -> QueuePosition {
        QueuePosition { available: self.available, used: self.used }
    }

    /// The descriptor at a place, as it is now.
    pub(crate) fn descriptor(&self, place: RingIndex) -> Result<Descriptor, QueueError> {
        Ok(self.areas.descriptors.load_descriptor(usize::from(place.index), Ordering::Relaxed)?)
    }

    fn pending(&self) -> Result<bool, QueueError> {
        let next =
            self.areas.descriptors.load_descriptor(usize::from(self.available.index), Ordering::Acquire)?;
        Ok(self.outstanding < self.size && is_available(next.fourth(), self.available.wrap))
    }

    pub(crate) fn poll(&mut self) -> Result<MoreWork, QueueError> {
        Ok(MoreWork::from_pending(self.pending()?))
    }

    #[inline(always)]
    pub(crate) fn pop(&mut self, buffers: &mut Buffers) -> Result<Option<Box<Body>>, QueueError> {
        let first =
            self.areas.descriptors.load_descriptor(usize::from(self.available.index), Ordering::Acquire)?;
        if !is_available(first.fourth(), self.available.wrap) || self.outstanding >= self.size {
            return Ok(None);
        }
        fetch_around(&self.areas.descriptors, usize::from(self.available.index));
        let mut body = buffers.take();
        if let Err(fault) = self.fill(first, buffers, &mut body) {
            buffers.recycle(body);
            return Err(fault);
        }
        self.outstanding += body.descriptors;
        self.available = self.available.packed_advance(body.descriptors, self.size);
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
        let (mut place, mut outstanding) = (self.available, self.outstanding);
        let next = loop {
            if singles.len() >= up_to {
                break Ok(Next::Unknown);
            }
            if outstanding >= self.size {
                break Ok(Next::Nothing);
            }
            match self.pop_single(place, buffers) {
                Ok(Ok(single)) => singles.push(single),
                Ok(Err(next)) => break Ok(next),
                Err(fault) => break Err(fault),
            }
            outstanding += 1;
            place = place.packed_advance(1, self.size);
        };
        (self.available, self.outstanding) = (place, outstanding);
        next
    }

    #[inline(always)]
    fn pop_single(
        &self,
        place: RingIndex,
        buffers: &mut Buffers,
    ) -> Result<Result<Single, Next>, QueueError> {
        let index = usize::from(place.index);
        let descriptor = self.areas.descriptors.load_descriptor(index, Ordering::Acquire)?;
        let flags = descriptor.fourth();
        if !is_available(flags, place.wrap) {
            return Ok(Err(Next::Nothing));
        }
        if flags & (DESC_F_INDIRECT | DESC_F_NEXT) != 0 {
            return Ok(Err(Next::Other));
        }
        fetch_around(&self.areas.descriptors, index);
        buffers.single(descriptor.third(), IoAddr(descriptor.addr), descriptor.len(), flags)
    }

    #[inline(always)]
    fn fill(&self, first: Descriptor, buffers: &mut Buffers, body: &mut Body) -> Result<(), QueueError> {
        // The commonest chains go the shortest way; a loop in here would double it.
        let id = match first.fourth() & (DESC_F_INDIRECT | DESC_F_NEXT) {
            0 => {
                buffers.append_only(body, IoAddr(first.addr), first.len(), first.fourth())?;
                body.descriptors = 1;
                first.third()
            }
            DESC_F_INDIRECT => {
                self.fill_from_table(first, buffers, body)?;
                body.descriptors = 1;
                first.third()
            }
            _ => self.walk(first, buffers, body)?,
        };
        // Refuses an id that is not below the size, too.
        buffers.lend(id, body)
    }

    /// virtio 1.3 §2.8.6: a chain lies in consecutive descriptors, and the last of them holds the buffer id.
    #[inline(never)]
    fn walk(&self, first: Descriptor, buffers: &mut Buffers, body: &mut Body) -> Result<u16, QueueError> {
        body.clear();
        let mut place = self.available;
        let mut descriptor = first;
        loop {
            body.descriptors += 1;
            let flags = descriptor.fourth();
            // virtio 1.3 §2.8.19: not in a list that NEXT links.
            if flags & DESC_F_INDIRECT != 0 {
                return Err(QueueError::Indirect);
            }
            buffers.append(body, IoAddr(descriptor.addr), descriptor.len(), flags)?;
            if flags & DESC_F_NEXT == 0 {
                return finish(body).map(|()| descriptor.third());
            }
            // A chain that runs into descriptors still in flight is longer than what the ring has left.
            if CHECKED && body.descriptors >= self.size - self.outstanding {
                return Err(QueueError::ChainTooLong);
            }
            place = place.packed_advance(1, self.size);
            descriptor =
                self.areas.descriptors.load_descriptor(usize::from(place.index), Ordering::Relaxed)?;
        }
    }

    #[inline(always)]
    fn fill_from_table(
        &self,
        reference: Descriptor,
        buffers: &mut Buffers,
        body: &mut Body,
    ) -> Result<(), QueueError> {
        // virtio 1.3 §2.8.19: not unless negotiated.
        if !self.options.indirect {
            return Err(QueueError::Indirect);
        }
        let table = buffers.table(IoAddr(reference.addr), reference.len())?;
        // virtio 1.3 §2.8.17: no longer than the queue.
        if CHECKED && table.entries > self.size {
            return Err(QueueError::ChainTooLong);
        }
        if table.entries == 1 {
            let only = buffers.entry(&table, 0)?;
            if only.fourth() & DESC_F_INDIRECT != 0 {
                return Err(QueueError::Indirect);
            }
            return buffers.append_only(body, IoAddr(only.addr), only.len(), only.fourth());
        }
        walk_table(&table, buffers, body)
    }

    /// Marks the descriptors of one or (with `IN_ORDER`: virtio 1.3 §2.8.8) more buffers used by one used descriptor.
    #[inline(always)]
    pub(crate) fn push_used(&mut self, used: Used) -> Result<(), QueueError> {
        let written = if used.written == 0 { 0 } else { DESC_F_WRITE };
        let descriptor = Descriptor::new(0, used.written, used.id, used_bits(self.used.wrap) | written);
        if self.held.is_none() {
            self.held = Some((self.used.index, descriptor));
        } else {
            self.areas.descriptors.store_descriptor_tail(
                usize::from(self.used.index),
                descriptor,
                Ordering::Relaxed,
            )?;
        }
        self.outstanding -= used.descriptors;
        self.used = self.used.packed_advance(used.descriptors, self.size);
        if let Some(moved) = &mut self.moved {
            *moved = moved.saturating_add(used.descriptors);
        }
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn publish(&mut self) -> Result<Notify, QueueError> {
        let Some((index, first)) = self.held.take() else { return Ok(Notify::Suppressed) };
        // virtio 1.3 §2.8.9: everything that belongs to the batch is visible before the flags of its first descriptor are.
        self.areas.descriptors.store_descriptor_tail(usize::from(index), first, Ordering::Release)?;
        self.areas.device.fence();
        let wanted = Wanted::load(&self.areas.driver)?;
        let needed = match self.moved.replace(0) {
            Some(moved) => wanted.reached(self.used, moved, self.size),
            None => wanted != Wanted::Never,
        };
        Ok(Notify::from_needed(needed))
    }

    fn ask(&mut self, wanted: Wanted) -> Result<(), QueueError> {
        if self.asked != Some(wanted) {
            wanted.store(&self.areas.device)?;
            self.asked = Some(wanted);
        }
        Ok(())
    }

    /// virtio 1.3 §2.8.10: asks to be notified of the next buffer, and looks once more.
    pub(crate) fn arm(&mut self) -> Result<MoreWork, QueueError> {
        let wanted = if self.options.event_index { Wanted::At(self.available) } else { Wanted::Always };
        self.ask(wanted)?;
        self.areas.device.fence();
        self.poll()
    }

    pub(crate) fn disarm(&mut self) -> Result<(), QueueError> {
        self.ask(Wanted::Never)
    }
}

/// virtio 1.3 §2.8.7: every entry of the table belongs to the buffer, in order; of its flags only `WRITE` counts.
#[inline(never)]
fn walk_table(table: &Table, buffers: &mut Buffers, body: &mut Body) -> Result<(), QueueError> {
    body.clear();
    for index in 0..table.entries {
        let entry = buffers.entry(table, index)?;
        if entry.fourth() & DESC_F_INDIRECT != 0 {
            return Err(QueueError::Indirect);
        }
        buffers.append(body, IoAddr(entry.addr), entry.len(), entry.fourth())?;
    }
    finish(body)
}
