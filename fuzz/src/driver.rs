//! The driver end against a hostile device, which writes anything anywhere in the ring and the tables, at any moment.
//!
//! The bytes: a byte of features, a byte for the size, then steps: a code, modulo the number of codes, and its arguments.
//!
//! `unsafe` because it hands out ring memory.
#![allow(unsafe_code)]

use crate::input::{self, Input};
use crate::memory::{FuzzMemory, MAPPED_START, PIECE_LEN};
use std::collections::BTreeMap;
use std::sync::Arc;
use vioduct_spec::ring::{DESCRIPTOR_SIZE, packed, split};
use vioduct_virtqueue::{
    AddError, AreaSizes, Buffer, Completion, DriverQueue, IndirectMemory, IoAddr, Kick, QueueError,
    RingFormat, RingMemory, Wrap,
};

const ENTRIES: u16 = 4;

enum Step {
    Add {
        readable: usize,
        writable: usize,
        len: u32,
    },
    Kick,
    Get,
    Disable,
    Enable,
    EnableDelayed,
    /// The device writes two bytes.
    Poke {
        at: u16,
        value: u16,
    },
    /// The device reports a buffer where the driver end looks for it.
    Report {
        id: u16,
        written: u32,
    },
    Reset,
}

impl Step {
    fn decode(input: &mut Input<'_>) -> Self {
        match input.below(16) {
            0..=3 => Self::Add { readable: input.below(5), writable: input.below(5), len: input.u32() },
            4 | 5 => Self::Kick,
            6 | 7 => Self::Get,
            8 => Self::Disable,
            9 => Self::Enable,
            10 => Self::EnableDelayed,
            11 => Self::Poke { at: input.u16(), value: input.u16() },
            12..=14 => Self::Report { id: u16::from(input.u8()), written: input.u32() },
            _ => Self::Reset,
        }
    }
}

/// What was posted with a token.
struct Posted {
    writable: u32,
    descriptors: u16,
}

struct Driver {
    queue: DriverQueue<u64>,
    memory: Arc<FuzzMemory>,
    indirect: bool,
    posted: BTreeMap<u64, Posted>,
    next_token: u64,
    /// What the device has said so far, for a report in the right place of a split ring.
    reports: u16,
}

/// One run.
pub fn run(format: RingFormat, bytes: &[u8]) {
    let mut input = Input(bytes);
    let features = input::features(format, input.u8());
    let size = input::size(format, input.u8());
    let memory = FuzzMemory::new(Box::default());
    let len = RingMemory::len_for(format, size);
    // SAFETY: zeroed, 16-byte aligned, and kept alive by the `memory` beside the queue.
    let ring = unsafe {
        RingMemory::new(memory.host(IoAddr(MAPPED_START), len), IoAddr(MAPPED_START), format, size)
    };
    let tables_at = IoAddr(MAPPED_START + (PIECE_LEN - IndirectMemory::len_for(size, ENTRIES)) as u64);
    let host = memory.host(tables_at, IndirectMemory::len_for(size, ENTRIES));
    // SAFETY: as above.
    let tables = unsafe { IndirectMemory::new(host, tables_at, size, ENTRIES) };
    let queue =
        DriverQueue::new(ring.expect("a valid ring"), Some(tables), features).expect("the ring's layout");
    let indirect = features.contains(vioduct_spec::Features::INDIRECT_DESC);
    let mut driver = Driver { queue, memory, indirect, posted: BTreeMap::new(), next_token: 0, reports: 0 };
    while !input.is_empty() {
        driver.step(Step::decode(&mut input));
        driver.check();
    }
    driver.detach();
}

impl Driver {
    fn step(&mut self, step: Step) {
        match step {
            Step::Add { readable, writable, len } => self.add(readable, writable, len),
            Step::Kick => self.kick(),
            Step::Get => self.get(),
            Step::Disable => self.queue.disable_callback(),
            Step::Enable => drop(self.queue.enable_callback()),
            Step::EnableDelayed => drop(self.queue.enable_callback_delayed()),
            Step::Poke { at, value } => self.poke(at, value),
            Step::Report { id, written } => self.report(id, written),
            Step::Reset => self.reset(),
        }
    }

