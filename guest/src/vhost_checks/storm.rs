//! Calls at random, from several threads, on several devices, over a ring of rubbish.

use std::io::Error;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::device::{
    Addresses, Device, NONE, NOWHERE, OF_DEVICES, OF_OTHERS, OF_QUEUES, Region, event, pair, table,
};
use super::machine::{Event, GUEST, LOG_ALL, WITH_EVENT_INDEX, WITH_INDIRECT};
use super::memory::Memory;
use super::random::Random;
use super::{another, must_succeed};
use crate::verdict::must_hold;
use vioduct_spec::vhost::{
    GET_FEATURES, RESET_OWNER, SET_FEATURES, SET_LOG_BASE, SET_LOG_FD, SET_MEM_TABLE, SET_OWNER,
    SET_VRING_ADDR, SET_VRING_CALL, SET_VRING_ERR, SET_VRING_KICK, SET_VRING_NUM,
};
use vioduct_spec::vhost_demo::SET_RUNNING;

const THREADS: u64 = 4;
const DEVICES: usize = 3;
const CALLS_OF_EACH: u32 = 25_000;
/// All that the kernel is told of memory is in this, in what is around it, or nowhere.
const MEMORY_LEN: usize = 64 << 10;
/// How many queues must have started for the storm to have been one.
const STARTS: u32 = 100;

/// In another process: what a device writes at random may be that process's own.
pub(super) fn in_another_process() -> Result<(), Error> {
    must_succeed(another("storm"))
}

/// What all threads share.
struct World {
    devices: [Mutex<Arc<Device>>; DEVICES],
    memory: Memory,
    events: [Event; 4],
    starts: AtomicU32,
}

pub(super) fn run() -> Result<(), Error> {
    let open = || Ok::<_, Error>(Mutex::new(Arc::new(Device::open()?)));
    let world = World {
        devices: [open()?, open()?, open()?],
        memory: Memory::new(MEMORY_LEN)?,
        events: [Event::new()?, Event::new()?, Event::new()?, Event::new()?],
        starts: AtomicU32::new(0),
    };
    let world = &world;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|seed| scope.spawn(move || Storm { world, random: Random(seed) }.run()))
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(Error::other("a panic"))))
    })?;
    let starts = world.starts.load(Ordering::Relaxed);
    println!("{} calls, {starts} starts", u64::from(CALLS_OF_EACH) * THREADS);
    must_hold(starts >= STARTS, "too few of the calls made a queue run")
}

/// One thread's.
struct Storm<'a> {
    world: &'a World,
    random: Random,
}

