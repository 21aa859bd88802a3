//! What a device end needs beside the ring: translated addresses, recycled chain bodies, and a record of what is in flight.
//!
//! This module holds `unsafe` only to read indirect tables through a pointer that was validated for the whole table.
#![allow(unsafe_code)]

use crate::CHECKED;
use crate::area::{Descriptor, load_descriptor_at};
use crate::burst::{Next, Single};
use crate::chain::{Body, Segment};
use crate::error::QueueError;
use crate::memory::{Access, IoAddr, Memory, MemoryFault, Region};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use vioduct_spec::ring::{DESC_F_WRITE, DESCRIPTOR_SIZE, MAX_QUEUE_SIZE};

static NEXT_QUEUE: AtomicU64 = AtomicU64::new(0);

pub(crate) struct Buffers {
    memory: Arc<dyn Memory>,
    /// The region of the last hit, and the one before it: guests have RAM below and above the 32-bit hole.
    near: Region,
    other: Region,
    /// Boxed, as they travel in chains: what is kept here is handed out without a copy.
    #[allow(clippy::vec_box)]
    spare: Vec<Box<Body>>,
    /// By id; bytes, for a bitmap takes twice the instructions.
    in_flight: Box<[bool]>,
    /// Bodies made: each is in `spare` or in a chain.
    made: usize,
    /// Buffers that are in bursts.
    singles: usize,
    queue: u64,
}

/// What nothing is in.
const NOWHERE: Region =
    Region { at: IoAddr(u64::MAX), len: 0, host: NonNull::dangling(), access: Access::Read };

