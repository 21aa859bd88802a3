//! The driver end: [`DriverQueue`], by the operations that drivers know.
//!
//! This module holds `unsafe` constructors: whoever owns the ring's memory vouches for it once, there.
#![allow(unsafe_code)]

use crate::area::{Area, Areas, Descriptor, Mapped, check_alignment};
use crate::device::{MoreWork, Options};
use crate::error::{QueueError, SetupError};
use crate::layout::{AreaSizes, RingFormat, RingIndex, RingLayout, is_valid_size};
use crate::memory::{IoAddr, MemoryFault};
use crate::{packed, split};
use alloc::vec::Vec;
use core::fmt;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering;
use vioduct_spec::Features;
use vioduct_spec::ring::{DESCRIPTOR_AREA_ALIGN, DESCRIPTOR_SIZE};

/// One contiguous piece of a buffer, as the device addresses it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffer {
    /// Address of its first byte.
    pub addr: IoAddr,
    /// Length in bytes.
    pub len: u32,
}

/// Why a buffer was not added. The token is given back with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddError {
    /// Too few descriptors are free for now: get completions first.
    Full,
    /// A buffer needs at least one piece.
    Empty,
    /// More pieces than the queue has descriptors, or 2^32 bytes or more (virtio 1.3 §2.7.5.2, §2.7.5.3.1).
    TooLong,
    /// The device broke the rules, or the queue was marked broken: reset it.
    Broken,
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the queue is full: take completions first",
            Self::Empty => "a buffer of no pieces",
            Self::TooLong => {
                "a buffer of more pieces than the queue has descriptors, or of 2^32 bytes or more"
            }
            Self::Broken => "the queue is broken: reset the device or the queue",
        })
    }
}

impl core::error::Error for AddError {}

/// Whether the device is to be notified of what was published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a notification that is needed and not sent leaves the device asleep"]
pub enum Kick {
    /// Send an available-buffer notification.
    Needed,
    /// Nothing was published, or the device does not want to know.
    Suppressed,
}

impl Kick {
    pub(crate) const fn from_needed(needed: bool) -> Self {
        if needed { Self::Needed } else { Self::Suppressed }
    }
}

/// A buffer that the device has used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completion<T> {
    /// The token given to [`DriverQueue::add`].
    pub token: T,
    /// Bytes that the device says it wrote, from the start of the writable part; never more than was posted.
    pub written: u32,
}

/// Memory for the three areas of a ring, laid out by [`AreaSizes`].
pub struct RingMemory {
    host: NonNull<u8>,
    layout: RingLayout,
    format: RingFormat,
}

impl RingMemory {
    /// Bytes to allocate for a queue, 16-byte aligned (a page, for devices that want whole pages).
    #[must_use]
    pub const fn len_for(format: RingFormat, size: u16) -> usize {
        AreaSizes::of(format, size).total_len()
    }

    /// Ring memory at `host`, which the device sees at `device_address`.
    ///
    /// # Errors
    /// [`SetupError`] if the size is not one for the layout, or an address is not 16-byte aligned.
    ///
    /// # Safety
    /// [`len_for`](Self::len_for) bytes at `host` are zeroed, and valid for reads and writes for as long as this object or a queue
    /// made of it lives; nothing in this program holds references into them.
    pub unsafe fn new(
        host: NonNull<u8>,
        device_address: IoAddr,
        format: RingFormat,
        size: u16,
    ) -> Result<Self, SetupError> {
        if !is_valid_size(format, size) {
            return Err(SetupError::Size(size));
        }
        check_alignment(device_address, DESCRIPTOR_AREA_ALIGN)?;
        check_alignment(IoAddr(host.as_ptr() as u64), DESCRIPTOR_AREA_ALIGN)?;
        let sizes = AreaSizes::of(format, size);
        let len = sizes.total_len() as u64;
        let fault = SetupError::Memory(MemoryFault { at: device_address, len });
        device_address.checked_add(len).ok_or(fault)?;
        let area = |offset: usize| IoAddr(device_address.0 + offset as u64);
        let layout = RingLayout {
            size,
            descriptor_area: device_address,
            driver_area: area(sizes.driver_offset()),
            device_area: area(sizes.device_offset()),
        };
        Ok(Self { host, layout, format })
    }

    /// Size and place, as the device is told.
    #[must_use]
    pub const fn layout(&self) -> RingLayout {
        self.layout
    }