impl Storm<'_> {
    fn run(mut self) -> Result<(), Error> {
        for _ in 0..CALLS_OF_EACH {
            match self.random.below(64) {
                0 => self.reopen()?,
                1 => self.prepare(),
                2 => self.spoil(),
                3..8 => self.world.events[self.random.below(4)].signal().unwrap_or_default(),
                _ => self.call(),
            }
        }
        Ok(())
    }

    fn device(&mut self) -> Arc<Device> {
        let slot = &self.world.devices[self.random.below(DEVICES)];
        slot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The old one is closed when the last call on it is over.
    fn reopen(&mut self) -> Result<(), Error> {
        let new = Arc::new(Device::open()?);
        let slot = &self.world.devices[self.random.below(DEVICES)];
        let old = std::mem::replace(&mut *slot.lock().unwrap_or_else(PoisonError::into_inner), new);
        drop(old);
        Ok(())
    }

    /// What makes it likely that the next start is one.
    fn prepare(&mut self) {
        let device = self.device();
        let calls: [(u32, Vec<u8>); 5] = [
            (SET_OWNER, Vec::new()),
            (SET_FEATURES, WITH_EVENT_INDEX.0.to_ne_bytes().to_vec()),
            (
                SET_MEM_TABLE,
                table(
                    1,
                    0,
                    &[Region { guest: GUEST, len: MEMORY_LEN as u64, address: self.world.memory.address(0) }],
                ),
            ),
            (SET_VRING_ADDR, self.addresses(0).bytes().to_vec()),
            (SET_RUNNING, 1_u32.to_ne_bytes().to_vec()),
        ];
        for (number, mut argument) in calls {
            self.outcome(number, &device.call(number, &mut argument));
        }
    }

    fn outcome(&self, number: u32, outcome: &Result<(), Error>) {
        if number == SET_RUNNING && outcome.is_ok() {
            self.world.starts.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Rubbish where a ring may be.
    fn spoil(&mut self) {
        let at = self.random.below(MEMORY_LEN / 8) * 8;
        for word in 0..self.random.below(64).min((MEMORY_LEN - at) / 8) {
            let rubbish = match self.random.below(4) {
                0 => self.random.next(),
                1 => GUEST + self.random.below(2 * MEMORY_LEN) as u64,
                2 => self.random.below(256) as u64,
                _ => 0x0001_0007_0000_0008,
            };
            self.world.memory.write(at + word * 8, &rubbish.to_ne_bytes());
        }
    }

    fn call(&mut self) {
        let number = self.number();
        let device = self.device();
        match self.random.below(16) {
            0 => drop(device.call_nowhere(number, self.random.below(NOWHERE.len()))),
            1 => drop(device.call_in(number, &self.world.memory, MEMORY_LEN - self.random.below(48))),
            _ => {
                let mut argument = self.argument(number);
                self.outcome(number, &device.call(number, &mut argument));
            }
        }
    }

    fn number(&mut self) -> u32 {
        match self.random.below(16) {
            0 => self.random.one_of(&[SET_OWNER, RESET_OWNER, GET_FEATURES]),
            1 => self.random.one_of(&OF_OTHERS),
            2..8 => self.random.one_of(&OF_DEVICES),
            _ => self.random.one_of(&OF_QUEUES),
        }
    }

    fn argument(&mut self, number: u32) -> Vec<u8> {
        let index = if self.random.below(8) == 0 { self.random.next() as u32 } else { 0 };
        match number {
            SET_FEATURES => self.features().to_ne_bytes().to_vec(),
            SET_MEM_TABLE => self.table(),
            SET_LOG_BASE => self.address(1).to_ne_bytes().to_vec(),
            SET_LOG_FD => self.descriptor().to_ne_bytes().to_vec(),
            SET_VRING_ADDR => self.addresses(index).bytes().to_vec(),
            SET_VRING_KICK | SET_VRING_CALL | SET_VRING_ERR => event(index, self.descriptor()).to_vec(),
            SET_VRING_NUM => pair(index, 1 << self.random.below(17)).to_vec(),
            SET_RUNNING => (self.random.below(8) as u32 / 3).to_ne_bytes().to_vec(),
            _ => pair(index, self.random.next() as u32 >> self.random.below(32)).to_vec(),
        }
    }

    fn features(&mut self) -> u64 {
        let all = WITH_INDIRECT.with(WITH_EVENT_INDEX).with(LOG_ALL).0;
        match self.random.below(8) {
            0 => self.random.next(),
            1 => 0,
            _ => self.random.next() & all | WITH_EVENT_INDEX.0 & WITH_INDIRECT.0,
        }
    }

    fn table(&mut self) -> Vec<u8> {
        let count = self.random.below(6);
        let regions: Vec<Region> = (0..count).map(|_| self.region()).collect();
        let said = if self.random.below(32) == 0 { self.random.next() as u32 } else { count as u32 };
        table(said.min(100), u32::from(self.random.below(32) == 0), &regions)
    }

    /// No longer than what nobody may touch beyond the memory.
    fn region(&mut self) -> Region {
        let guest = self.random.one_of(&[GUEST, GUEST, GUEST + 4096, 0, u64::MAX - 4095]);
        let len = self.random.one_of(&[MEMORY_LEN as u64, MEMORY_LEN as u64, 4096, 1, 0, u64::MAX, 1 << 48]);
        Region { guest, len, address: self.address(1) }
    }

    fn addresses(&mut self, index: u32) -> Addresses {
        let flags =
            if self.random.below(64) == 0 { self.random.next() as u32 } else { self.random.below(2) as u32 };
        let log = GUEST + self.random.below(MEMORY_LEN) as u64 / 4 * 4;
        Addresses {
            index,
            flags,
            descriptors: self.address(16),
            used: self.address(4),
            available: self.address(2),
            log,
        }
    }

    /// In the memory, where it ends, or nowhere.
    fn address(&mut self, alignment: usize) -> u64 {
        match self.random.below(16) {
            0 => self.random.one_of(&NOWHERE) / alignment as u64 * alignment as u64,
            1 => self.world.memory.address(MEMORY_LEN - alignment),
            _ => self.world.memory.address(self.random.below(MEMORY_LEN / alignment) * alignment),
        }
    }

    fn descriptor(&mut self) -> i32 {
        match self.random.below(8) {
            0 => NONE,
            1 => self.random.next() as i32,
            2 => 0,
            other => self.world.events[other % 4].number(),
        }
    }
}
