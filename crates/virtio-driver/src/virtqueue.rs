//! A virtqueue in DMA memory: the driver end of the ring, its memory, and its number at the device.
//!
//! This module holds `unsafe` because it vouches for the ring's memory, which it owns.
#![allow(unsafe_code)]

use crate::dma::{Dma, DmaBuffer};
use crate::error::{InitError, RequestError};
use crate::lent::{DeviceAccess, Lent};
use crate::transport::{Transport, TransportError};
use alloc::vec::Vec;
use core::fmt;
use vioduct_spec::Features;
use vioduct_spec::ring::MAX_QUEUE_SIZE;
use vioduct_virtqueue::{
    AddError, Buffer, Completion, DriverQueue, IndirectMemory, Kick, MoreWork, QueueError, RingFormat,
    RingMemory,
};

/// What a driver wants of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueSetup {
    /// Largest size in descriptors that the driver has use for; the device may allow less.
    pub max_size: u16,
    /// Pieces that fit into an indirect table, where those are negotiated; below 2, none is used.
    pub indirect_entries: u16,
}

/// A virtqueue. `K` is the token that comes back with a completion: an index, or the owned buffer itself, which is safe with the
/// queue until then. Going out of scope before its device was reset, it leaks its memory and its tokens.
pub struct Virtqueue<D: Dma, K> {
    index: u16,
    queue: Lent<DriverQueue<K>>,
    _ring: Lent<DmaBuffer<D>>,
    _tables: Option<Lent<DmaBuffer<D>>>,
    access: DeviceAccess,
}

impl<D: Dma + Clone, K> Virtqueue<D, K> {
    pub(crate) fn set_up<T: Transport>(
        index: u16,
        setup: QueueSetup,
        negotiated: Features,
        dma: &D,
        (transport, access): (&mut T, &DeviceAccess),
    ) -> Result<Self, InitError> {
        let format = RingFormat::of(negotiated);
        let size = choose_size(index, format, setup.max_size, transport.queue_size_max(index))?;
        let ring = DmaBuffer::new(dma.clone(), RingMemory::len_for(format, size))?;
        // SAFETY: the buffer is zeroed and page-aligned, and as long as asked for; it is kept beside the queue made of it, where
        // nothing else refers to it, and dropped after.
        let ring_memory = unsafe { RingMemory::new(ring.host(), ring.io_addr(), format, size) }?;
        let entries = setup.indirect_entries;
        let with_tables = negotiated.contains(Features::INDIRECT_DESC) && entries >= 2;
        let tables = with_tables.then(|| DmaBuffer::new(dma.clone(), IndirectMemory::len_for(size, entries)));
        let tables = tables.transpose()?;
        let indirect = tables.as_ref().map(|tables| {
            // SAFETY: as above.
            unsafe { IndirectMemory::new(tables.host(), tables.io_addr(), size, entries) }
        });
        let queue = DriverQueue::new(ring_memory, indirect, negotiated)?;
        let queue = Self {
            index,
            queue: Lent::new(queue, access),
            _ring: Lent::new(ring, access),
            _tables: tables.map(|tables| Lent::new(tables, access)),
            access: access.clone(),
        };
        transport.enable_queue(index, queue.queue.layout())?;
        Ok(queue)
    }
}

/// The largest size that suits driver, device and layout. What the device says is a limit and nothing more (row 77 of the
/// hostile peers).
fn choose_size(queue: u16, format: RingFormat, wanted: u16, max: u16) -> Result<u16, TransportError> {
    if max == 0 {
        return Err(TransportError::NoQueue(queue));
    }
    let size = wanted.min(max).min(MAX_QUEUE_SIZE);
    // virtio 1.3 §2.7: a power of two in a split ring; a device that allows more allows any lower power.
    let size = match (format, size.checked_ilog2()) {
        (RingFormat::Packed, _) => size,
        (RingFormat::Split, Some(log)) => 1 << log,
        (RingFormat::Split, None) => 0,
    };
    if size == 0 { Err(TransportError::QueueSize { queue, wanted, max }) } else { Ok(size) }
}

impl<D: Dma, K> Virtqueue<D, K> {
    /// Its number at the device.
    #[must_use]
    pub const fn index(&self) -> u16 {
        self.index
    }

    /// The driver end of the ring, for what is not repeated here.
    #[must_use]
    pub fn ring(&self) -> &DriverQueue<K> {
        &self.queue
    }

    /// Puts buffers of `pieces` pieces and more into indirect tables, where there are any and they fit; from 2 on unless told
    /// otherwise.
    pub fn use_tables_from(&mut self, pieces: u16) {
        self.queue.use_tables_from(pieces);
    }

    /// Adds a buffer; the device sees it at the next [`kick`](Self::kick). The token keeps whatever the pieces lie in.
    ///
    /// # Errors
    /// [`AddError`], with the token.
    pub fn add(&mut self, readable: &[Buffer], writable: &[Buffer], token: K) -> Result<(), (AddError, K)> {
        self.queue.add(readable, writable, token)
    }

    /// Shows what was added to a device that polls. One that sleeps learns of it at the next [`kick`](Self::kick).
    pub fn publish(&mut self) {
        self.queue.publish();
    }

    /// Shows the device what was added, and notifies it if it wants to know.
    ///
    /// # Errors
    /// Of the transport.
    pub fn kick<T: Transport + ?Sized>(&mut self, transport: &mut T) -> Result<(), TransportError> {
        match self.queue.kick_prepare() {
            Kick::Needed => transport.notify(self.index, self.queue.notification_data()),
            Kick::Suppressed => Ok(()),
        }
    }

    /// The next buffer that the device has used.
    ///
    /// # Errors
    /// [`QueueError`] if the device lied; the queue is broken then.
    pub fn get(&mut self) -> Result<Option<Completion<K>>, QueueError> {
        self.queue.get()
    }

    /// Asks for no used-buffer notifications.
    pub fn disable_callback(&mut self) {
        self.queue.disable_callback();
    }

    /// Asks for one, and looks whether there is something already.
    #[must_use = "what is pending already may bring no notification"]
    pub fn enable_callback(&mut self) -> MoreWork {
        self.queue.enable_callback()
    }

    /// The same once most of what is in flight has been used.
    #[must_use = "what is pending already may bring no notification"]
    pub fn enable_callback_delayed(&mut self) -> MoreWork {
        self.queue.enable_callback_delayed()
    }

    /// Resets this queue alone (virtio 1.3 §2.6.1), takes back what was in flight, and gives the device the empty queue again.
    ///
    /// # Errors
    /// Of the transport; the queue is broken then.
    pub fn restart<T: Transport + ?Sized>(&mut self, transport: &mut T) -> Result<Vec<K>, RequestError> {
        self.queue.mark_broken();
        transport.reset_queue(self.index)?;
        let unused = self.queue.detach_unused();
        self.queue.reset();
        let enabled = transport.enable_queue(self.index, self.queue.layout());
        if enabled.is_err() {
            self.queue.mark_broken();
        }
        enabled?;
        Ok(unused)
    }

    pub(crate) fn access(&self) -> &DeviceAccess {
        &self.access
    }
}

impl<D: Dma, K> fmt::Debug for Virtqueue<D, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Virtqueue")
            .field("index", &self.index)
            .field("layout", &self.queue.layout())
            .field("in_flight", &self.queue.in_flight())
            .finish_non_exhaustive()
    }
}
