//! The device end against a hostile driver, who has written all of memory, writes more at any moment, and has the queue start
//! anywhere.
//!
//! The bytes: a byte of options, a byte for the size, two ring indices, perhaps the places of the areas, a count of steps of
//! four bytes each, a count of pokes of three bytes each, and then what lies in memory from where the ring starts.

use crate::input::{self, Input};
use crate::memory::{FuzzMemory, MAPPED_START, Poke, REMOTE_START};
use std::ptr::NonNull;
use std::sync::Arc;
use vioduct_spec::Features;
use vioduct_spec::ring::{DESC_F_AVAIL, DESC_F_USED, DESCRIPTOR_SIZE, packed, split};
use vioduct_virtqueue::{
    Access, AreaSizes, Burst, Chain, IoAddr, Next, Queue, QueueError, QueuePosition, RingFormat, RingLayout,
    Segment, Single, Wrap,
};

/// Bits 0 to 2 of the first byte are [`input::features`].
pub const LOG_WRITES: u8 = 1 << 3;
/// The ring lies in remote memory.
pub const REMOTE_RING: u8 = 1 << 4;
/// Three offsets of two bytes follow, where the areas lie.
pub const MISPLACED: u8 = 1 << 5;

/// A step of the script: its code, modulo the number of codes, and three bytes of arguments.
pub const STEP_LEN: usize = 4;

enum Step {
    Pop,
    PopBurst(usize),
    CompleteBurst {
        count: usize,
        written: u32,
    },
    ChainOf,
    Complete {
        which: usize,
        written: u32,
    },
    Discard {
        which: usize,
    },
    Read {
        which: usize,
        len: usize,
    },
    Write {
        which: usize,
        len: usize,
    },
    Mark {
        which: usize,
        len: u64,
    },
    Publish,
    Arm,
    Disarm,
    Poll,
    Poke {
        at: u16,
        value: u8,
    },
    FollowLog(u8),
    /// The driver makes a buffer available, as an honest one would, whether or not it may.
    Offer {
        id: u16,
        flags: u16,
    },
    Resume,
}

impl Step {
    fn decode(input: &mut Input<'_>) -> Self {
        let mut step = Input(input.bytes(STEP_LEN));
        match step.below(19) {
            0..=2 => Self::Pop,
            3 => match step.below(12) {
                8 | 9 => Self::ChainOf,
                10 | 11 => Self::CompleteBurst { count: step.below(8), written: u32::from(step.u16()) },
                below => Self::PopBurst(1 + below),
            },
            4 | 5 => Self::Complete { which: step.below(256), written: u32::from(step.u16()) },
            6 => Self::Discard { which: step.below(256) },
            7 => Self::Read { which: step.below(256), len: usize::from(step.u16()) },
            8 => Self::Write { which: step.below(256), len: usize::from(step.u16()) },
            9 => Self::Mark { which: step.below(256), len: u64::from(step.u16()) << 8 },
            10 => Self::Publish,
            11 => Self::Arm,
            12 => Self::Poll,
            13 => Self::Poke { at: step.u16(), value: step.u8() },
            14 => Self::FollowLog(step.u8()),
            15 if step.u8() % 2 == 0 => Self::Disarm,
            15 => Self::Resume,
            _ => Self::Offer { id: u16::from(step.u8()), flags: u16::from(step.u8() & 0x7) },
        }
    }
}

/// One run.
pub fn run(format: RingFormat, bytes: &[u8]) {
    let mut input = Input(bytes);
    let options = input.u8();
    let features = input::features(format, options);
    let size = input::size(format, input.u8());
    let position = QueuePosition { available: input.ring_index(format), used: input.ring_index(format) };
    let start = if options & REMOTE_RING == 0 { MAPPED_START } else { REMOTE_START };
    let layout = layout(format, size, start, options, &mut input);
    let steps = usize::from(input.u8());
    let mut steps = Input(input.bytes(steps * STEP_LEN));
    let pokes = (0..input.u8()).map(|_| Poke { at: input.u16(), flip: input.u8() }).collect();
    let memory = FuzzMemory::new(pokes);
    memory.log_writes(options & LOG_WRITES != 0);
    memory.put(IoAddr(start), input.bytes(crate::memory::PIECE_LEN));
    let Ok(queue) = Queue::new(memory.clone(), layout, features, position) else { return };
    let mut device = Device { queue, memory, features, start, held: Vec::new(), burst: Burst::new(8) };
    while !steps.is_empty() {
        device.step(Step::decode(&mut steps));
        device.check();
    }
    device.held.drain(..).for_each(Chain::discard);
    device.burst.discard();
}