    fn add(&mut self, readable: usize, writable: usize, len: u32) {
        let piece = Buffer { addr: IoAddr(MAPPED_START), len };
        let token = self.next_token;
        self.next_token += 1;
        let count = readable + writable;
        let descriptors =
            if self.indirect && (2..=usize::from(ENTRIES)).contains(&count) { 1 } else { count };
        let expected = if self.queue.is_broken() {
            Err((AddError::Broken, token))
        } else if count == 0 {
            Err((AddError::Empty, token))
        } else if count > usize::from(self.queue.size())
            || count as u64 * u64::from(len) > u64::from(u32::MAX)
        {
            Err((AddError::TooLong, token))
        } else if descriptors > usize::from(self.queue.free_descriptors()) {
            Err((AddError::Full, token))
        } else {
            let posted = Posted { writable: writable as u32 * len, descriptors: descriptors as u16 };
            self.posted.insert(token, posted);
            Ok(())
        };
        assert_eq!(self.queue.add(&vec![piece; readable], &vec![piece; writable], token), expected);
    }

    fn kick(&mut self) {
        let kick = self.queue.kick_prepare();
        assert!(kick == Kick::Suppressed || !self.queue.is_broken());
        assert_eq!(self.queue.kick_prepare(), Kick::Suppressed, "there is nothing more to publish");
    }

    fn get(&mut self) {
        let was_broken = self.queue.is_broken();
        match self.queue.get() {
            Ok(None) => assert!(!was_broken),
            Ok(Some(Completion { token, written })) => {
                assert!(!was_broken);
                let posted = self.posted.remove(&token).expect("a token comes back once");
                assert!(written <= posted.writable);
            }
            Err(error) => {
                assert!(self.queue.is_broken());
                assert!(was_broken || error != QueueError::Broken);
                assert_eq!(self.queue.get(), Err(error));
            }
        }
    }

    fn poke(&self, at: u16, value: u16) {
        let at = MAPPED_START + u64::from(at) % PIECE_LEN as u64;
        self.memory.put(IoAddr(at), &value.to_le_bytes());
    }

    /// What an honest device would write for buffer `id`, whether or not there is such a buffer.
    fn report(&mut self, id: u16, written: u32) {
        let (at, size) = (self.queue.next_used(), self.queue.size());
        match self.queue.format() {
            RingFormat::Split => {
                let used = AreaSizes::of(RingFormat::Split, size).device_offset();
                let entry =
                    used + split::USED_RING + split::USED_ELEMENT_SIZE * usize::from(self.reports % size);
                let pair = u64::from(id) | u64::from(written) << 32;
                self.memory.put(IoAddr(MAPPED_START + entry as u64), &pair.to_le_bytes());
                self.reports = self.reports.wrapping_add(1);
                self.poke((used + split::USED_IDX) as u16, self.reports);
            }
            RingFormat::Packed => {
                let descriptor = DESCRIPTOR_SIZE * usize::from(at.index);
                let flags = if at.wrap == Wrap::Set { 0x8080 } else { 0 };
                let at = |offset| IoAddr(MAPPED_START + (descriptor + offset) as u64);
                self.memory.put(at(packed::DESC_LEN), &written.to_le_bytes());
                self.memory.put(at(packed::DESC_ID), &id.to_le_bytes());
                self.memory.put(at(packed::DESC_FLAGS), &u16::to_le_bytes(flags));
            }
        }
    }

    /// Every token that is still posted comes back from here, exactly once.
    fn detach(&mut self) {
        for token in self.queue.detach_unused() {
            self.posted.remove(&token).expect("a token comes back once");
        }
        assert!(self.posted.is_empty(), "a token was lost");
        assert!(self.queue.detach_unused().is_empty() && self.queue.is_broken());
    }

    fn reset(&mut self) {
        self.detach();
        self.queue.reset();
        self.reports = 0;
        assert!(!self.queue.is_broken());
        assert_eq!(self.queue.free_descriptors(), self.queue.size());
    }

    fn check(&self) {
        assert_eq!(usize::from(self.queue.in_flight()), self.posted.len());
        let taken: u16 = self.posted.values().map(|posted| posted.descriptors).sum();
        assert_eq!(self.queue.free_descriptors(), self.queue.size() - taken);
    }
}
