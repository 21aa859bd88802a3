//! Random reads of 4 KiB by the crate `virtio-driver`, so many in flight.
//!
//! `unsafe` because the crate takes buffers by address, and its queue uses memory of its transport.
#![allow(unsafe_code)]

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use virtio_driver::{
    EventFd, QueueNotifier, VhostUser, VirtioBlkConfig, VirtioBlkQueue, VirtioBlkReqBuf, VirtioBlkTransport,
    VirtioFeatureFlags,
};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::servers::DISK_BYTES;

/// Bytes of a read.
pub const READ_LEN: usize = 4096;
const QUEUE_SIZE: u16 = 128;

/// How the client waits for answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// It looks at the queue all the time, and wants no notifications.
    Polling,
    /// It sleeps until it is notified.
    Eventfd,
}

/// A client with so many reads in flight.
pub struct Client {
    queue: VirtioBlkQueue<'static, usize>,
    notifier: Box<dyn QueueNotifier>,
    completion: Arc<EventFd>,
    waiting: Waiting,
    buffers: *mut u8,
    random: u64,
    /// After the queue, whose memory it maps.
    _transport: Box<VirtioBlkTransport>,
    _memory: GuestMemoryMmap,
}

impl Client {
    /// Connects, and begins with `depth` reads.
    ///
    /// # Errors
    /// If the server refuses, or does not have `format`.
    pub fn new(socket: &Path, format: VirtioFeatureFlags, depth: usize, waiting: Waiting) -> Result<Self> {
        let path = socket.to_str().context("the socket's path is not UTF-8")?;
        let wanted = format | VirtioFeatureFlags::VERSION_1;
        let vhost = VhostUser::<VirtioBlkConfig, VirtioBlkReqBuf>::new(path, wanted.bits())?;
        let mut transport: Box<VirtioBlkTransport> = Box::new(vhost);
        ensure!(
            transport.get_features() & wanted.bits() == wanted.bits(),
            "the server does not have {format:?}"
        );
        let file = File::from(rustix::fs::memfd_create("bench", rustix::fs::MemfdFlags::CLOEXEC)?);
        let len = depth * READ_LEN;
        file.set_len(len as u64)?;
        let descriptor = file.as_raw_fd();
        let range = (GuestAddress(0), len, Some(FileOffset::new(file, 0)));
        let memory = GuestMemoryMmap::<()>::from_ranges_with_files([range])?;
        let buffers = memory.get_host_address(GuestAddress(0))?;
        transport.map_mem_region(buffers as usize, len, descriptor, 0)?;
        let mut queues = VirtioBlkQueue::setup_queues(&mut *transport, 1, QUEUE_SIZE)?;
        let mut queue = queues.pop().context("there is a queue")?;
        queue.set_used_notif_enabled(waiting == Waiting::Eventfd);
        let (notifier, completion) = (transport.get_submission_notifier(0), transport.get_completion_fd(0));
        let mut client = Self {
            queue,
            notifier,
            completion,
            waiting,
            buffers,
            random: 1,
            _transport: transport,
            _memory: memory,
        };
        (0..depth).try_for_each(|number| client.submit(number))?;
        client.kick()?;
        Ok(client)
    }

    fn submit(&mut self, number: usize) -> Result<()> {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let offset = (self.random >> 33) % (DISK_BYTES / READ_LEN as u64) * READ_LEN as u64;
        // SAFETY: each number has its own part of the mapping, which lasts as long as the client does.
        unsafe {
            let buffer = self.buffers.add(number * READ_LEN);
            self.queue.read_raw(offset, buffer, READ_LEN, number)?;
        }
        Ok(())
    }

    fn kick(&mut self) -> Result<()> {
        if self.queue.avail_notif_needed() {
            self.notifier.notify()?;
        }
        Ok(())
    }

    /// Reads for about `length`; nanoseconds per read.
    ///
    /// # Errors
    /// If a read fails.
    pub fn window(&mut self, length: Duration) -> Result<f64> {
        let began = Instant::now();
        let mut reads = 0u64;
        loop {
            let mut numbers = [0; QUEUE_SIZE as usize];
            let mut count = 0;
            for (done, number) in self.queue.completions().zip(&mut numbers) {
                ensure!(done.ret == 0, "a read has failed: {}", done.ret);
                *number = done.context;
                count += 1;
            }
            for number in numbers.into_iter().take(count) {
                self.submit(number)?;
            }
            if count > 0 {
                self.kick()?;
            } else if self.waiting == Waiting::Eventfd {
                self.sleep()?;
            } else {
                std::hint::spin_loop();
            }
            reads += count as u64;
            // The clock costs as much as a look at the queue.
            if count > 0 && began.elapsed() >= length {
                return Ok(began.elapsed().as_nanos() as f64 / reads as f64);
            }
        }
    }

    fn sleep(&self) -> Result<()> {
        let timeout = rustix::event::Timespec { tv_sec: 5, tv_nsec: 0 };
        let mut fds = [PollFd::new(&*self.completion, PollFlags::IN)];
        ensure!(poll(&mut fds, Some(&timeout))? > 0, "the server does not answer");
        self.completion.read()?;
        Ok(())
    }
}