fn layout(format: RingFormat, size: u16, start: u64, options: u8, input: &mut Input<'_>) -> RingLayout {
    let sizes = AreaSizes::of(format, size);
    let mut area = |offset: usize| {
        let offset = if options & MISPLACED == 0 { offset as u64 } else { u64::from(input.u16()) };
        IoAddr(start + offset)
    };
    RingLayout {
        size,
        descriptor_area: area(0),
        driver_area: area(sizes.driver_offset()),
        device_area: area(sizes.device_offset()),
    }
}

struct Device {
    queue: Queue,
    memory: Arc<FuzzMemory>,
    features: Features,
    start: u64,
    held: Vec<Chain>,
    burst: Burst,
}

impl Device {
    fn step(&mut self, step: Step) {
        match step {
            Step::Pop => self.pop(),
            Step::PopBurst(up_to) => self.pop_burst(up_to),
            Step::CompleteBurst { count, written } => self.complete_burst(count, written),
            Step::ChainOf => self.held.extend(self.queue.chain_of(&mut self.burst)),
            Step::Complete { which, written } => self.complete(which, written),
            Step::Discard { which } => self.discard(which),
            Step::Read { which, len } => self.read(which, len),
            Step::Write { which, len } => self.write(which, len),
            Step::Mark { which, len } => self.with(which, |chain| chain.mark_written(len)),
            Step::Publish => self.expect_fault(|queue| queue.publish().map(drop)),
            Step::Arm => self.expect_fault(|queue| queue.arm().map(drop)),
            Step::Disarm => self.expect_fault(Queue::disarm),
            Step::Poll => self.expect_fault(|queue| queue.poll().map(drop)),
            Step::Poke { at, value } => self.memory.put(IoAddr(self.start + u64::from(at)), &[value]),
            Step::FollowLog(on) => self.follow_log(on),
            Step::Offer { id, flags } => self.offer(id, flags),
            Step::Resume => self.resume(),
        }
    }

    /// A fault, once found, is what every operation says from then on.
    fn expect_fault(&mut self, operation: impl FnOnce(&mut Queue) -> Result<(), QueueError>) {
        let before = self.queue.fault();
        let result = operation(&mut self.queue);
        assert_eq!(result.err(), self.queue.fault());
        assert!(before.is_none() || before == self.queue.fault(), "the fault changed");
    }

    fn pop(&mut self) {
        let mut popped = None;
        self.expect_fault(|queue| {
            popped = queue.pop()?;
            Ok(())
        });
        self.held.extend(popped);
    }

    fn pop_burst(&mut self, up_to: usize) {
        let mut burst = std::mem::replace(&mut self.burst, Burst::new(0));
        let before = burst.len();
        self.expect_fault(|queue| {
            let next = queue.pop_burst(&mut burst, up_to)?;
            assert!(next != Next::Nothing || burst.len() < up_to);
            Ok(())
        });
        assert!(burst.len() <= before.max(up_to));
        self.burst = burst;
    }

    fn complete_burst(&mut self, count: usize, written: u32) {
        let mut burst = std::mem::replace(&mut self.burst, Burst::new(0));
        let left = burst.len().saturating_sub(count);
        burst.singles_mut().iter_mut().for_each(|single| single.mark_written(written));
        self.expect_fault(|queue| queue.complete_burst(&mut burst, count));
        assert_eq!(burst.len(), left);
        self.burst = burst;
    }

    fn take(&mut self, which: usize) -> Option<Chain> {
        let count = self.held.len();
        (count > 0).then(|| self.held.swap_remove(which % count))
    }

    fn with(&self, which: usize, operation: impl FnOnce(&Chain)) {
        if let Some(chain) = self.held.get(which % self.held.len().max(1)) {
            operation(chain);
        }
    }

    fn complete(&mut self, which: usize, written: u32) {
        if let Some(chain) = self.take(which) {
            self.expect_fault(|queue| queue.complete(chain, written));
        }
    }

    /// A chain is let go of only when its queue is reset.
    fn discard(&mut self, which: usize) {
        if let Some(chain) = self.take(which) {
            chain.discard();
            self.resume();
        }
    }

