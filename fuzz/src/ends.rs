//! Both ends, honest, in any order of steps, against a model of a queue: what is added comes out whole, in the right order, with
//! the right length, and whoever asked to be notified is told to.
//!
//! The bytes: a byte of features (bit 3: packed), a byte for the size, then steps: a code, modulo the number of codes, and its
//! arguments.
//!
//! `unsafe` because it hands out ring memory.
#![allow(unsafe_code)]

use crate::input::{self, Input};
use crate::memory::{FuzzMemory, MAPPED_START};
use std::collections::VecDeque;
use std::sync::Arc;
use vioduct_spec::Features;
use vioduct_virtqueue::{
    AddError, Buffer, Chain, Completion, DriverQueue, IndirectMemory, IoAddr, Kick, MoreWork, Notify, Queue,
    QueuePosition, RingFormat, RingMemory,
};

/// Bit 3 of the first byte; bits 0 to 2 are [`input::features`].
pub const PACKED: u8 = 1 << 3;

const ENTRIES: u16 = 4;
/// Bytes for a buffer's pieces, of which there are at most six, of at most seven bytes.
const ROOM: usize = 64;
/// Buffers that can be in flight.
const ROOMS: usize = 40;
/// The rooms lie around the end of the first mapped piece of memory, so that some pieces of buffers cross it.
const ROOMS_START: u64 = MAPPED_START + 0x1800;

enum Step {
    Add { pieces: Vec<(bool, u32)> },
    Kick,
    Get,
    Disable,
    Enable,
    EnableDelayed,
    Pop,
    Complete { which: usize, short: u32 },
    Publish,
    Arm,
    Disarm,
    Resume,
}

impl Step {
    fn decode(input: &mut Input<'_>) -> Self {
        match input.below(20) {
            0..=3 => Self::add(input),
            4 | 5 => Self::Kick,
            6 | 7 => Self::Get,
            8 => Self::Disable,
            9 => Self::Enable,
            10 => Self::EnableDelayed,
            11 | 12 => Self::Pop,
            13..=15 => Self::Complete { which: input.below(256), short: input.below(8) as u32 },
            16 => Self::Publish,
            17 => Self::Arm,
            18 => Self::Disarm,
            _ => Self::Resume,
        }
    }

    /// Lengths of 0 to 7 bytes; bit 7 says writable.
    fn add(input: &mut Input<'_>) -> Self {
        let count = input.below(7);
        let bytes = (0..count).map(|_| input.u8());
        let mut pieces: Vec<_> = bytes.map(|byte| (byte & 0x80 != 0, u32::from(byte % 8))).collect();
        pieces.sort_by_key(|(writable, _)| *writable);
        Self::Add { pieces }
    }
}

/// A buffer of the model.
#[derive(Clone, Debug)]
struct Request {
    token: usize,
    /// Where its bytes lie: also its number while it is in flight.
    room: usize,
    readable: Vec<Buffer>,
    writable: Vec<Buffer>,
    descriptors: u16,
    written: u32,
}

fn total(parts: &[Buffer]) -> u32 {
    parts.iter().map(|part| part.len).sum()
}

/// Byte `position` of what the driver (or, inverted, the device) puts into a request.
fn byte(token: usize, position: usize) -> u8 {
    (token * 31 + position * 7 + 1) as u8
}

#[derive(Default)]
struct Model {
    /// Added, not yet published; published, not yet popped.
    added: VecDeque<Request>,
    available: VecDeque<Request>,
    /// Popped, in that order; completed ones with `true`.
    popped: VecDeque<(Request, bool)>,
    /// Completed and next in order, not yet published; published, not yet got.
    completed: VecDeque<Request>,
    used: VecDeque<Request>,
    free_rooms: Vec<usize>,
}

struct Pair {
    driver: DriverQueue<usize>,
    device: Queue,
    memory: Arc<FuzzMemory>,
    features: Features,
    model: Model,
    held: Vec<(Chain, usize)>,
    tokens: usize,
    /// The device sleeps until it is notified; the driver does.
    device_asleep: bool,
    driver_asleep: Option<usize>,
}

/// One run.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let options = input.u8();
    let format = if options & PACKED == 0 { RingFormat::Split } else { RingFormat::Packed };
    let features = input::features(format, options);
    let mut pair = Pair::new(format, features, input::size(format, input.u8()));
    while !input.is_empty() {
        pair.step(Step::decode(&mut input));
        pair.check();
    }
    pair.finish();
}

