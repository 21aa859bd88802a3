//! What stands for a virtual machine with the device in it: memory, a ring, events.

use std::io::Error;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use vioduct_spec::Features;
use vioduct_spec::demo::{HALF_LEN, OP_READ, OP_WRITE};
use vioduct_spec::vhost::{
    SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_CALL, SET_VRING_ERR, SET_VRING_KICK, SET_VRING_NUM,
};

use super::device::{Addresses, Device, Region, event, pair};
use super::memory::Memory;
use super::ring::{DESCRIPTOR_LEN, Descriptor, INDIRECT, NEXT, Ring, WRITE};
use crate::verdict::must_hold;

/// Dirty memory is logged: a bit of vhost's own, which no driver sees.
pub(super) const LOG_ALL: Features = Features::bit(26);
pub(super) const PLAIN: Features = Features::VERSION_1;
pub(super) const WITH_EVENT_INDEX: Features = PLAIN.with(Features::EVENT_IDX);
pub(super) const WITH_INDIRECT: Features = PLAIN.with(Features::INDIRECT_DESC);

/// Where the guest has the memory: not where this process has it.
pub(super) const GUEST: u64 = 1 << 20;
pub(super) const MEMORY_LEN: usize = 256 << 10;
const PAGE: usize = 4096;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// An eventfd.
#[derive(Debug)]
pub(super) struct Event(OwnedFd);

impl Event {
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self(eventfd(0, EventfdFlags::NONBLOCK)?))
    }

    pub(super) fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }

    pub(super) fn signal(&self) -> Result<(), Error> {
        rustix::io::write(&self.0, &1_u64.to_ne_bytes())?;
        Ok(())
    }

    /// Whether it was signalled since it was last looked at.
    pub(super) fn take(&self) -> bool {
        rustix::io::read(&self.0, &mut [0; 8]).is_ok()
    }

    /// Waits until it is signalled; it is an error if it is not in time.
    pub(super) fn wait(&self) -> Result<(), Error> {
        let timeout = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout))?;
        must_hold(ready == 1 && self.take(), "no event in time")
    }
}

/// One half of a request, as lengths of its pieces.
pub(super) type Pieces<'a> = &'a [u32];

/// Everything that the device needs.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) device: Device,
    pub(super) memory: Arc<Memory>,
    pub(super) ring: Ring,
    pub(super) kick: Event,
    pub(super) call: Event,
    pub(super) error: Event,
    pub(super) features: Features,
}

impl Machine {
    /// A device that was told all but to start.
    pub(super) fn new(features: Features, size: u16, position: u16) -> Result<Self, Error> {
        let memory = Arc::new(Memory::new(MEMORY_LEN)?);
        let ring = Ring::new(&memory, size, position);
        Self::with(memory, ring, features)
    }

    /// The same with memory and ring of another machine, from where the driver has seen it.
    pub(super) fn with(memory: Arc<Memory>, ring: Ring, features: Features) -> Result<Self, Error> {
        let device = Device::open()?;
        let (kick, call, error) = (Event::new()?, Event::new()?, Event::new()?);
        device.set_owner()?;
        device.set_features(features.0)?;
        device.set_table(&[whole(&memory)])?;
        device.call(SET_VRING_NUM, &mut pair(0, ring.size.into()))?;
        device.call(SET_VRING_BASE, &mut pair(0, ring.seen.into()))?;
        device.call(SET_VRING_ADDR, &mut addresses(&memory, &ring).bytes())?;
        device.call(SET_VRING_KICK, &mut event(0, kick.number()))?;
        device.call(SET_VRING_CALL, &mut event(0, call.number()))?;
        device.call(SET_VRING_ERR, &mut event(0, error.number()))?;
        Ok(Self { device, memory, ring, kick, call, error, features })
    }

    /// A device that runs.
    pub(super) fn started(features: Features) -> Result<Self, Error> {
        let machine = Self::new(features, 128, 0)?;
        machine.device.set_running(1)?;
        Ok(machine)
    }

    /// Where the readable half of a request is; the writable one is a page later.
    pub(super) fn request_at(&self) -> usize {
        self.ring.end()
    }

    pub(super) fn reply_at(&self) -> usize {
        self.ring.end() + PAGE
    }

    pub(super) fn table_at(&self) -> usize {
        self.ring.end() + 2 * PAGE
    }

    /// Writes the readable half of a request.
    pub(super) fn write_request(&self, opcode: u32, operand: u32) {
        self.memory.write(self.request_at(), &opcode.to_le_bytes());
        self.memory.write(self.request_at() + 4, &operand.to_le_bytes());
    }

