//! [`Rig`]: the smallest machine for the tests and examples of one device: memory, an endpoint, and a driver end per queue.
//!
//! This module holds `unsafe` because a driver end is made over raw memory.
#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::endpoint::{Area, Endpoint, Half, StatusWrite, TransportInterrupts};
use crate::inline::Inline;
use crate::memory::MemoryMap;
use crate::model::DeviceModel;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vioduct_spec::{Features, Status};
use vioduct_virtqueue::{Buffer, DriverQueue, IoAddr, Kick, Memory, RingFormat, RingMemory};

/// Why a rig could not do what a test asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RigError(String);

fn rig_error(error: impl std::fmt::Display) -> RigError {
    RigError(error.to_string())
}

/// Counts the notifications that reach the driver.
#[derive(Debug, Default)]
pub struct Notifications {
    used: AtomicU64,
    config: AtomicU64,
}

impl Notifications {
    /// Used-buffer notifications so far, of all queues.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// Configuration change notifications so far.
    pub fn config(&self) -> u64 {
        self.config.load(Ordering::Acquire)
    }
}

impl TransportInterrupts for Notifications {
    fn queue(&self, _q: u16) {
        self.used.fetch_add(1, Ordering::AcqRel);
    }
    fn config(&self) {
        self.config.fetch_add(1, Ordering::AcqRel);
    }
}

/// A buffer that the device has used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// How many bytes the device says it wrote.
    pub written: u32,
    /// The whole writable part, as it is now.
    pub bytes: Vec<u8>,
}

/// Where the writable part of a buffer lies.
type Token = Vec<Buffer>;

/// A device brought up, and driver ends of its queues.
pub struct Rig<B> {
    /// The device.
    pub endpoint: Endpoint<B>,
    /// All of the device's memory: rings first, then buffers.
    pub memory: Arc<MemoryMap>,
    /// What the device has notified.
    pub notifications: Arc<Notifications>,
    queues: Vec<DriverQueue<Token>>,
    /// Where the next buffer is placed.
    next: u64,
}

impl<B: Backend> Rig<B> {
    const RINGS_LEN: u64 = 1 << 20;
    const LEN: u64 = 4 << 20;
    /// What a rig's pretended transport implements.
    pub const TRANSPORT: Features = Features::RING_RESET.with(Features::NOTIFICATION_DATA);

