//! The driver end: add buffers, take them back, against `virtio-drivers`.
//!
//! A batch is added, a trivial device marks it used, and it is taken back. `virtio-drivers` publishes each buffer as it is added,
//! and has no way not to; ours publishes once per batch, or (the rows that say so) once per buffer as well.
//!
//! `unsafe` because the trivial device reads and writes rings through raw pointers, and ring memory is handed to both contenders.
#![allow(unsafe_code)]

use crate::contest::Contender;
use crate::guest::Ram;
use crate::peer_driver::{Places, QUEUE_SIZE, queue};
use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use vioduct_spec::Features;
use vioduct_spec::ring::split::{AVAIL_IDX, AVAIL_RING, USED_ELEMENT_SIZE, USED_IDX, USED_RING};
use vioduct_virtqueue::{Buffer, DriverQueue, IndirectMemory, IoAddr, Kick, RingFormat, RingMemory};

/// The peer, as rows name it.
pub const PEER: &str = "virtio-drivers 0.13";

/// Buffers per batch.
const BATCH: u16 = 32;
/// Length in bytes of a piece of a buffer.
const PIECE_LEN: usize = 64;

/// The pieces of every buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pieces {
    /// One device-readable descriptor.
    One,
    /// One device-readable and one device-writable descriptor.
    Two,
    /// The same two in an indirect table.
    Indirect,
}

/// When buffers are shown to the device. The peer always does it at each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Publish {
    /// Once per batch.
    Batch,
    /// With each buffer.
    Each,
}

impl Pieces {
    /// All of them, with the names of their rows.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::One, "1 descriptor"), (Self::Two, "2 descriptors"), (Self::Indirect, "indirect table of 2")];

    fn negotiated(self) -> Features {
        let indirect = if self == Self::Indirect { Features::INDIRECT_DESC } else { Features::NONE };
        Features::VERSION_1 | indirect
    }
}

/// A device that uses whatever is available, unseen, at the least cost.
struct FakeDevice {
    places: Places,
    done: u16,
}

impl FakeDevice {
    fn field(base: NonNull<u8>, offset: usize) -> *mut u8 {
        // SAFETY: offsets are of fields of rings of `QUEUE_SIZE`.
        unsafe { base.as_ptr().add(offset) }
    }

    #[inline]
    fn serve(&mut self) {
        let Places { driver_area, device_area } = self.places;
        // SAFETY: mapped and aligned fields of rings that both sides access as atomics; entries are taken modulo the size.
        unsafe {
            let available =
                AtomicU16::from_ptr(Self::field(driver_area, AVAIL_IDX).cast()).load(Ordering::Acquire);
            while self.done != available {
                let entry = usize::from(self.done % QUEUE_SIZE);
                let head = AtomicU16::from_ptr(Self::field(driver_area, AVAIL_RING + 2 * entry).cast());
                let used = Self::field(device_area, USED_RING + USED_ELEMENT_SIZE * entry).cast::<u32>();
                AtomicU32::from_ptr(used).store(head.load(Ordering::Relaxed).into(), Ordering::Relaxed);
                AtomicU32::from_ptr(used.add(1)).store(PIECE_LEN as u32, Ordering::Relaxed);
                self.done = self.done.wrapping_add(1);
            }
            AtomicU16::from_ptr(Self::field(device_area, USED_IDX).cast())
                .store(available, Ordering::Release);
        }
    }
}