    fn areas(&self) -> Areas<Mapped> {
        let sizes = AreaSizes::of(self.format, self.layout.size);
        // SAFETY: `new` was promised `len_for` bytes, in which the three areas lie one after the other.
        let area = |offset, len| unsafe { Mapped::from_raw(self.host.add(offset), len) };
        Areas {
            descriptors: area(0, sizes.descriptor_len),
            driver: area(sizes.driver_offset(), sizes.driver_len),
            device: area(sizes.device_offset(), sizes.device_len),
        }
    }

    fn clear(&mut self) {
        let len = Self::len_for(self.format, self.layout.size);
        // SAFETY: `new` was promised as many bytes, writable.
        unsafe { ptr::write_bytes(self.host.as_ptr(), 0, len) };
    }
}

/// Memory for indirect tables: one for each descriptor or buffer id of the queue.
pub struct IndirectMemory {
    host: NonNull<u8>,
    device_address: IoAddr,
    tables: u16,
    entries: u16,
}

impl IndirectMemory {
    /// Bytes to allocate for `tables` tables (the queue size) of `entries` descriptors each, 16-byte aligned.
    #[must_use]
    pub const fn len_for(tables: u16, entries: u16) -> usize {
        tables as usize * entries as usize * DESCRIPTOR_SIZE
    }

    /// Table memory at `host`, which the device sees at `device_address`.
    ///
    /// # Safety
    /// [`len_for`](Self::len_for) bytes at `host`, 16-byte aligned, are valid for reads and writes for as long as this object or a
    /// queue made with it lives; nothing in this program holds references into them.
    #[must_use]
    pub unsafe fn new(host: NonNull<u8>, device_address: IoAddr, tables: u16, entries: u16) -> Self {
        Self { host, device_address, tables, entries }
    }
}

/// Indirect tables in use by a ring.
pub(crate) struct Indirect<A> {
    area: A,
    device_address: IoAddr,
    tables: u16,
    entries: u16,
}

impl<A: Area> Indirect<A> {
    pub(crate) fn fits(&self, id: u16, count: usize) -> bool {
        count <= usize::from(self.entries) && id < self.tables
    }

    pub(crate) fn first_entry(&self, id: u16) -> usize {
        usize::from(id) * usize::from(self.entries)
    }

    pub(crate) fn table_address(&self, id: u16) -> IoAddr {
        IoAddr(self.device_address.0 + (self.first_entry(id) * DESCRIPTOR_SIZE) as u64)
    }

    pub(crate) const fn table_len(count: usize) -> u32 {
        (count * DESCRIPTOR_SIZE) as u32
    }

    pub(crate) fn store(&self, entry: usize, descriptor: Descriptor) -> Result<(), MemoryFault> {
        self.area.store_descriptor(entry, descriptor, Ordering::Relaxed)
    }
}

enum Ring<T> {
    Split(split::driver::Ring<Mapped, T>),
    Packed(packed::driver::Ring<Mapped, T>),
}

macro_rules! on_ring {
    ($ring:expr, $name:ident => $call:expr) => {
        match $ring {
            Ring::Split($name) => $call,
            Ring::Packed($name) => $call,
        }
    };
}

/// The driver end of a virtqueue. `T` is the token that comes back with a completion: an index, or the owned buffer itself.
///
/// Buffers are added, then published together by [`kick_prepare`](Self::kick_prepare). A device that breaks the rules makes the
/// queue *broken*: every later operation says so, until [`reset`](Self::reset).
pub struct DriverQueue<T> {
    ring: Ring<T>,
    indirect: Option<Indirect<Mapped>>,
    /// Fewest pieces that go into an indirect table.
    tables_from: u16,
    memory: RingMemory,
    negotiated: Features,
    broken: Option<QueueError>,
}

// SAFETY: the ring memory is accessed by atomics through this object alone; what is behind the pointers may be used from any
// thread (the promise made to `RingMemory::new` names no thread).
unsafe impl<T: Send> Send for DriverQueue<T> {}

impl<T> DriverQueue<T> {
    /// A queue over ring memory, in the layout that `negotiated` selects, which must be the memory's. Without `indirect`, or
    /// without the feature, buffers take a descriptor per piece.
    ///
    /// # Errors
    /// [`SetupError::Size`] if the memory was laid out for the other layout.
    pub fn new(
        memory: RingMemory,
        indirect: Option<IndirectMemory>,
        negotiated: Features,
    ) -> Result<Self, SetupError> {
        if memory.format != RingFormat::of(negotiated) {
            return Err(SetupError::Size(memory.layout.size));
        }
        let indirect = indirect.filter(|_| negotiated.contains(Features::INDIRECT_DESC)).map(|tables| {
            let len = IndirectMemory::len_for(tables.tables, tables.entries);
            Indirect {
                // SAFETY: `IndirectMemory::new` was promised as many bytes.
                area: unsafe { Mapped::from_raw(tables.host, len) },
                device_address: tables.device_address,
                tables: tables.tables,
                entries: tables.entries,
            }
        });
        let ring = Self::fresh(&memory, negotiated);
        Ok(Self { ring, indirect, tables_from: 2, memory, negotiated, broken: None })
    }