    /// A device in reset, with its memory.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn in_reset(backend: B) -> Result<Self, RigError> {
        let memory = Arc::new(MemoryMap::shared(Self::LEN).map_err(rig_error)?);
        let notifications = Arc::new(Notifications::default());
        let endpoint = Endpoint::new(backend, memory.clone(), notifications.clone(), Self::TRANSPORT);
        Ok(Self { endpoint, memory, notifications, queues: Vec::new(), next: Self::RINGS_LEN })
    }

    /// A device that a driver with `features` and `VERSION_1` has brought up (virtio 1.3 §3.1.1), each queue as large as can be.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn new(backend: B, features: Features) -> Result<Self, RigError> {
        let mut rig = Self::in_reset(backend)?;
        rig.negotiate(features)?;
        for q in 0..rig.endpoint.queue_count() {
            rig.enable_queue(q)?;
        }
        rig.write_status(Status::DRIVER_OK)?;
        Ok(rig)
    }

    /// Brings a device in reset up to FEATURES_OK.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn negotiate(&mut self, features: Features) -> Result<(), RigError> {
        self.write_status(Status::ACKNOWLEDGE)?;
        self.write_status(Status::DRIVER)?;
        for select in 0..2 {
            let word = (features | Features::VERSION_1).word(select);
            self.endpoint.set_driver_features(select, word);
        }
        self.write_status(Status::FEATURES_OK)
    }

    /// Sets `bits` in the status field.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn write_status(&mut self, bits: Status) -> Result<(), RigError> {
        match self.endpoint.write_status((self.endpoint.status() | bits).0) {
            StatusWrite::Accepted => Ok(()),
            other => Err(RigError(format!("status {bits}: {other:?}"))),
        }
    }

    /// Lays queue `q` out afresh and enables it. Queues are enabled in order at first.
    ///
    /// # Errors
    /// If the ring does not fit, or the device refuses.
    pub fn enable_queue(&mut self, q: u16) -> Result<(), RigError> {
        let negotiated = self.endpoint.negotiated();
        let (format, size) = (RingFormat::of(negotiated), self.endpoint.queue_size_max(q));
        let len = RingMemory::len_for(format, size);
        let stride = Self::RINGS_LEN / u64::from(self.endpoint.queue_count());
        let at = IoAddr((stride * u64::from(q)).next_multiple_of(4096));
        self.memory.write(at, &vec![0; len]).map_err(rig_error)?;
        let region = self.memory.region(at).and_then(|region| region.translate(at, len as u64));
        let host = region.filter(|_| len as u64 <= stride).ok_or_else(|| rig_error("rings too large"))?;
        // SAFETY: the bytes were zeroed just now, are part of a mapping that this rig keeps, and are given to no other queue;
        // memory maps hold no references into their memory.
        let ring = unsafe { RingMemory::new(host, at, format, size) }.map_err(rig_error)?;
        let layout = ring.layout();
        self.endpoint.set_queue_size(q, size);
        for (area, address) in [
            (Area::Descriptor, layout.descriptor_area),
            (Area::Driver, layout.driver_area),
            (Area::Device, layout.device_area),
        ] {
            self.endpoint.set_queue_address(q, area, Half::Low, address.0 as u32);
            self.endpoint.set_queue_address(q, area, Half::High, (address.0 >> 32) as u32);
        }
        self.endpoint.enable_queue(q);
        if !self.endpoint.queue_enabled(q) {
            return Err(rig_error("the queue was not enabled"));
        }
        self.queues.truncate(usize::from(q));
        self.queues.push(DriverQueue::new(ring, None, negotiated).map_err(rig_error)?);
        Ok(())
    }

    /// The driver end of queue `q`.
    ///
    /// # Errors
    /// If it was not enabled.
    pub fn queue(&mut self, q: u16) -> Result<&mut DriverQueue<Token>, RigError> {
        self.queues.get_mut(usize::from(q)).ok_or_else(|| rig_error("no such queue"))
    }

    /// Makes a buffer available in queue `q`: one descriptor for each readable piece, then for each writable length.
    ///
    /// # Errors
    /// If the queue or the memory is full.
    pub fn submit(&mut self, q: u16, readable: &[&[u8]], writable: &[u32]) -> Result<(), RigError> {
        let mut parts = Vec::new();
        for piece in readable {
            let buffer = self.place(piece.len() as u32);
            self.memory.write(buffer.addr, piece).map_err(rig_error)?;
            parts.push(buffer);
        }
        let writable: Vec<_> = writable.iter().map(|len| self.place(*len)).collect();
        let token = writable.clone();
        self.queue(q)?.add(&parts, &writable, token).map_err(|(error, _)| rig_error(error))
    }

    /// Notifies the device of what was submitted, if it wants to be; whether it did.
    ///
    /// # Errors
    /// If there is no such queue.
    pub fn kick(&mut self, q: u16) -> Result<Kick, RigError> {
        let queue = self.queue(q)?;
        let kick = queue.kick_prepare();
        let position = u32::from(queue.notification_data());
        if kick == Kick::Needed {
            let data = self.endpoint.negotiated().contains(Features::NOTIFICATION_DATA);
            self.endpoint.notify(if data { position << 16 | u32::from(q) } else { u32::from(q) });
        }
        Ok(kick)
    }

    /// The next buffer that the device has used.
    ///
    /// # Errors
    /// If the device broke the rules of the queue.
    pub fn take(&mut self, q: u16) -> Result<Option<Reply>, RigError> {
        let Some(completion) = self.queue(q)?.get().map_err(rig_error)? else { return Ok(None) };
        let mut bytes = Vec::new();
        for part in completion.token {
            let mut piece = vec![0; part.len as usize];
            self.memory.read(part.addr, &mut piece).map_err(rig_error)?;
            bytes.extend(piece);
        }
        Ok(Some(Reply { written: completion.written, bytes }))
    }

    /// Finds a place for a buffer, going round: a test keeps fewer bytes in flight than there are.
    fn place(&mut self, len: u32) -> Buffer {
        if self.next + u64::from(len) > Self::LEN {
            self.next = Self::RINGS_LEN;
        }
        let addr = IoAddr(self.next);
        self.next += u64::from(len);
        Buffer { addr, len }
    }
}

impl<M: DeviceModel> Rig<Inline<M>> {
    /// One request and its reply: submits, kicks, lets the device work, takes.
    ///
    /// # Errors
    /// If there is no reply.
    pub fn request(&mut self, q: u16, readable: &[u8], writable_len: u32) -> Result<Reply, RigError> {
        let readable: &[&[u8]] = if readable.is_empty() { &[] } else { &[readable] };
        let writable: &[u32] = if writable_len == 0 { &[] } else { &[writable_len] };
        self.request_in_pieces(q, readable, writable)
    }

    /// As [`request`](Self::request), the buffer in pieces.
    ///
    /// # Errors
    /// If there is no reply.
    pub fn request_in_pieces(
        &mut self,
        q: u16,
        readable: &[&[u8]],
        writable: &[u32],
    ) -> Result<Reply, RigError> {
        const STEPS: usize = 1000;
        self.submit(q, readable, writable)?;
        let _ = self.kick(q)?;
        self.endpoint.backend_mut().run(STEPS);
        self.take(q)?.ok_or_else(|| rig_error("the device has not used the buffer"))
    }
}
