//! Crashes at every step of a record's way, and records that are hostile.
//!
//! `unsafe` because it implements `Memory` and hands out ring memory.
#![allow(unsafe_code)]

use super::*;
use crate::chain::Chain;
use crate::layout::{QueuePosition, RingLayout};
use crate::memory::Region;
use crate::{Buffer, DriverQueue, Queue, RingMemory};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use vioduct_spec::Features;

const LEN: usize = 1 << 16;
const RECORD: u64 = 0x8000;
const SIZE: u16 = 8;

/// Memory that outlives the device ends that crash.
struct Shared(NonNull<u8>);

// SAFETY: accessed by raw pointers only.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

fn layout() -> Layout {
    Layout::from_size_align(LEN, 4096).unwrap()
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: allocated with the same layout.
        unsafe { dealloc(self.0.as_ptr(), layout()) };
    }
}

// SAFETY: one page-aligned region that lives as long as the object.
unsafe impl Memory for Shared {
    fn read(&self, _at: IoAddr, _out: &mut [u8]) -> Result<(), MemoryFault> {
        unreachable!("everything is mapped")
    }
    fn write(&self, _at: IoAddr, _data: &[u8]) -> Result<(), MemoryFault> {
        unreachable!("everything is mapped")
    }
    fn region(&self, at: IoAddr) -> Option<Region> {
        let region = Region { at: IoAddr(0), len: LEN as u64, host: self.0, access: Access::ReadWrite };
        region.translate(at, 1).map(|_| region)
    }
}

/// A driver, and the memory in which device ends come and go.
struct Rig {
    memory: Arc<Shared>,
    driver: DriverQueue<u64>,
    features: Features,
    submitted: u64,
    completed: Vec<u64>,
}

impl Rig {
    fn new(features: Features) -> Self {
        let features = features | Features::VERSION_1;
        // SAFETY: the layout is not empty.
        let memory = Arc::new(Shared(NonNull::new(unsafe { alloc_zeroed(layout()) }).unwrap()));
        let format = RingFormat::of(features);
        assert!(RingMemory::len_for(format, SIZE) < RECORD as usize);
        // SAFETY: zeroed, aligned, and kept by the rig as long as the driver.
        let ring = unsafe { RingMemory::new(memory.0, IoAddr(0), format, SIZE) }.unwrap();
        let driver = DriverQueue::new(ring, None, features).unwrap();
        Self { memory, driver, features, submitted: 0, completed: Vec::new() }
    }

    fn layout(&self) -> RingLayout {
        self.driver.layout()
    }

    fn area(&self) -> InFlightArea {
        InFlightArea { memory: self.memory.clone(), at: IoAddr(RECORD) }
    }

    /// A device end, as after a crash. The position is what a front-end knows then: nothing.
    fn device(&self) -> Result<Queue, SetupError> {
        let memory: Arc<dyn Memory> = self.memory.clone();
        Queue::recorded(memory, self.layout(), self.features, QueuePosition::START, &self.area())
    }

    /// Makes buffers available, of one descriptor or two, as long as there is room and fewer than `most` are out.
    fn submit(&mut self, most: u16) {
        while self.driver.in_flight() < most {
            let piece = |number: u64| Buffer { addr: IoAddr(0x4000 + number), len: 1 };
            let pieces = [piece(self.submitted % 256), piece(self.submitted % 255)];
            let count = 1 + usize::from(self.submitted.is_multiple_of(3));
            match self.driver.add(&pieces[..count], &[], self.submitted) {
                Ok(()) => self.submitted += 1,
                Err(_) => break,
            }
        }
        let _ = self.driver.kick_prepare();
    }

    fn collect(&mut self) {
        while let Some(done) = self.driver.get().unwrap() {
            self.completed.push(done.token);
        }
    }

    /// Each buffer so far has come back, once.
    fn check(&self) {
        let mut completed = self.completed.clone();
        completed.sort_unstable();
        let expected: Vec<u64> = (0..self.submitted).collect();
        assert_eq!(completed, expected, "{}", self.features);
        assert_eq!(self.driver.in_flight(), 0);
    }
}

fn xorshift(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    }
}

fn every_format() -> [Features; 4] {
    [
        Features::NONE,
        Features::IN_ORDER,
        Features::RING_PACKED,
        Features::RING_PACKED | Features::IN_ORDER | Features::EVENT_IDX,
    ]
}

