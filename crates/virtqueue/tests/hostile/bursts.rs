//! Bursts are the short way of buffers of one piece: they must judge as the long way does, and keep to their queue.

use crate::rig::patchwork::{Patchwork, Place};
use crate::rig::raw::{
    Bytes, INDIRECT, NEXT, PackedBytes, SplitBytes, SplitDescriptor, WRITE, available, used,
};
use crate::rig::raw::{PackedDescriptor, every_feature_set};
use crate::rig::{GUEST_START, Pair};
use std::sync::Arc;
use vioduct_spec::Features;
use vioduct_virtqueue::{Access, Burst, IoAddr, Next, Queue, QueueError, QueuePosition, RingLayout};

const RING: u64 = 0x1000;
const SIZE: u16 = 8;

/// Patches for every kind of access, mapped and remote, two that touch, and gaps.
fn patches() -> Arc<Patchwork> {
    let memory = Patchwork::default()
        .with(RING, 0x1000, Access::ReadWrite, Place::Mapped)
        .with(0x4000, 0x100, Access::ReadWrite, Place::Mapped)
        .with(0x4100, 0x100, Access::Read, Place::Mapped)
        .with(0x6000, 0x100, Access::Write, Place::Mapped)
        .with(0x8000, 0x100, Access::ReadWrite, Place::Remote);
    Arc::new(memory)
}

/// A number below `below`, by a generator that every run goes through alike.
struct Dice(u64);

impl Dice {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }

    /// `good`, but for one time in 16.
    fn mostly<T: Copy>(&mut self, good: T, odd: &[T]) -> T {
        if self.below(16) == 0 { self.one_of(odd) } else { good }
    }

    /// A descriptor's address, length and flags.
    fn piece(&mut self) -> (u64, u32, u16) {
        let at = self.mostly(0x4000, &[0x40f8, 0x4100, 0x41ff, 0x6000, 0x8000, 0x9000, u64::MAX]);
        let len = self.mostly(8, &[1, 16, 0x100, 0, u32::MAX]);
        let flags = self.one_of(&[0, WRITE]);
        (at, len, self.mostly(flags, &[NEXT, INDIRECT]))
    }
}

const LAYOUT: RingLayout = RingLayout {
    size: SIZE,
    descriptor_area: IoAddr(RING),
    driver_area: IoAddr(RING + 0x400),
    device_area: IoAddr(RING + 0x800),
};

/// A ring that is full of such.
fn put_ring(memory: &Arc<Patchwork>, features: Features, dice: &mut Dice) {
    let bytes: Arc<dyn Bytes> = memory.clone();
    if features.contains(Features::RING_PACKED) {
        let ring = PackedBytes { memory: bytes, layout: LAYOUT };
        for index in 0..SIZE {
            let (at, len, flags) = dice.piece();
            let id = dice.mostly(index, &[0, SIZE]);
            ring.put_descriptor(index, PackedDescriptor(at, len, id, flags | available(true)));
        }
        return;
    }
    let ring = SplitBytes { memory: bytes, layout: LAYOUT };
    for index in 0..SIZE {
        let (at, len, flags) = dice.piece();
        ring.put_descriptor(index, SplitDescriptor(at, len, flags, (index + 1) % SIZE));
    }
    let heads: Vec<u16> = (0..SIZE).map(|index| dice.mostly(index, &[0, SIZE])).collect();
    ring.offer(&heads);
    ring.put_avail_idx(dice.mostly(SIZE, &[SIZE + 1]));
}

/// One buffer: its id, and its pieces.
type Found = (u16, Vec<(IoAddr, u32, Access)>);

fn pop(device: &mut Queue, found: &mut Vec<Found>) -> Result<bool, QueueError> {
    let Some(chain) = device.pop()? else { return Ok(false) };
    let part = |pieces: &[vioduct_virtqueue::Segment], access| {
        pieces.iter().map(|piece| (piece.addr(), piece.len(), access)).collect::<Vec<_>>()
    };
    let pieces = [part(chain.readable(), Access::Read), part(chain.writable(), Access::Write)].concat();
    found.push((chain.id(), pieces));
    chain.discard();
    Ok(true)
}

fn pop_bursts(device: &mut Queue, up_to: usize, found: &mut Vec<Found>) -> Result<(), QueueError> {
    let mut burst = Burst::new(up_to);
    loop {
        let next = device.pop_burst(&mut burst, up_to);
        found.extend(burst.singles().iter().map(|single| {
            let access = if single.is_writable() { Access::Write } else { Access::Read };
            (single.id(), vec![(single.addr(), single.len(), access)])
        }));
        burst.discard();
        match next? {
            Next::Unknown => {}
            Next::Nothing => return Ok(()),
            Next::Other => {
                if !pop(device, found)? {
                    return Ok(());
                }
            }
        }
    }
}

#[test]
fn row11_the_short_way_of_bursts_judges_as_the_long_one() {
    let mut dice = Dice(1);
    let (mut good, mut faults) = (0, 0);
    for round in 0..3000 {
        for features in every_feature_set() {
            let memory = patches();
            put_ring(&memory, features, &mut dice);
            let queue = || Queue::new(memory.clone(), LAYOUT, features, QueuePosition::START).unwrap();
            let (mut long, mut short) = (queue(), queue());
            let (mut expected, mut found) = (Vec::new(), Vec::new());
            let outcome = loop {
                match pop(&mut long, &mut expected) {
                    Ok(true) => {}
                    Ok(false) => break Ok(()),
                    Err(fault) => break Err(fault),
                }
            };
            let by_bursts = pop_bursts(&mut short, 1 + round % 5, &mut found);
            assert_eq!((&found, by_bursts), (&expected, outcome), "{features} round {round}");
            assert_eq!((short.position(), short.fault()), (long.position(), long.fault()));
            good += expected.len();
            faults += usize::from(outcome.is_err());
        }
    }
    assert!(good > 100_000 && faults > 10_000, "{good} buffers, {faults} faults");
}

