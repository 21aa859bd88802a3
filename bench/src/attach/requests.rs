//! Round trips of one request to virtio-demo, through any back-end, with both sides polling.
//!
//! `unsafe` because ring memory is handed to the driver end.
#![allow(unsafe_code)]

use anyhow::{Context, Result, ensure};
use std::fmt::Display;
use std::hint::spin_loop;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vioduct_spec::demo;
use vioduct_vhost_user::{Frontend, Patience, SharedRegion};
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::{
    Backend, DeviceModel, EventFd, Features, Host, HostEvents, MemoryMap, QueueSetup, Signal, WorkerPolicy,
    Workers,
};
use vioduct_virtqueue::{Buffer, DriverQueue, IoAddr, Kick, Memory, QueuePosition, RingFormat, RingMemory};

const RAM_LEN: u64 = 64 << 20;
const RING_AT: IoAddr = IoAddr(0x1_0000);
const REQUEST: Buffer = Buffer { addr: IoAddr(0x10_0000), len: 8 };
const REPLY: Buffer = Buffer { addr: IoAddr(0x10_1000), len: 8 };
/// How long each window runs before it counts, so that the other side is awake.
const WARM_UP: Duration = Duration::from_millis(1);

/// A driver with a device at work.
pub struct Requests {
    backend: Box<dyn Backend>,
    memory: Arc<MemoryMap>,
    driver: DriverQueue<()>,
    kick: Arc<EventFd>,
}

struct Alarm;

impl HostEvents for Alarm {
    fn config_changed(&self) {}
    fn needs_reset(&self, reason: &dyn Display) {
        eprintln!("the device needs a reset: {reason}");
    }
}

impl Requests {
    /// To the device that listens at `path`.
    ///
    /// # Errors
    /// If there is none, or it cannot be started.
    pub fn over_vhost_user(path: &Path, format: RingFormat) -> Result<Self> {
        let memory = MemoryMap::shared(RAM_LEN)?;
        let info = VirtioDemo::default().info();
        let frontend = Frontend::connect(path, info, SharedRegion::all_of(&memory)?, Patience::default())?;
        Self::start(Box::new(frontend), memory, format)
    }

    /// To a device in a thread of this process, kept on these processors.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn in_process(processors: Vec<usize>, format: RingFormat) -> Result<Self> {
        let policy = WorkerPolicy { cpus: processors, ..WorkerPolicy::default() };
        let workers = Workers::with_policy(VirtioDemo::default(), policy);
        Self::start(Box::new(workers), MemoryMap::shared(RAM_LEN)?, format)
    }

    fn start(mut backend: Box<dyn Backend>, memory: MemoryMap, format: RingFormat) -> Result<Self> {
        let features = match format {
            RingFormat::Split => Features::VERSION_1,
            RingFormat::Packed => Features::VERSION_1 | Features::RING_PACKED,
        } | Features::EVENT_IDX;
        let memory = Arc::new(memory);
        let len = RingMemory::len_for(format, demo::QUEUE_SIZE) as u64;
        let host = memory.region(RING_AT).and_then(|region| region.translate(RING_AT, len));
        let host = host.context("the ring is not in memory")?;
        // SAFETY: fresh memory, which is zeros, page-aligned, kept mapped beside the queue, and used by nobody else.
        let ring = unsafe { RingMemory::new(host, RING_AT, format, demo::QUEUE_SIZE) }?;
        let mut driver = DriverQueue::new(ring, None, features)?;
        driver.disable_callback();
        let kick = Arc::new(EventFd::new()?);
        backend.connect(Host { memory: memory.clone(), events: Arc::new(Alarm) });
        backend.set_features(features)?;
        let setup = QueueSetup {
            layout: driver.layout(),
            position: QueuePosition::START,
            kick: Some(kick.clone()),
            call: Arc::new(EventFd::new()?),
            in_flight: None,
        };
        backend.start_queue(0, setup)?;
        Ok(Self { backend, memory, driver, kick })
    }

    /// Reads the stored value, which nobody changes: a change would be told besides, as one of the configuration space.
    ///
    /// # Errors
    /// If the reply is another.
    pub fn round_trip(&mut self) -> Result<()> {
        // The reply of the last round trip is not to be taken for that of this one.
        self.memory.write(REPLY.addr, &[0xff; 8])?;
        self.memory.write(REQUEST.addr, &[0; 8])?;
        self.driver.add(&[REQUEST], &[REPLY], ()).map_err(|(error, ())| error)?;
        if self.driver.kick_prepare() == Kick::Needed {
            self.kick.signal();
        }
        while self.driver.get()?.is_none() {
            spin_loop();
        }
        let mut reply = [0; 8];
        self.memory.read(REPLY.addr, &mut reply)?;
        let [opcode @ .., _, _, _, _] = reply;
        let [.., a, b, c, d] = reply;
        let value = u32::from_le_bytes([a, b, c, d]);
        ensure!((opcode, value) == ([0; 4], demo::INITIAL_VALUE), "the reply is {reply:?}");
        Ok(())
    }

    /// Goes on for about `length`; nanoseconds per round trip.
    ///
    /// # Errors
    /// As for [`round_trip`](Self::round_trip).
    pub fn window(&mut self, length: Duration) -> Result<f64> {
        self.run(WARM_UP)?;
        self.run(length)
    }

    fn run(&mut self, length: Duration) -> Result<f64> {
        let start = Instant::now();
        let mut trips = 0u64;
        loop {
            for _ in 0..64 {
                self.round_trip()?;
            }
            trips += 64;
            let elapsed = start.elapsed();
            if elapsed >= length {
                return Ok(elapsed.as_nanos() as f64 / trips as f64);
            }
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        if let Err(error) = self.backend.stop_queue(0) {
            eprintln!("cannot stop the queue: {error}");
        }
    }
}