    pub(super) fn reply(&self) -> (u32, u32) {
        let mut bytes = [0; HALF_LEN];
        self.memory.read(self.reply_at(), &mut bytes);
        let [a, b, c, d, e, f, g, h] = bytes;
        (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
    }

    /// The descriptors of a request in these pieces.
    pub(super) fn descriptors(&self, readable: Pieces<'_>, writable: Pieces<'_>) -> Vec<Descriptor> {
        let halves = [(readable, self.request_at(), 0), (writable, self.reply_at(), WRITE)];
        let mut all = Vec::new();
        for (pieces, mut at, flags) in halves {
            for len in pieces {
                all.push(Descriptor { guest: GUEST + at as u64, len: *len, flags, next: 0 });
                at += *len as usize;
            }
        }
        let last = all.len() - 1;
        for (index, descriptor) in all.iter_mut().enumerate().take(last) {
            descriptor.flags |= NEXT;
            descriptor.next = (index + 1) as u16;
        }
        all
    }

    /// Puts a request into the ring from descriptor 0 on, or into a table of its own where there are such.
    pub(super) fn describe(&self, descriptors: &[Descriptor]) {
        if !self.features.contains(Features::INDIRECT_DESC) {
            for (index, descriptor) in descriptors.iter().enumerate() {
                self.ring.describe(&self.memory, index as u16, *descriptor);
            }
            return;
        }
        for (index, descriptor) in descriptors.iter().enumerate() {
            self.memory.write(self.table_at() + DESCRIPTOR_LEN * index, &descriptor.bytes());
        }
        self.ring.describe(&self.memory, 0, self.table_of(descriptors.len()));
    }

    /// A descriptor of the table with so many.
    pub(super) fn table_of(&self, count: usize) -> Descriptor {
        let len = (DESCRIPTOR_LEN * count) as u32;
        Descriptor { guest: GUEST + self.table_at() as u64, len, flags: INDIRECT, next: 0 }
    }

    /// Makes a chain available, kicks, and waits until it is used: the bytes that were written.
    pub(super) fn answered(&mut self, head: u16) -> Result<u32, Error> {
        self.ring.make_available(&self.memory, head);
        self.kick.signal()?;
        let (used, len) = self.next_used()?;
        must_hold(used == u32::from(head), "another chain was used")?;
        Ok(len)
    }

    /// Waits for the next used element as a driver does, by its interrupt.
    pub(super) fn next_used(&mut self) -> Result<(u32, u32), Error> {
        loop {
            if self.features.contains(Features::EVENT_IDX) {
                self.ring.want_interrupt(&self.memory);
            }
            if let Some(element) = self.ring.take_used(&self.memory) {
                return Ok(element);
            }
            self.call.wait()?;
        }
    }

    /// One request in these pieces: the reply, and the bytes that the device says it wrote.
    pub(super) fn request(
        &mut self,
        (opcode, operand): (u32, u32),
        readable: Pieces<'_>,
        writable: Pieces<'_>,
    ) -> Result<((u32, u32), u32), Error> {
        self.write_request(opcode, operand);
        self.memory.write(self.reply_at(), &[0xee; HALF_LEN]);
        self.describe(&self.descriptors(readable, writable));
        let len = self.answered(0)?;
        Ok((self.reply(), len))
    }

    /// The device stores a value and gives it back.
    pub(super) fn works(&mut self) -> Result<(), Error> {
        let value = 0xa5a5_0000 | u32::from(self.ring.made);
        let stored = self.request((OP_WRITE, value), &[8], &[8])?;
        must_hold(stored == ((OP_WRITE, value), 8), "a value was not stored")?;
        let loaded = self.request((OP_READ, 0), &[8], &[8])?;
        must_hold(loaded == ((OP_READ, value), 8), "another value came back")
    }
}

/// All of the memory, where the guest has it.
pub(super) fn whole(memory: &Memory) -> Region {
    Region { guest: GUEST, len: memory.len() as u64, address: memory.address(0) }
}

/// A ring's addresses, as this process has them.
pub(super) fn addresses(memory: &Memory, ring: &Ring) -> Addresses {
    Addresses {
        index: 0,
        flags: 0,
        descriptors: memory.address(ring.descriptors),
        used: memory.address(ring.used),
        available: memory.address(ring.available),
        log: GUEST + ring.used as u64,
    }
}