impl Pair {
    fn new(format: RingFormat, features: Features, size: u16) -> Self {
        let memory = FuzzMemory::new(Box::default());
        let at = IoAddr(MAPPED_START);
        let host = memory.host(at, RingMemory::len_for(format, size));
        // SAFETY: zeroed, 16-byte aligned, and kept alive by the `memory` beside the queue.
        let ring = unsafe { RingMemory::new(host, at, format, size) }.expect("a valid ring");
        let at = IoAddr(MAPPED_START + 0x800);
        let host = memory.host(at, IndirectMemory::len_for(size, ENTRIES));
        // SAFETY: as above.
        let tables = unsafe { IndirectMemory::new(host, at, size, ENTRIES) };
        let driver = DriverQueue::new(ring, Some(tables), features).expect("the ring's layout");
        let device = Queue::new(memory.clone(), driver.layout(), features, QueuePosition::START)
            .expect("a ring in mapped memory");
        let model = Model { free_rooms: (0..ROOMS).collect(), ..Model::default() };
        let (held, tokens) = (Vec::new(), 0);
        Self {
            driver,
            device,
            memory,
            features,
            model,
            held,
            tokens,
            device_asleep: false,
            driver_asleep: None,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Add { pieces } => self.add(&pieces),
            Step::Kick => self.kick(),
            Step::Get => drop(self.get()),
            Step::Disable => self.disable(),
            Step::Enable => self.enable(),
            Step::EnableDelayed => self.enable_delayed(),
            Step::Pop => drop(self.pop()),
            Step::Complete { which, short } => self.complete(which, short),
            Step::Publish => self.publish(),
            Step::Arm => self.arm(),
            Step::Disarm => self.disarm(),
            Step::Resume => self.resume(),
        }
    }

    fn has(&self, feature: Features) -> bool {
        self.features.contains(feature)
    }

    fn add(&mut self, pieces: &[(bool, u32)]) {
        let Some(room) = self.model.free_rooms.last().copied() else { return };
        let (mut at, token) = (ROOMS_START + (room * ROOM) as u64, self.tokens);
        let (mut readable, mut writable) = (Vec::new(), Vec::new());
        for (is_writable, len) in pieces {
            let part = Buffer { addr: IoAddr(at), len: *len };
            if *is_writable {
                writable.push(part)
            } else {
                readable.push(part)
            }
            at += u64::from(*len);
        }
        let count = pieces.len();
        let indirect = self.has(Features::INDIRECT_DESC) && (2..=usize::from(ENTRIES)).contains(&count);
        let descriptors = if indirect { 1 } else { count as u16 };
        let expected = match count {
            0 => Err((AddError::Empty, token)),
            _ if count > usize::from(self.driver.size()) => Err((AddError::TooLong, token)),
            _ if descriptors > self.driver.free_descriptors() => Err((AddError::Full, token)),
            _ => Ok(()),
        };
        assert_eq!(self.driver.add(&readable, &writable, token), expected);
        if expected.is_ok() {
            self.model.free_rooms.pop();
            self.tokens += 1;
            self.fill(&readable, |position| byte(token, position));
            self.model.added.push_back(Request { token, room, readable, writable, descriptors, written: 0 });
        }
    }

    fn fill(&self, parts: &[Buffer], value: impl Fn(usize) -> u8) {
        let mut position = 0;
        for part in parts {
            let bytes: Vec<u8> = (position..position + part.len as usize).map(&value).collect();
            self.memory.put(part.addr, &bytes);
            position += bytes.len();
        }
    }

    fn kick(&mut self) {
        let kick = self.driver.kick_prepare();
        assert!(kick == Kick::Suppressed || !self.model.added.is_empty(), "notified of nothing");
        if self.device_asleep && !self.model.added.is_empty() {
            assert_eq!(kick, Kick::Needed, "lost kick");
            self.device_asleep = false;
        }
        self.model.available.append(&mut self.model.added);
    }

    fn get(&mut self) -> bool {
        let got = self.driver.get().expect("an honest device");
        let expected = self.model.used.pop_front();
        let wanted = expected.as_ref().map(|request| (request.token, request.written));
        assert_eq!(got.map(|Completion { token, written }| (token, written)), wanted);
        let Some(request) = expected else { return false };
        // Every byte that the device says it wrote is there.
        let mut position = 0;
        for part in &request.writable {
            for found in self.memory.get(part.addr, part.len as usize) {
                let wanted =
                    if position < request.written as usize { !byte(request.token, position) } else { found };
                assert_eq!(found, wanted, "byte {position} of {request:?}");
                position += 1;
            }
        }
        self.model.free_rooms.push(request.room);
        self.driver_asleep = None;
        true
    }

    fn disable(&mut self) {
        self.driver.disable_callback();
        self.driver_asleep = None;
    }

    fn enable(&mut self) {
        let more = self.driver.enable_callback();
        assert_eq!(more, if self.model.used.is_empty() { MoreWork::None } else { MoreWork::Pending });
        self.driver_asleep = (more == MoreWork::None).then_some(1);
    }