fn offer(pair: &mut Pair, count: u64) {
    for token in 0..count {
        let piece = pair.alloc(8);
        let (readable, writable) = if token % 2 == 0 { (vec![piece], vec![]) } else { (vec![], vec![piece]) };
        pair.driver.add(&readable, &writable, token).unwrap();
    }
    let _ = pair.driver.kick_prepare();
}

#[test]
fn row12_a_burst_of_another_queue_is_refused_and_neither_used_nor_counted() {
    for features in every_feature_set() {
        let (mut first, mut second) = (Pair::new(4, features), Pair::new(4, features));
        offer(&mut first, 2);
        offer(&mut second, 2);
        let mut burst = Burst::new(4);
        assert_eq!(second.device.pop_burst(&mut burst, 4), Ok(Next::Nothing));
        assert!(second.device.owns_burst(&burst) && !first.device.owns_burst(&burst));
        assert_eq!(first.device.pop_burst(&mut burst, 4), Ok(Next::Unknown), "it holds another's");
        assert!(first.device.chain_of(&mut burst).is_none());
        let theirs = burst.singles()[0].id();
        assert_eq!(first.device.complete_burst(&mut burst, 1), Err(QueueError::BufferId(theirs)));
        assert_eq!((burst.len(), first.device.fault(), first.device.in_flight()), (1, None, 0));
        let _ = first.device.publish();
        assert_eq!(first.driver.get(), Ok(None));
        // A queue that was set up anew is another one.
        second.device = second.device_at(QueuePosition::START);
        assert!(second.device.complete_burst(&mut burst, 1).is_err() && burst.is_empty());
        // What is empty is anybody's.
        assert_eq!(first.device.pop_burst(&mut burst, 4), Ok(Next::Nothing));
        assert_eq!(burst.len(), 2);
        burst.discard();
    }
}

#[test]
fn row21_a_burst_tells_of_no_bytes_that_are_not_there() {
    for features in every_feature_set() {
        let mut pair = Pair::new(4, features);
        offer(&mut pair, 2);
        let mut burst = Burst::new(4);
        let _ = pair.device.pop_burst(&mut burst, 4).unwrap();
        burst.singles_mut().iter_mut().for_each(|single| single.mark_written(99));
        pair.device.complete_burst(&mut burst, 9).unwrap();
        let _ = pair.device.publish().unwrap();
        let told: Vec<_> = std::iter::from_fn(|| pair.driver.get().unwrap()).collect();
        assert_eq!(told.iter().map(|done| (done.token, done.written)).collect::<Vec<_>>(), [(0, 0), (1, 8)]);
    }
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "a burst was dropped without its buffers being completed or discarded")]
fn a_lost_burst_panics_in_a_debug_build() {
    let mut pair = Pair::new(4, Features::NONE);
    offer(&mut pair, 1);
    let mut burst = Burst::new(4);
    let _ = pair.device.pop_burst(&mut burst, 4).unwrap();
}

#[test]
fn a_fault_comes_up_again_with_whatever_is_done_to_a_burst() {
    let mut pair = Pair::new(4, Features::NONE);
    let ring = SplitBytes::of(&pair);
    ring.put_descriptor(0, SplitDescriptor(GUEST_START, 1, 0, 0));
    ring.offer(&[0, 4]);
    let mut burst = Burst::new(4);
    let fault = QueueError::DescriptorIndex(4);
    assert_eq!(pair.device.pop_burst(&mut burst, 4), Err(fault));
    assert_eq!((burst.len(), pair.device.in_flight()), (1, 1), "the good one before it");
    assert_eq!(pair.device.complete_burst(&mut burst, 1), Err(fault));
    assert!(burst.is_empty());
}

#[test]
fn what_bursts_write_is_logged() {
    for features in [Features::NONE, Features::IN_ORDER, Features::RING_PACKED] {
        let memory = patches();
        let mut dice = Dice(7);
        put_ring(&memory, features, &mut dice);
        let bytes: Arc<dyn Bytes> = memory.clone();
        if features.contains(Features::RING_PACKED) {
            let ring = PackedBytes { memory: bytes, layout: LAYOUT };
            ring.put_descriptor(0, PackedDescriptor(0x4010, 16, 0, WRITE | available(true)));
            ring.put_descriptor(1, PackedDescriptor(0x4030, 16, 1, available(true)));
            ring.put_descriptor(2, PackedDescriptor(0, 0, 0, used(false)));
        } else {
            let ring = SplitBytes { memory: bytes, layout: LAYOUT };
            ring.put_descriptor(0, SplitDescriptor(0x4010, 16, WRITE, 0));
            ring.put_descriptor(1, SplitDescriptor(0x4030, 16, 0, 0));
            ring.put_avail_idx(0);
            ring.offer(&[0, 1]);
        }
        let mut device = Queue::new(memory.clone(), LAYOUT, features, QueuePosition::START).unwrap();
        let mut burst = Burst::new(4);
        assert_eq!(device.pop_burst(&mut burst, 4), Ok(Next::Nothing));
        burst.singles_mut().iter_mut().for_each(|single| single.mark_written(5));
        device.complete_burst(&mut burst, 2).unwrap();
        assert_eq!(memory.logged(), [(0x4010, 5)], "of what is readable, nothing");
    }
}