    fn read(&self, which: usize, len: usize) {
        self.with(which, |chain| {
            let mut reader = chain.reader();
            let skipped = reader.skip(len / 2).map_or(0, |()| len as u64 / 2);
            let wanted = (chain.readable_len() - skipped).min(len as u64);
            if let Ok(read) = reader.read(&mut vec![0; len]) {
                assert_eq!(read as u64, wanted);
                assert_eq!(reader.remaining(), chain.readable_len() - skipped - wanted);
            }
        });
    }

    fn write(&self, which: usize, len: usize) {
        self.with(which, |chain| {
            let mut writer = chain.writer();
            let skipped = writer.skip(len / 2).map_or(0, |()| len as u64 / 2);
            let wanted = (chain.writable_len() - skipped).min(len as u64);
            if let Ok(written) = writer.write(&vec![0x55; len]) {
                assert_eq!(written as u64, wanted);
                assert_eq!(writer.written(), skipped + wanted);
            }
        });
    }

    fn follow_log(&mut self, on: u8) {
        self.memory.log_writes(on & 1 != 0);
        self.queue.follow_log();
    }

    /// Split: head `id`, whose descriptor is as it is. Packed: a descriptor with this id and these flags.
    fn offer(&self, id: u16, flags: u16) {
        let (layout, put) = (self.queue.layout(), |at: IoAddr, offset: usize, value: u16| {
            self.memory.put(IoAddr(at.0.wrapping_add(offset as u64)), &value.to_le_bytes());
        });
        match self.queue.format() {
            RingFormat::Split => {
                let index = self.memory.get(IoAddr(layout.driver_area.0 + split::AVAIL_IDX as u64), 2);
                let index = u16::from_le_bytes([index[0], index[1]]);
                put(layout.driver_area, split::AVAIL_RING + 2 * usize::from(index % layout.size), id);
                put(layout.driver_area, split::AVAIL_IDX, index.wrapping_add(1));
            }
            RingFormat::Packed => {
                let next = self.queue.position().available;
                let available = if next.wrap == Wrap::Set { DESC_F_AVAIL } else { DESC_F_USED };
                let at = usize::from(next.index) * DESCRIPTOR_SIZE;
                put(layout.descriptor_area, at + packed::DESC_ID, id);
                put(layout.descriptor_area, at + packed::DESC_FLAGS, flags | available);
            }
        }
    }

    /// Stops the queue, as a reset does, and starts it again where it stood.
    fn resume(&mut self) {
        self.held.drain(..).for_each(Chain::discard);
        self.burst.discard();
        let (layout, position) = (self.queue.layout(), self.queue.position());
        self.queue = Queue::new(self.memory.clone(), layout, self.features, position)
            .expect("a queue can resume where it stood");
    }

    fn check(&self) {
        if self.queue.fault().is_none() {
            assert_eq!(self.queue.in_flight(), self.held.len() + self.burst.len());
        }
        let singles = self.burst.singles();
        let mut ids: Vec<u16> =
            self.held.iter().map(Chain::id).chain(singles.iter().map(Single::id)).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), self.held.len() + singles.len(), "a buffer is lent twice");
        assert!(ids.iter().all(|id| *id < self.queue.size()));
        self.held.iter().for_each(|chain| self.check_chain(chain));
        for single in singles {
            let access = if single.is_writable() { Access::Write } else { Access::Read };
            self.check_piece(single.addr(), single.len(), access, Some(single.host()));
        }
    }

    fn check_chain(&self, chain: &Chain) {
        let total = |part: &[Segment]| part.iter().map(|piece| u64::from(piece.len())).sum::<u64>();
        assert_eq!(total(chain.readable()), chain.readable_len());
        assert_eq!(total(chain.writable()), chain.writable_len());
        assert!(chain.readable_len() + chain.writable_len() <= u64::from(u32::MAX));
        let readable = chain.readable().iter().map(|piece| (piece, Access::Read));
        for (piece, access) in readable.chain(chain.writable().iter().map(|piece| (piece, Access::Write))) {
            self.check_piece(piece.addr(), piece.len(), access, piece.host());
        }
    }

    fn check_piece(&self, at: IoAddr, len: u32, access: Access, host: Option<NonNull<u8>>) {
        assert!(len > 0 && self.memory.allows(at, len.into(), access), "{at}+{len:#x} for {access:?}");
        if let Some(host) = host {
            assert_eq!(host, self.memory.host(at, len as usize), "{at}+{len:#x} translated");
        }
    }
}