    /// The driver may be told early, but not later than when everything that is in flight now has been used.
    fn enable_delayed(&mut self) {
        let more = self.driver.enable_callback_delayed();
        assert!(more == MoreWork::None || !self.model.used.is_empty(), "nothing is pending");
        let left = usize::from(self.driver.in_flight()) - self.model.used.len();
        assert!(
            more == MoreWork::Pending || left > 0 || self.model.used.is_empty(),
            "nothing is left to wait for"
        );
        self.driver_asleep = (more == MoreWork::None && left > 0).then_some(left);
    }

    fn pop(&mut self) -> bool {
        let chain = self.device.pop().expect("an honest driver");
        let Some(chain) = chain else {
            assert!(self.model.available.is_empty(), "an available buffer is not seen");
            return false;
        };
        let request = self.model.available.pop_front().expect("a buffer that was made available");
        assert_eq!(chain.writable_len(), u64::from(total(&request.writable)));
        let mut bytes = vec![0; total(&request.readable) as usize];
        let mut reader = chain.reader();
        reader.read_exact(&mut bytes).expect("as long as was added");
        assert_eq!(reader.remaining(), 0);
        assert!(bytes.iter().enumerate().all(|(position, found)| *found == byte(request.token, position)));
        self.held.push((chain, request.token));
        self.model.popped.push_back((request, false));
        self.device_asleep = false;
        true
    }

    fn complete(&mut self, which: usize, short: u32) {
        if self.held.is_empty() {
            return;
        }
        let (chain, token) = self.held.swap_remove(which % self.held.len());
        let written = (chain.writable_len() as u32).saturating_sub(short);
        let reply: Vec<u8> = (0..written as usize).map(|position| !byte(token, position)).collect();
        chain.writer().write_all(&reply).expect("room");
        self.device.complete(chain, written).expect("an honest driver");
        let place = self.model.popped.iter_mut().find(|(request, _)| request.token == token);
        let (request, done) = place.expect("a popped request");
        (request.written, *done) = (written, true);
        if self.has(Features::IN_ORDER) {
            while self.model.popped.front().is_some_and(|(_, done)| *done) {
                self.model.completed.extend(self.model.popped.pop_front().map(|(request, _)| request));
            }
        } else if let Some(place) = self.model.popped.iter().position(|(_, done)| *done) {
            self.model.completed.extend(self.model.popped.remove(place).map(|(request, _)| request));
        }
    }

    fn publish(&mut self) {
        let notify = self.device.publish().expect("an honest driver");
        let count = self.model.completed.len();
        assert!(notify == Notify::Suppressed || count > 0, "notified of nothing");
        self.model.used.append(&mut self.model.completed);
        if let Some(left) = &mut self.driver_asleep {
            *left = left.saturating_sub(count);
            if notify == Notify::Needed {
                self.driver_asleep = None;
            } else {
                assert!(*left > 0, "lost interrupt");
            }
        }
    }

    fn arm(&mut self) {
        let more = self.device.arm().expect("an honest driver");
        assert_eq!(more, if self.model.available.is_empty() { MoreWork::None } else { MoreWork::Pending });
        assert_eq!(self.device.poll(), Ok(more));
        self.device_asleep = more == MoreWork::None;
    }

    fn disarm(&mut self) {
        self.device.disarm().expect("an honest driver");
        self.device_asleep = false;
    }

    /// Once nothing is in flight, another device end goes on from where this one stood.
    fn resume(&mut self) {
        if !self.held.is_empty() {
            return;
        }
        self.publish();
        let (layout, position) = (self.device.layout(), self.device.position());
        self.device =
            Queue::new(self.memory.clone(), layout, self.features, position).expect("where it stood");
    }

    fn check(&self) {
        let model = &self.model;
        assert_eq!(self.device.in_flight(), self.held.len());
        let requests =
            model.added.iter().chain(&model.available).chain(model.popped.iter().map(|(request, _)| request));
        let requests = requests.chain(&model.completed).chain(&model.used);
        let (count, taken) =
            requests.fold((0, 0), |(count, sum), request| (count + 1, sum + request.descriptors));
        assert_eq!(self.driver.in_flight(), count);
        assert_eq!(self.driver.free_descriptors(), self.driver.size() - taken);
    }

    /// Everything that was added comes back.
    fn finish(mut self) {
        self.kick();
        while self.pop() {}
        while !self.held.is_empty() {
            self.complete(0, 0);
        }
        self.publish();
        while self.get() {}
        assert_eq!(self.driver.free_descriptors(), self.driver.size());
        assert!(self.driver.detach_unused().is_empty());
    }
}