/// Our driver end, split. An operation is one buffer, added and got back.
///
/// # Panics
/// If a batch does not come back whole.
#[must_use]
pub fn ours(pieces: Pieces, publish: Publish) -> Contender<'static> {
    let ram = Ram::new();
    let mut driver = our_queue(&ram, pieces);
    let layout = driver.layout();
    let places =
        Places { driver_area: ram.host(layout.driver_area), device_area: ram.host(layout.device_area) };
    let mut device = FakeDevice { places, done: 0 };
    let piece = |at| Buffer { addr: IoAddr(at), len: PIECE_LEN as u32 };
    let parts = [piece(0x10_0000), piece(0x10_1000)];
    Contender::new(BATCH.into(), move || {
        // Kept by the closure, so that the memory outlives the queue.
        let _ = &ram;
        let (readable, writable) = black_box(&parts).split_at(1);
        let writable = if pieces == Pieces::One { &[] } else { writable };
        match publish {
            Publish::Batch => our_adds::<false>(&mut driver, readable, writable),
            Publish::Each => our_adds::<true>(&mut driver, readable, writable),
        }
        device.serve();
        assert_eq!(our_gets(&mut driver), BATCH);
    })
}

fn our_queue(ram: &Arc<Ram>, pieces: Pieces) -> DriverQueue<u16> {
    let at = IoAddr(0x1_0000);
    // SAFETY: zeroed, page-aligned, and kept by whoever keeps `ram` beside the queue.
    let ring = unsafe { RingMemory::new(ram.host(at), at, RingFormat::Split, QUEUE_SIZE) };
    let at = IoAddr(0x2_0000);
    // SAFETY: as above.
    let tables = unsafe { IndirectMemory::new(ram.host(at), at, QUEUE_SIZE, 4) };
    let ring = ring.expect("invariant: the size is valid");
    DriverQueue::new(ring, Some(tables), pieces.negotiated()).expect("invariant: laid out as negotiated")
}

#[inline(never)]
fn our_adds<const EACH: bool>(driver: &mut DriverQueue<u16>, readable: &[Buffer], writable: &[Buffer]) {
    for token in 0..BATCH {
        driver.add(readable, writable, token).expect("invariant: a batch fits");
        if EACH {
            black_box(driver.kick_prepare() == Kick::Needed);
        }
    }
    black_box(driver.kick_prepare() == Kick::Needed);
}

#[inline(never)]
fn our_gets(driver: &mut DriverQueue<u16>) -> u16 {
    let mut count = 0;
    while let Some(completion) = driver.get().expect("invariant: the device is well-behaved") {
        black_box((completion.token, completion.written));
        count += 1;
    }
    count
}

/// The peer's driver end.
#[must_use]
pub fn theirs(pieces: Pieces) -> Contender<'static> {
    let (mut driver, places) = queue(pieces == Pieces::Indirect);
    let mut device = FakeDevice { places, done: 0 };
    let request = [1u8; PIECE_LEN];
    let mut reply = [0u8; PIECE_LEN];
    let mut tokens = [0u16; BATCH as usize];
    Contender::new(BATCH.into(), move || {
        their_adds(&mut driver, pieces, &request, &mut reply, &mut tokens);
        device.serve();
        their_gets(&mut driver, pieces, &request, &mut reply, &tokens);
    })
}

type PeerQueue = crate::peer_driver::Queue;

#[inline(never)]
fn their_adds(driver: &mut PeerQueue, pieces: Pieces, request: &[u8], reply: &mut [u8], tokens: &mut [u16]) {
    let inputs = [request];
    let mut outputs = [reply];
    let outputs = if pieces == Pieces::One { &mut [][..] } else { &mut outputs[..] };
    for token in tokens {
        // SAFETY: both buffers live as long as the queue, and nothing reads the reply.
        *token = unsafe { driver.add(&inputs, outputs) }.expect("invariant: a batch fits");
    }
    black_box(driver.should_notify());
}

#[inline(never)]
fn their_gets(driver: &mut PeerQueue, pieces: Pieces, request: &[u8], reply: &mut [u8], tokens: &[u16]) {
    let inputs = [request];
    for token in tokens {
        let mut outputs = [&mut *reply];
        let outputs = if pieces == Pieces::One { &mut [][..] } else { &mut outputs[..] };
        // SAFETY: the buffers are those that the token was given for.
        let written = unsafe { driver.pop_used(*token, &inputs, outputs) };
        black_box((*token, written.expect("invariant: used in order")));
    }
}
