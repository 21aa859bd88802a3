//! Both of our ends, each polling on a core of its own: 64-byte requests, and replies of the same bytes.
//!
//! `unsafe` because ring memory is handed to the driver end, and requests are written and replies read where they are.
#![allow(unsafe_code)]

use crate::cores::{pin, processor};
use crate::guest::Ram;
use rustix::thread::{CpuSet, sched_getaffinity};
use std::hint::spin_loop;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};
use vioduct_spec::Features;
use vioduct_virtqueue::{Buffer, DriverQueue, IoAddr, Kick, Queue, QueuePosition, RingFormat, RingMemory};

const QUEUE_SIZE: u16 = 256;
const REQUEST_LEN: usize = 64;
const BUFFERS_AT: u64 = 0x10_0000;

/// A driver end in this thread and a device end in another, until dropped.
pub struct Bounce {
    driver: DriverQueue<u16>,
    batch: u16,
    ram: Arc<Ram>,
    stop: Arc<AtomicBool>,
    device: Option<JoinHandle<()>>,
    /// The processors that this thread may use when this is over.
    allowed: Option<CpuSet>,
    stamp: u64,
}

impl Bounce {
    /// Starts the device end.
    ///
    /// # Panics
    /// If the queue cannot be set up.
    #[must_use]
    pub fn new(format: RingFormat, batch: u16) -> Self {
        let ram = Ram::new();
        let layout_feature = match format {
            RingFormat::Split => Features::NONE,
            RingFormat::Packed => Features::RING_PACKED,
        };
        let negotiated = Features::VERSION_1 | layout_feature;
        let at = IoAddr(0x1_0000);
        // SAFETY: zeroed, page-aligned, and kept by `ram` beside the queue.
        let ring = unsafe { RingMemory::new(ram.host(at), at, format, QUEUE_SIZE) };
        let ring = ring.expect("invariant: the size is valid");
        let mut driver = DriverQueue::new(ring, None, negotiated).expect("invariant: laid out as negotiated");
        driver.disable_callback();
        let queue = Queue::new(ram.clone(), driver.layout(), negotiated, QueuePosition::START);
        let queue = queue.expect("invariant: the driver's layout is valid");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let allowed = sched_getaffinity(None).ok();
        let second = allowed.and_then(|allowed| processor(&allowed, 1));
        let device = spawn(move || {
            pin(second);
            echo(queue, &stopped);
        });
        pin(allowed.and_then(|allowed| processor(&allowed, 0)));
        Self { driver, batch, ram, stop, device: Some(device), allowed, stamp: 0 }
    }

    /// Bounces batches for about `length`; nanoseconds per round trip of a batch.
    ///
    /// # Panics
    /// If a reply is not its request.
    pub fn window(&mut self, length: Duration) -> f64 {
        let start = Instant::now();
        let mut trips = 0u64;
        loop {
            for _ in 0..64 {
                self.round_trip();
            }
            trips += 64;
            let elapsed = start.elapsed();
            if elapsed >= length {
                return elapsed.as_nanos() as f64 / trips as f64;
            }
        }
    }

    fn place(&self, number: u16, part: u64) -> (IoAddr, NonNull<[u8; REQUEST_LEN]>) {
        let at = IoAddr(BUFFERS_AT + (u64::from(number) * 2 + part) * REQUEST_LEN as u64);
        (at, self.ram.host(at).cast())
    }

    #[inline]
    fn round_trip(&mut self) {
        for number in 0..self.batch {
            self.stamp += 1;
            let request = [self.stamp as u8; REQUEST_LEN];
            let ((at, host), (reply_at, _)) = (self.place(number, 0), self.place(number, 1));
            // SAFETY: mapped, and the device's only while the buffer is in flight, which it is not.
            unsafe { host.write_volatile(request) };
            let piece = |addr| Buffer { addr, len: REQUEST_LEN as u32 };
            self.driver.add(&[piece(at)], &[piece(reply_at)], number).expect("invariant: a batch fits");
        }
        let wanted = self.driver.kick_prepare();
        debug_assert_eq!(wanted, Kick::Suppressed);
        let first = self.stamp - u64::from(self.batch) + 1;
        let mut back = 0;
        while back < self.batch {
            let Some(completion) = self.driver.get().expect("invariant: the device is well-behaved") else {
                spin_loop();
                continue;
            };
            let (_, host) = self.place(completion.token, 1);
            // SAFETY: mapped, and no longer the device's.
            let reply = unsafe { host.read_volatile() };
            let stamp = (first + u64::from(completion.token)) as u8;
            assert!(reply == [stamp; REQUEST_LEN] && completion.written == REQUEST_LEN as u32);
            back += 1;
        }
    }
}

impl Drop for Bounce {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(device) = self.device.take()
            && device.join().is_err()
        {
            eprintln!("the device end panicked");
        }
        pin(self.allowed);
    }
}

/// The device end: replies to each request with its own bytes.
fn echo(mut queue: Queue, stop: &AtomicBool) {
    queue.disarm().expect("invariant: the ring is mapped");
    while !stop.load(Ordering::Relaxed) {
        let mut popped = false;
        while let Some(chain) = queue.pop().expect("invariant: the driver is well-behaved") {
            let request: [u8; REQUEST_LEN] = chain.reader().read_array().expect("invariant: whole requests");
            chain.writer().write_all(&request).expect("invariant: room for the reply");
            queue.complete(chain, REQUEST_LEN as u32).expect("invariant: the chain is this queue's");
            popped = true;
        }
        if popped {
            let _ = queue.publish().expect("invariant: the driver is well-behaved");
        } else {
            spin_loop();
        }
    }
}
