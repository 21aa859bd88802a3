//! Descriptors that change while they are read: whatever the mixture that the device end sees, it is judged once and used as it was
//! judged.
//!
//! `unsafe` because it implements `Memory`.
#![allow(unsafe_code)]

use crate::rig::patchwork::{Patchwork, Place};
use crate::rig::raw::{
    AVAIL, Bytes, INDIRECT, NEXT, PackedBytes, PackedDescriptor, SplitBytes, SplitDescriptor, WRITE,
};
use crate::rig::{GUEST_START, Pair, REGION_LEN};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use vioduct_spec::Features;
use vioduct_virtqueue::{
    Access, Chain, IoAddr, Memory, MemoryFault, Queue, QueuePosition, Region, RingLayout,
};

/// A linear congruential generator.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// Where everything is, in one of the two memories.
#[derive(Clone, Copy)]
struct Map {
    start: u64,
    end: u64,
    data: u64,
    table: u64,
}

const SIZE: u16 = 8;

/// The fields of a descriptor that might pass, and might not.
fn fields(random: &mut Random, map: Map) -> (u64, u32, u16, u16) {
    let at = random.of(&[map.data, map.data, map.data + 64, map.table, map.table, map.end - 8, map.end, 0]);
    let len = random.of(&[0u32, 1, 16, 32, 48, 128, 17, u32::MAX]);
    let flags = random.of(&[0, 0, NEXT, NEXT, WRITE, WRITE | NEXT, INDIRECT, INDIRECT, INDIRECT | NEXT]);
    (at, len, flags, random.below(u64::from(SIZE) + 1) as u16)
}

/// The pieces lie within memory, and are as long as the chain says.
fn assert_sound(chain: &Chain, map: Map) {
    for (pieces, len) in [(chain.readable(), chain.readable_len()), (chain.writable(), chain.writable_len())]
    {
        for piece in pieces {
            let (at, len) = (piece.addr().0, u64::from(piece.len()));
            assert!(at >= map.start && len > 0 && len <= map.end - at, "{at:#x} {len:#x}");
        }
        assert_eq!(pieces.iter().map(|piece| u64::from(piece.len())).sum::<u64>(), len);
    }
    assert!(chain.id() < SIZE);
    let mut bytes = [0; 64];
    let _ = chain.reader().read(&mut bytes).unwrap();
    assert_eq!(chain.writer().write(&bytes).unwrap() as u64, chain.writable_len().min(64));
}

/// Words of a descriptor: address; length, and the two halves of the other fields.
fn words(packed: bool, (at, len, flags, third): (u64, u32, u16, u16)) -> [u64; 2] {
    let (low, high) = if packed { (third, flags | AVAIL) } else { (flags, third) };
    [at, u64::from(len) | u64::from(low) << 32 | u64::from(high) << 48]
}

/// Another thread changes descriptors and table entries, a word at a time, while the device end pops `count` times.
fn pop_while_flipping(packed: bool, count: u32) -> (u32, u32) {
    let features = Features::INDIRECT_DESC | if packed { Features::RING_PACKED } else { Features::NONE };
    let mut pair = Pair::new(SIZE, features);
    let (data, table) = (pair.alloc(1024).addr.0, pair.alloc(1024).addr.0.next_multiple_of(16));
    let map = Map { start: GUEST_START, end: GUEST_START + 2 * REGION_LEN as u64, data, table };
    let ring = pair.driver.layout();
    if !packed {
        SplitBytes::of(&pair).put_avail_idx(1);
    }
    let done = AtomicBool::new(false);
    let memory = pair.memory.clone();
    let mut outcomes = (0, 0);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut random = Random(1);
            while !done.load(Ordering::Relaxed) {
                let place = random.of(&[ring.descriptor_area.0, table]) + 16 * random.below(SIZE.into());
                let [first, second] = words(packed, fields(&mut random, map));
                memory.store_u64(place, first);
                memory.store_u64(place + 8, second);
            }
        });
        let popped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..count {
                let mut device = pair.device_at(QueuePosition::START);
                match device.pop() {
                    Ok(Some(chain)) => {
                        assert_sound(&chain, map);
                        chain.discard();
                        outcomes.0 += 1;
                    }
                    Ok(None) => {}
                    Err(fault) => {
                        assert_eq!(device.fault(), Some(fault));
                        outcomes.1 += 1;
                    }
                }
            }
        }));
        done.store(true, Ordering::Relaxed);
        popped.unwrap();
    });
    outcomes
}

#[test]
fn row06_split_descriptors_that_change_while_read_are_used_as_they_were_judged() {
    let (chains, faults) = pop_while_flipping(false, 100_000);
    assert!(chains > 100 && faults > 100, "{chains} chains and {faults} faults are no test");
}

#[test]
fn row06_packed_descriptors_that_change_while_read_are_used_as_they_were_judged() {
    let (chains, faults) = pop_while_flipping(true, 100_000);
    assert!(chains > 100 && faults > 100, "{chains} chains and {faults} faults are no test");
}

/// Memory that answers every message after changing what the next one will find.
struct Fickle {
    patches: Patchwork,
    random: Mutex<Random>,
    packed: bool,
    map: Map,
}

// SAFETY: no region is ever returned.
unsafe impl Memory for Fickle {
    fn read(&self, at: IoAddr, out: &mut [u8]) -> Result<(), MemoryFault> {
        self.patches.read(at, out)?;
        let random = &mut *self.random.lock().unwrap();
        for area in [self.map.start, self.map.table] {
            for index in 0..u64::from(SIZE) {
                let [first, second] = words(self.packed, fields(random, self.map));
                self.patches.poke(area + 16 * index, &first.to_le_bytes());
                self.patches.poke(area + 16 * index + 8, &second.to_le_bytes());
            }
        }
        Ok(())
    }