impl Buffers {
    pub(crate) fn new(memory: Arc<dyn Memory>, size: u16) -> Self {
        Self {
            memory,
            near: NOWHERE,
            other: NOWHERE,
            spare: Vec::with_capacity(usize::from(size)),
            in_flight: vec![false; usize::from(size)].into_boxed_slice(),
            made: 0,
            singles: 0,
            queue: NEXT_QUEUE.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub(crate) fn memory(&self) -> &dyn Memory {
        &*self.memory
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.made - self.spare.len() + self.singles
    }

    pub(crate) fn shared_memory(&self) -> &Arc<dyn Memory> {
        &self.memory
    }

    /// A buffer of one mapped piece, recorded as in flight; one of another kind is left as it is.
    #[inline(always)]
    pub(crate) fn single(
        &mut self,
        id: u16,
        at: IoAddr,
        len: u32,
        flags: u16,
    ) -> Result<Result<Single, Next>, QueueError> {
        let access = if flags & DESC_F_WRITE == 0 { Access::Read } else { Access::Write };
        let host = match self.near.translate(at, u64::from(len)) {
            None => self.far_single(at, len),
            near => near,
        };
        match host {
            Some(host) if len != 0 && (!CHECKED || self.near.access.allows(access)) => {
                self.mark_lent(id)?;
                Ok(Ok(Single { host, at, len, written: 0, id, access }))
            }
            _ => Ok(Err(Next::Other)),
        }
    }

    /// Looks for the region that holds all of a piece; it is the near one then.
    #[cold]
    fn far_single(&mut self, at: IoAddr, len: u32) -> Option<NonNull<u8>> {
        self.find(at)?.translate(at, u64::from(len))
    }

    /// So many more buffers are in bursts.
    pub(crate) fn lent_in_bursts(&mut self, count: usize) {
        self.singles += count;
    }

    /// One of them is in a chain now, whose body counts.
    pub(crate) fn lend_from_burst(&mut self) {
        self.singles -= 1;
    }

    /// Records that buffers of a burst of this queue have come back.
    #[inline(always)]
    pub(crate) fn take_back_burst(&mut self, done: &[Single]) {
        self.singles -= done.len();
        for single in done {
            if let Some(lent) = self.in_flight.get_mut(usize::from(single.id)) {
                *lent = false;
            }
        }
    }

    /// A body, recycled if there is one: to be cleared, or set by [`append_only`](Self::append_only).
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Box<Body> {
        match self.spare.pop() {
            Some(body) => body,
            None => self.fresh(),
        }
    }

    #[cold]
    fn fresh(&mut self) -> Box<Body> {
        self.made += 1;
        Box::new(Body::new(Arc::clone(&self.memory), self.queue))
    }

    /// Keeps a body for the next chain.
    #[inline(always)]
    pub(crate) fn recycle(&mut self, body: Box<Body>) {
        if self.spare.len() < self.spare.capacity() {
            self.spare.push(body);
        }
    }

    /// Records that buffer `id` is in flight; it must not be already (hostile drivers make a buffer available twice).
    #[inline(always)]
    pub(crate) fn lend(&mut self, id: u16, body: &mut Body) -> Result<(), QueueError> {
        body.id = id;
        self.mark_lent(id)
    }

    #[inline(always)]
    fn mark_lent(&mut self, id: u16) -> Result<(), QueueError> {
        let lent = self.in_flight.get_mut(usize::from(id)).ok_or(QueueError::BufferId(id))?;
        if CHECKED && *lent {
            return Err(QueueError::InFlight(id));
        }
        *lent = true;
        Ok(())
    }

    pub(crate) fn queue(&self) -> u64 {
        self.queue
    }

    /// Records that a buffer of this queue has come back.
    #[inline(always)]
    pub(crate) fn give_back(&mut self, body: &Body) -> Result<(), QueueError> {
        match self.in_flight.get_mut(usize::from(body.id)) {
            Some(lent) if body.queue == self.queue && *lent => *lent = false,
            _ => return Err(QueueError::BufferId(body.id)),
        }
        Ok(())
    }

    /// Sets a chain of one descriptor: what `clear`, [`append`](Self::append) and [`finish`] do, with nothing to add up.
    #[inline(always)]
    pub(crate) fn append_only(
        &mut self,
        body: &mut Body,
        at: IoAddr,
        len: u32,
        flags: u16,
    ) -> Result<(), QueueError> {
        let access = if flags & DESC_F_WRITE == 0 { Access::Read } else { Access::Write };
        match self.near.translate(at, u64::from(len)) {
            Some(host) if len != 0 && (!CHECKED || self.near.access.allows(access)) => {
                body.set_only(Segment::new(Some(host), at, len), access);
                Ok(())
            }
            _ => self.append_only_far(body, at, len, flags),
        }
    }

    #[cold]
    fn append_only_far(
        &mut self,
        body: &mut Body,
        at: IoAddr,
        len: u32,
        flags: u16,
    ) -> Result<(), QueueError> {
        body.clear();
        self.append(body, at, len, flags)?;
        finish(body)
    }

    /// Adds one descriptor's buffer to a chain: its part, by its flags, and its pieces, by region.
    #[inline(always)]
    pub(crate) fn append(
        &mut self,
        body: &mut Body,
        at: IoAddr,
        len: u32,
        flags: u16,
    ) -> Result<(), QueueError> {
        let access = if flags & DESC_F_WRITE == 0 {
            // virtio 1.3 §2.7.4.2: the driver places device-writable descriptors after all device-readable ones.
            if CHECKED && body.writable_len != 0 {
                return Err(QueueError::Order);
            }
            body.readable_len += u64::from(len);
            Access::Read
        } else {
            if body.writable_len == 0 {
                body.readable = body.segments.len();
            }
            body.writable_len += u64::from(len);
            Access::Write
        };
        match self.near.translate(at, u64::from(len)) {
            Some(host) if len != 0 && (!CHECKED || self.near.access.allows(access)) => {
                body.segments.push(Segment::new(Some(host), at, len));
            }
            _ => self.append_far(body, at, len, access)?,
        }
        Ok(())
    }

    /// The same for an address outside of the region of the last hit, or a buffer that crosses regions.
    #[cold]
    fn append_far(
        &mut self,
        body: &mut Body,
        mut at: IoAddr,
        mut len: u32,
        access: Access,
    ) -> Result<(), QueueError> {
        let fault = MemoryFault { at, len: u64::from(len) };
        at.checked_add(u64::from(len)).ok_or(fault)?;
        while len > 0 {
            let Some(region) = self.find(at) else {
                if !self.memory.reaches(at, u64::from(len), access) {
                    return Err(fault.into());
                }
                body.segments.push(Segment::new(None, at, len));
                break;
            };
            let host = region.translate(at, 0).ok_or(fault)?;
            let here = (region.len - (at.0 - region.at.0)).min(u64::from(len)) as u32;
            if here == 0 || !region.access.allows(access) {
                return Err(fault.into());
            }
            body.segments.push(Segment::new(Some(host), at, here));
            len -= here;
            at = IoAddr(at.0.wrapping_add(u64::from(here)));
        }
        Ok(())
    }

    /// The region that holds `at`, from the two remembered ones or from the memory; it becomes the near one.
    fn find(&mut self, at: IoAddr) -> Option<Region> {
        if self.near.translate(at, 1).is_none() {
            core::mem::swap(&mut self.near, &mut self.other);
            if self.near.translate(at, 1).is_none() {
                self.near = self.memory.region(at)?;
            }
        }
        Some(self.near)
    }

    /// An indirect table of `len` bytes at `at`, with a length that is checked here, whatever the layout.
    #[inline(always)]
    pub(crate) fn table(&mut self, at: IoAddr, len: u32) -> Result<Table, QueueError> {
        let entries = len / DESCRIPTOR_SIZE as u32;
        if len == 0 || !len.is_multiple_of(DESCRIPTOR_SIZE as u32) || entries > u32::from(MAX_QUEUE_SIZE) {
            return Err(QueueError::IndirectLength(len));
        }
        let mut host = self.mapped_table(at, len);
        if host.is_none() {
            host = self.far_table(at, len)?;
        }
        Ok(Table { at, host, entries: entries as u16 })
    }

    /// Where a table is mapped, if it is readable, 8-byte aligned, and all in the region of the last hit.
    #[inline(always)]
    fn mapped_table(&self, at: IoAddr, len: u32) -> Option<NonNull<u8>> {
        let host = self.near.translate(at, u64::from(len))?;
        (self.near.access.allows(Access::Read) && at.0.is_multiple_of(8)).then_some(host)
    }

    /// The same for a table that may be in another region, or in none.
    #[cold]
    fn far_table(&mut self, at: IoAddr, len: u32) -> Result<Option<NonNull<u8>>, QueueError> {
        at.checked_add(u64::from(len)).ok_or(MemoryFault { at, len: u64::from(len) })?;
        Ok(self.find(at).and_then(|_| self.mapped_table(at, len)))
    }

    /// Entry `index` of a table, read once.
    #[inline(always)]
    pub(crate) fn entry(&self, table: &Table, index: u16) -> Result<Descriptor, QueueError> {
        if index >= table.entries {
            return Err(QueueError::DescriptorIndex(index));
        }
        match table.host {
            // SAFETY: the whole table lies in one region, 8-byte aligned, which `self.memory` keeps mapped; tables are used
            // within one pop; `index` was checked above.
            Some(host) => Ok(unsafe { load_descriptor_at(host, usize::from(index), Ordering::Relaxed) }),
            None => self.scattered_entry(table, index),
        }
    }

    #[cold]
    fn scattered_entry(&self, table: &Table, index: u16) -> Result<Descriptor, QueueError> {
        let mut bytes = [0; DESCRIPTOR_SIZE];
        let at = IoAddr(table.at.0 + u64::from(index) * DESCRIPTOR_SIZE as u64);
        self.memory.read(at, &mut bytes)?;
        Ok(Descriptor::from_bytes(bytes))
    }
}

/// An indirect descriptor table whose length has been checked.
pub(crate) struct Table {
    pub(crate) entries: u16,
    at: IoAddr,
    /// Where it is mapped; none across regions, unaligned, or remote: entry by entry through [`Memory::read`] then.
    host: Option<NonNull<u8>>,
}

/// Ends a chain: where its writable part starts, if it has none, and how long it may be.
///
/// virtio 1.3 §2.7.5.2: a driver does not add a chain of more than 2^32 bytes; lengths here stay below it, so that the number of
/// bytes written fits its field.
#[inline(always)]
pub(crate) fn finish(body: &mut Body) -> Result<(), QueueError> {
    if body.writable_len == 0 {
        body.readable = body.segments.len();
    }
    if CHECKED && body.readable_len + body.writable_len > u64::from(u32::MAX) {
        return Err(QueueError::LengthOverflow);
    }
    Ok(())
}