    fn fresh(memory: &RingMemory, negotiated: Features) -> Ring<T> {
        let (size, options) = (memory.layout.size, Options::of(negotiated));
        match memory.format {
            RingFormat::Split => Ring::Split(split::driver::Ring::new(memory.areas(), size, options)),
            RingFormat::Packed => Ring::Packed(packed::driver::Ring::new(memory.areas(), size, options)),
        }
    }

    /// Size and place, as the device is told.
    #[must_use]
    pub const fn layout(&self) -> RingLayout {
        self.memory.layout
    }

    /// Size in descriptors.
    #[must_use]
    pub const fn size(&self) -> u16 {
        self.memory.layout.size
    }

    /// Split or packed.
    #[must_use]
    pub const fn format(&self) -> RingFormat {
        self.memory.format
    }

    /// Descriptors not in use.
    #[must_use]
    pub fn free_descriptors(&self) -> u16 {
        on_ring!(&self.ring, ring => ring.free_descriptors())
    }

    /// Buffers added and not yet got back.
    #[must_use]
    pub fn in_flight(&self) -> u16 {
        on_ring!(&self.ring, ring => ring.slots.in_flight())
    }

    /// Puts buffers of `pieces` pieces and more into indirect tables, where they fit; from 2 on unless told otherwise. A table saves
    /// descriptors, and costs the device a look elsewhere.
    pub const fn use_tables_from(&mut self, pieces: u16) {
        self.tables_from = pieces;
    }

    /// Where the next buffer will be made available.
    #[must_use]
    pub fn next_available(&self) -> RingIndex {
        on_ring!(&self.ring, ring => ring.next_available())
    }

    /// How many used descriptors to take, of the next `count`, so that the last one ends a cache line of them: all of them in a split ring,
    /// or where no line ends. A device that works on whole lines goes on doing so as long as what it is given comes to whole lines.
    #[must_use]
    #[inline]
    pub const fn whole_lines(&self, count: u16) -> u16 {
        match &self.ring {
            Ring::Split(_) => count,
            Ring::Packed(ring) => ring.whole_lines(count),
        }
    }

    /// Where the next used buffer is looked for.
    #[must_use]
    pub fn next_used(&self) -> RingIndex {
        on_ring!(&self.ring, ring => ring.next_used())
    }

    /// Adds a buffer: device-readable pieces, then device-writable ones. The device sees it at the next
    /// [`kick_prepare`](Self::kick_prepare). More than one piece goes into an indirect table where there is one that fits.
    ///
    /// # Errors
    /// [`AddError`], with the token; nothing was added then.
    #[inline(always)]
    pub fn add(&mut self, readable: &[Buffer], writable: &[Buffer], token: T) -> Result<(), (AddError, T)> {
        let writable_len = match self.check(readable, writable) {
            Ok(len) => len,
            Err(error) => return Err((error, token)),
        };
        let count = readable.len() + writable.len();
        let tables = if count < usize::from(self.tables_from) { None } else { self.indirect.as_ref() };
        let added = on_ring!(&mut self.ring, ring => match tables {
            Some(tables) if tables.fits(ring.next_id(), count) => {
                if ring.free_descriptors() == 0 {
                    return Err((AddError::Full, token));
                }
                ring.add_indirect(tables, (readable, writable), writable_len, token)
            }
            _ => {
                if count > usize::from(ring.free_descriptors()) {
                    return Err((AddError::Full, token));
                }
                ring.add(readable, writable, writable_len, token)
            }
        });
        // Only an offset outside of the ring's own memory could fail, and none is.
        if let Err(error) = added {
            self.broken = Some(error);
        }
        Ok(())
    }