    fn write(&self, at: IoAddr, data: &[u8]) -> Result<(), MemoryFault> {
        self.patches.write(at, data)
    }

    fn region(&self, _at: IoAddr) -> Option<Region> {
        None
    }

    fn reaches(&self, at: IoAddr, len: u64, access: Access) -> bool {
        self.patches.reaches(at, len, access)
    }
}

#[test]
fn row06_remote_descriptors_that_change_between_any_two_messages_are_used_as_they_were_judged() {
    for packed in [false, true] {
        let base = 0x10_0000;
        let map = Map { start: base, end: base + 0x4000, data: base + 0x3000, table: base + 0x800 };
        let patches = Patchwork::default().with(base, 0x4000, Access::ReadWrite, Place::Remote);
        let memory = Arc::new(Fickle { patches, random: Mutex::new(Random(7)), packed, map });
        let layout = RingLayout {
            size: SIZE,
            descriptor_area: IoAddr(base),
            driver_area: IoAddr(base + 0x1000),
            device_area: IoAddr(base + 0x2000),
        };
        memory.patches.poke(base + 0x1002, &[1, 0]);
        let features = Features::INDIRECT_DESC | if packed { Features::RING_PACKED } else { Features::NONE };
        let (mut chains, mut faults) = (0, 0);
        for _ in 0..5_000 {
            let shared: Arc<dyn Memory> = memory.clone();
            let mut device = Queue::new(shared, layout, features, QueuePosition::START).unwrap();
            match device.pop() {
                Ok(Some(chain)) => {
                    assert_sound(&chain, map);
                    chain.discard();
                    chains += 1;
                }
                Ok(None) => {}
                Err(_) => faults += 1,
            }
        }
        assert!(chains > 100 && faults > 100, "{chains} chains and {faults} faults are no test");
    }
}

#[test]
fn row06_what_a_chain_says_does_not_follow_later_changes() {
    for packed in [false, true] {
        let mut pair = Pair::new(4, if packed { Features::RING_PACKED } else { Features::NONE });
        let data = pair.alloc(16).addr.0;
        let write = |pair: &Pair, at: u64, len: u32, flags: u16| {
            if packed {
                PackedBytes::of(pair).put_descriptor(0, PackedDescriptor(at, len, 1, flags | AVAIL));
            } else {
                SplitBytes::of(pair).put_descriptor(0, SplitDescriptor(at, len, flags, 0));
            }
        };
        write(&pair, data, 8, WRITE);
        if !packed {
            SplitBytes::of(&pair).offer(&[0]);
        }
        let chain = pair.device.pop().unwrap().unwrap();
        write(&pair, 0, u32::MAX, 0);
        assert_eq!((chain.writable_len(), chain.readable_len()), (8, 0));
        assert_eq!((chain.writable()[0].addr().0, chain.writable()[0].len()), (data, 8));
        assert_eq!(chain.writer().write(&[5; 100]), Ok(8));
        assert_eq!(pair.memory.bytes(data, 16), [[5; 8], [0; 8]].concat());
        pair.device.complete(chain, 8).unwrap();
    }
}

/// Memory in which the driver makes a descriptor available while a message that reads it is half done.
struct HalfWay {
    patches: Patchwork,
    at: u64,
    publishes: Mutex<Option<[u8; 16]>>,
}

// SAFETY: no region is ever returned.
unsafe impl Memory for HalfWay {
    fn read(&self, at: IoAddr, out: &mut [u8]) -> Result<(), MemoryFault> {
        if at.0 != self.at || out.len() != 16 {
            return self.patches.read(at, out);
        }
        let (first, second) = out.split_at_mut(8);
        self.patches.read(at, first)?;
        if let Some(descriptor) = self.publishes.lock().unwrap().take() {
            self.patches.poke(self.at, &descriptor);
        }
        self.patches.read(IoAddr(at.0 + 8), second)
    }

    fn write(&self, at: IoAddr, data: &[u8]) -> Result<(), MemoryFault> {
        self.patches.write(at, data)
    }

    fn region(&self, _at: IoAddr) -> Option<Region> {
        None
    }

    fn reaches(&self, at: IoAddr, len: u64, access: Access) -> bool {
        self.patches.reaches(at, len, access)
    }
}

#[test]
fn row06_half_a_remote_descriptor_is_not_taken_for_a_whole_one() {
    let base = 0x10_0000;
    let descriptor = PackedDescriptor(base + 0x3000, 8, 0, WRITE | AVAIL).to_bytes();
    let memory = Arc::new(HalfWay {
        patches: Patchwork::default().with(base, 0x4000, Access::ReadWrite, Place::Remote),
        at: base,
        publishes: Mutex::new(Some(descriptor)),
    });
    let layout = RingLayout {
        size: SIZE,
        descriptor_area: IoAddr(base),
        driver_area: IoAddr(base + 0x1000),
        device_area: IoAddr(base + 0x2000),
    };
    let shared: Arc<dyn Memory> = memory.clone();
    let mut device = Queue::new(shared, layout, Features::RING_PACKED, QueuePosition::START).unwrap();
    // Whether it is seen at once or later, it is seen whole.
    let popped = std::iter::from_fn(|| Some(device.pop())).take(3).find_map(|outcome| outcome.unwrap());
    let chain = popped.unwrap();
    assert_eq!((chain.writable()[0].addr().0, chain.writable_len()), (base + 0x3000, 8));
    chain.discard();
    assert!(memory.publishes.lock().unwrap().is_none());
}