/// The device end dies between any two of its operations, with chains in every stage, and another goes on; at the end every
/// buffer has come back once.
#[test]
fn crashes_between_operations_lose_and_repeat_nothing() {
    for features in every_format() {
        for seed in 1..=60 {
            let mut random = xorshift(seed * 0x9e37_79b9);
            let mut rig = Rig::new(features);
            for _life in 0..20 {
                let mut device = rig.device().unwrap();
                let mut held: VecDeque<Chain> = VecDeque::new();
                for _ in 0..random(12) {
                    rig.submit(1 + random(6) as u16);
                    match random(3) {
                        0 => held.extend(device.pop().unwrap()),
                        1 => {
                            let any = random(held.len().max(1));
                            if let Some(chain) = held.remove(any) {
                                device.complete(chain, 0).unwrap();
                            }
                        }
                        _ => drop(device.publish().unwrap()),
                    }
                    rig.collect();
                }
                held.into_iter().for_each(Chain::discard);
            }
            let mut device = rig.device().unwrap();
            while let Some(chain) = device.pop().unwrap() {
                device.complete(chain, 0).unwrap();
            }
            let _ = device.publish().unwrap();
            rig.collect();
            rig.check();
        }
    }
}

/// The process dies at a store into the record, whichever it is: in a pop, in a publication, or while it recovers from a death
/// before. At the end every buffer has come back once.
#[test]
fn crashes_at_every_store_lose_and_repeat_nothing() {
    for features in every_format() {
        for seed in 1..=400 {
            let mut random = xorshift(seed * 0x9e37_79b9);
            let mut rig = Rig::new(features);
            for _life in 0..20 {
                rig.submit(1 + random(6) as u16);
                STORES_LEFT.set(random(40) as u64);
                live(&mut rig, &mut random);
                STORES_LEFT.set(u64::MAX);
            }
            let mut device = rig.device().unwrap();
            while let Some(chain) = device.pop().unwrap() {
                device.complete(chain, 0).unwrap();
            }
            let _ = device.publish().unwrap();
            rig.collect();
            rig.check();
        }
    }
}

/// A device end at work until it dies.
fn live(rig: &mut Rig, random: &mut impl FnMut(usize) -> usize) {
    let Ok(mut device) = rig.device() else { return };
    let mut held: VecDeque<Chain> = VecDeque::new();
    for _ in 0..30 {
        let outcome = match random(4) {
            0 | 1 => device.pop().map(|chain| held.extend(chain)),
            2 => held.remove(random(held.len().max(1))).map_or(Ok(()), |chain| device.complete(chain, 0)),
            _ => device.publish().map(drop),
        };
        rig.collect();
        if outcome.is_err() {
            break;
        }
        rig.submit(6);
    }
    held.into_iter().for_each(Chain::discard);
}

std::thread_local! {
    /// Stores into records that this thread makes before it dies.
    static STORES_LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
}

pub(super) fn spend_store() -> Result<(), MemoryFault> {
    let left = STORES_LEFT.get();
    STORES_LEFT.set(left.saturating_sub(1));
    if left == 0 { Err(MemoryFault { at: IoAddr(RECORD), len: 8 }) } else { Ok(()) }
}

/// What was in flight comes again in the order in which it was made available, before anything new.
#[test]
fn what_was_in_flight_comes_again_in_order() {
    for features in every_format() {
        let mut rig = Rig::new(features);
        rig.submit(5);
        let mut device = rig.device().unwrap();
        let chains: Vec<Chain> = (0..4).map(|_| device.pop().unwrap().unwrap()).collect();
        let mut ids: Vec<u16> = chains.iter().map(Chain::id).collect();
        let mut chains: VecDeque<Chain> = chains.into();
        if !features.contains(Features::IN_ORDER) {
            device.complete(chains.remove(1).unwrap(), 0).unwrap();
            let _ = device.publish().unwrap();
            ids.remove(1);
        }
        chains.into_iter().for_each(Chain::discard);
        drop(device);
        let mut device = rig.device().unwrap();
        assert_eq!(device.poll().unwrap(), crate::MoreWork::Pending);
        for id in ids {
            let chain = device.pop().unwrap().unwrap();
            assert_eq!(chain.id(), id, "{features}");
            device.complete(chain, 0).unwrap();
        }
        let last = device.pop().unwrap().expect("one that was never popped");
        device.complete(last, 0).unwrap();
        let _ = device.publish().unwrap();
        rig.collect();
        rig.check();
    }
}