    #[inline(always)]
    fn check(&self, readable: &[Buffer], writable: &[Buffer]) -> Result<u32, AddError> {
        if self.broken.is_some() {
            return Err(AddError::Broken);
        }
        let count = readable.len() + writable.len();
        if count == 0 {
            return Err(AddError::Empty);
        }
        if count > usize::from(self.size()) {
            return Err(AddError::TooLong);
        }
        // A sum that stops where it overflows: the compiler makes of it the short loop that a few pieces need.
        let sum =
            |from: u32, parts: &[Buffer]| parts.iter().try_fold(from, |sum, part| sum.checked_add(part.len));
        let writable_len = sum(0, writable).ok_or(AddError::TooLong)?;
        sum(writable_len, readable).ok_or(AddError::TooLong)?;
        Ok(writable_len)
    }

    /// Shows everything added so far to a device that polls. One that sleeps is to be woken: whether it is, the next
    /// [`kick_prepare`](Self::kick_prepare) says. That waits until all that this processor has written is there for others: show several
    /// queues first, then ask for each.
    #[inline]
    pub fn publish(&mut self) {
        self.or_broken((), |ring| on_ring!(ring, ring => ring.publish()));
    }

    /// Shows the device everything added so far, and says whether it wants to be notified: once per batch.
    #[inline]
    pub fn kick_prepare(&mut self) -> Kick {
        self.or_broken(Kick::Suppressed, |ring| on_ring!(ring, ring => ring.kick_prepare()))
    }

    /// The upper 16 bits of a notification when `NOTIFICATION_DATA` is negotiated: where the next buffer will be made available
    /// (virtio 1.3 §2.9).
    #[must_use]
    pub fn notification_data(&self) -> u16 {
        on_ring!(&self.ring, ring => ring.notification_data())
    }

    /// The next buffer that the device has used, in the order in which it says so.
    ///
    /// # Errors
    /// [`QueueError`] if the device named a buffer that it does not have, or more buffers than there are; the queue is broken then.
    #[inline(always)]
    pub fn get(&mut self) -> Result<Option<Completion<T>>, QueueError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        // Each layout on its own way to the caller: where they meet, what they return is packed and unpacked.
        let error = on_ring!(&mut self.ring, ring => match ring.get() {
            Ok(None) => return Ok(None),
            Ok(Some(buffer)) => return Ok(Some(Completion { token: buffer.token, written: buffer.written })),
            Err(error) => error,
        });
        self.broken = Some(error);
        Err(error)
    }

    /// Asks the device for no used-buffer notifications. One may come all the same.
    pub fn disable_callback(&mut self) {
        self.or_broken((), |ring| on_ring!(ring, ring => ring.disable_callback()));
    }

    /// Asks the device to notify of the next used buffer, and looks whether there is one already: on [`MoreWork::Pending`] no
    /// notification may come, so get it now. With the event index one notification is sent for each call.
    pub fn enable_callback(&mut self) -> MoreWork {
        self.or_broken(MoreWork::None, |ring| on_ring!(ring, ring => ring.enable_callback(0)))
    }

    /// The same, for when three quarters of what is in flight have been used. Without the event index it is
    /// [`enable_callback`](Self::enable_callback).
    pub fn enable_callback_delayed(&mut self) -> MoreWork {
        let event_index = self.negotiated.contains(Features::EVENT_IDX);
        let after = if event_index { (u32::from(self.in_flight()) * 3 / 4) as u16 } else { 0 };
        self.or_broken(MoreWork::None, |ring| on_ring!(ring, ring => ring.enable_callback(after)))
    }

    /// Takes every token back that is in flight, in no particular order. The device must have been reset, or the queue, so that it
    /// touches the buffers no more. The queue is broken until [`reset`](Self::reset).
    pub fn detach_unused(&mut self) -> Vec<T> {
        self.mark_broken();
        on_ring!(&mut self.ring, ring => ring.slots.detach())
    }

    /// Starts the queue anew, from zeroed ring memory: after the device, or this queue of it, has been reset and before it is
    /// enabled again. Tokens still in flight are dropped.
    pub fn reset(&mut self) {
        self.memory.clear();
        self.ring = Self::fresh(&self.memory, self.negotiated);
        self.broken = None;
    }

    /// Whether the queue refuses to go on.
    #[must_use]
    pub const fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Makes the queue refuse to go on, as when its device has gone away.
    pub const fn mark_broken(&mut self) {
        if self.broken.is_none() {
            self.broken = Some(QueueError::Broken);
        }
    }

    #[inline]
    fn or_broken<R>(
        &mut self,
        otherwise: R,
        operation: impl FnOnce(&mut Ring<T>) -> Result<R, QueueError>,
    ) -> R {
        if self.broken.is_some() {
            return otherwise;
        }
        match operation(&mut self.ring) {
            Ok(value) => value,
            Err(error) => {
                self.broken = Some(error);
                otherwise
            }
        }
    }
}