/// The layout is the protocol's: byte offsets from its description.
#[test]
fn records_are_laid_out_as_the_protocol_says() {
    assert_eq!(InFlightArea::len_for(RingFormat::Split, 8), 16 + 8 * 16);
    assert_eq!(InFlightArea::len_for(RingFormat::Packed, 8), 32 + 8 * 32);
    let bytes = |rig: &Rig, at: usize, len: usize| -> Vec<u8> {
        // SAFETY: within the rig's memory, which no one else accesses now.
        (0..len)
            .map(|byte| unsafe { rig.memory.0.as_ptr().add(RECORD as usize + at + byte).read() })
            .collect()
    };
    let mut rig = Rig::new(Features::NONE);
    rig.submit(2);
    let mut device = rig.device().unwrap();
    let (first, second) = (device.pop().unwrap().unwrap(), device.pop().unwrap().unwrap());
    let head = usize::from(second.id());
    device.complete(first, 0).unwrap();
    let _ = device.publish().unwrap();
    assert_eq!(bytes(&rig, 8, 8), [1, 0, 8, 0, 0, 0, 1, 0], "version, size, last batch, used index");
    assert_eq!(
        bytes(&rig, 16 + 16 * head, 16),
        [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        "counter 1"
    );
    assert_eq!(bytes(&rig, 16, 1), [0], "the first is used");
    second.discard();

    let mut rig = Rig::new(Features::RING_PACKED);
    rig.submit(2);
    let mut device = rig.device().unwrap();
    let (first, second) = (device.pop().unwrap().unwrap(), device.pop().unwrap().unwrap());
    assert_eq!(bytes(&rig, 8, 16), [1, 0, 8, 0, 3, 0, 3, 0, 0, 0, 0, 0, 1, 1, 0, 0]);
    assert_eq!(bytes(&rig, 32, 8), [1, 0, 1, 0, 1, 0, 2, 0], "in flight, next 1, last 1, two descriptors");
    assert_eq!(bytes(&rig, 96, 16), [1, 0, 3, 0, 2, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0], "counter 1");
    let id = second.id() as u8;
    assert_eq!(
        bytes(&rig, 112, 16),
        [id, 0, 0x80, 0, 1, 0, 0, 0, 1, 0x40, 0, 0, 0, 0, 0, 0],
        "id, flags, length, address"
    );
    device.complete(first, 0).unwrap();
    let _ = device.publish().unwrap();
    assert_eq!(bytes(&rig, 8, 16), [1, 0, 8, 0, 0, 0, 0, 0, 2, 0, 2, 0, 1, 1, 0, 0]);
    assert_eq!(bytes(&rig, 32, 1), [0]);
    second.discard();
}

/// Whatever a peer writes into the record, while a queue runs or before it starts: it is refused, or some buffers are lost or
/// faults found; nothing is read outside of anything and nothing goes on for ever.
#[test]
fn row55_a_hostile_record_is_refused_or_harmless() {
    for features in every_format() {
        let len = InFlightArea::len_for(RingFormat::of(features), SIZE);
        for seed in 1..=2000 {
            let mut random = xorshift(seed * 0x9e37_79b9);
            let mut rig = Rig::new(features);
            for _life in 0..3 {
                rig.submit(5);
                let Ok(mut device) = rig.device() else { break };
                let mut held = Vec::new();
                for _ in 0..random(20) {
                    let outcome = match random(4) {
                        0 => device.pop().map(|chain| held.extend(chain)),
                        1 => held.pop().map_or(Ok(()), |chain| device.complete(chain, 0)),
                        2 => device.publish().map(drop),
                        _ => {
                            let values = [0, 1, SIZE as u8, 0xff, random(256) as u8];
                            let at = RECORD as usize + random(len);
                            // SAFETY: within the record, which this thread alone accesses.
                            unsafe { rig.memory.0.as_ptr().add(at).write(values[random(5)]) };
                            Ok(())
                        }
                    };
                    if outcome.is_err() {
                        break;
                    }
                    // The driver may find a device that has been led astray, and breaks its queue then.
                    while let Ok(Some(_)) = rig.driver.get() {}
                }
                held.into_iter().for_each(Chain::discard);
            }
        }
    }
}

/// Each field of the header on its own.
#[test]
fn row55_a_record_of_another_queue_is_refused() {
    for features in [Features::NONE, Features::RING_PACKED] {
        let refused = |field: usize, value: u16| {
            let mut rig = Rig::new(features);
            rig.submit(3);
            let mut device = rig.device().unwrap();
            device.pop().unwrap().unwrap().discard();
            drop(device);
            let at = RECORD as usize + field;
            // SAFETY: within the record, which this thread alone accesses.
            unsafe { rig.memory.0.as_ptr().add(at).cast::<u16>().write(value.to_le()) };
            rig.device().err()
        };
        assert_eq!(refused(8, 2), Some(SetupError::Record), "version");
        assert_eq!(refused(10, 4), Some(SetupError::Record), "size");
        assert_eq!(refused(10, 8), None, "as it was");
    }
    let mut rig = Rig::new(Features::NONE);
    rig.submit(3);
    drop(rig.device().unwrap());
    // SAFETY: as above.
    unsafe { rig.memory.0.as_ptr().add(RECORD as usize + 14).cast::<u16>().write(0x8000) };
    assert_eq!(
        rig.device().err(),
        Some(SetupError::Record),
        "a used index further back than the queue is long"
    );
    let area = InFlightArea { at: IoAddr(RECORD + 8), ..rig.area() };
    assert_eq!(area.map(RingFormat::Split, SIZE).err(), Some(SetupError::Alignment(IoAddr(RECORD + 8), 16)));
    let beyond = InFlightArea { at: IoAddr(LEN as u64 - 16), ..rig.area() };
    assert!(matches!(beyond.map(RingFormat::Split, SIZE).err(), Some(SetupError::Memory(_))));
}
