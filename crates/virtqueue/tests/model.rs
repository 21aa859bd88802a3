//! Both ends against a queue that is nothing but lists: random steps of driver and device in any order, over every layout, option
//! and size, and across every wrap.
#![allow(clippy::unwrap_used)]

mod rig;

use proptest::prelude::*;
use rig::Pair;
use rig::raw::every_feature_set;
use std::collections::VecDeque;
use vioduct_spec::Features;
use vioduct_virtqueue::{
    AddError, Buffer, Burst, Chain, IoAddr, Kick, MoreWork, Next, Notify, QueuePosition,
};

/// One step of either side.
#[derive(Clone, Debug)]
enum Step {
    /// Driver: add a buffer of so many readable and writable pieces.
    Add {
        readable: usize,
        writable: usize,
    },
    Kick,
    /// Driver: show a device that polls what was added, and do not ask whether it does.
    Show,
    Get,
    EnableCallback,
    EnableCallbackDelayed,
    DisableCallback,
    Pop,
    /// Device: complete one of the chains that it has, having written so many eighths of it.
    Complete {
        which: usize,
        eighths: u32,
    },
    /// Device: pop buffers of one piece, until it has so many together.
    PopBurst(usize),
    /// Device: complete the first of those, having written so many eighths of each.
    CompleteBurst {
        count: usize,
        eighths: u32,
    },
    /// Device: take the first of those out.
    ChainOf,
    Publish,
    Arm,
    Disarm,
    /// Device: stop, and start elsewhere from the position saved.
    Move,
    /// Both: reset the queue.
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0usize..4, 0usize..4).prop_map(|(readable, writable)| Step::Add { readable, writable }),
        6 => Just(Step::Kick),
        2 => Just(Step::Show),
        8 => Just(Step::Get),
        2 => Just(Step::EnableCallback),
        1 => Just(Step::EnableCallbackDelayed),
        1 => Just(Step::DisableCallback),
        8 => Just(Step::Pop),
        8 => (any::<usize>(), 0u32..=8).prop_map(|(which, eighths)| Step::Complete { which, eighths }),
        4 => (1usize..6).prop_map(Step::PopBurst),
        4 => (1usize..6, 6u32..=8).prop_map(|(count, eighths)| Step::CompleteBurst { count, eighths }),
        1 => Just(Step::ChainOf),
        6 => Just(Step::Publish),
        3 => Just(Step::Arm),
        1 => Just(Step::Disarm),
        2 => Just(Step::Move),
        1 => (0u8..8).prop_map(|rare| if rare == 0 { Step::Reset } else { Step::Kick }),
    ]
}

/// A buffer as the model knows it.
#[derive(Clone, Debug)]
struct Expected {
    token: u64,
    readable: Vec<u8>,
    writable_len: u32,
    pieces: u16,
    /// Descriptors that it takes in the ring.
    descriptors: u16,
    /// Bytes written by the device.
    written: Vec<u8>,
    writable: Vec<Buffer>,
}

impl Expected {
    /// So many eighths of it are written.
    fn write(&mut self, eighths: u32) {
        let len = self.writable_len * eighths / 8;
        self.written = (0..len).map(|byte| (self.token * 13 + u64::from(byte)) as u8).collect();
    }
}

/// What one side has asked for, as the model knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wish {
    /// To be notified of the next thing that happens.
    Next,
    /// To be notified once more than so many have happened.
    After(usize),
    /// To be left alone, or it was notified already.
    Nothing,
    /// Both are right.
    Any,
}

/// What was shown to the device, and the driver has not asked since whether it wants to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unasked {
    Nothing,
    /// All of it was, before the device went to sleep.
    Before,
    Since,
}

struct World {
    pair: Pair,
    size: u16,
    arena: u64,
    next_token: u64,
    /// Added, not shown to the device yet.
    added: VecDeque<Expected>,
    unasked: Unasked,
    /// How many entries (split) or descriptors (packed) that is.
    moved: usize,
    shown: VecDeque<Expected>,
    /// With the device.
    popped: Vec<(Chain, Expected)>,
    burst: Burst,
    in_burst: VecDeque<Expected>,
    /// Completed, in the order in which the driver is to see them; with `IN_ORDER` some wait.
    completed: VecDeque<Expected>,
    waiting: Vec<(u64, Expected)>,
    /// How many of `completed` are published.
    published: usize,
    /// With `IN_ORDER`: popped, and not passed on to `completed` yet.
    order: VecDeque<u64>,
    /// The device end is new: it notifies of what it publishes first, unless it can tell that nobody wants to know.
    undecided: bool,
    device_wish: Wish,
    driver_wish: Wish,
}

impl World {
    fn new(size: u16, features: Features) -> Self {
        let mut pair = Pair::with_tables(size, features, 8);
        let arena = pair.alloc(1 << 20).addr.0;
        Self {
            pair,
            size,
            arena,
            next_token: 0,
            added: VecDeque::new(),
            unasked: Unasked::Nothing,
            moved: 0,
            shown: VecDeque::new(),
            popped: Vec::new(),
            burst: Burst::new(4),
            in_burst: VecDeque::new(),
            completed: VecDeque::new(),
            waiting: Vec::new(),
            published: 0,
            order: VecDeque::new(),
            undecided: true,
            device_wish: Wish::Next,
            driver_wish: Wish::Next,
        }
    }

    fn has(&self, feature: Features) -> bool {
        self.pair.features.contains(feature)
    }

    fn free(&self) -> u16 {
        let popped = self.popped.iter().map(|(_, expected)| expected);
        let waiting = self.waiting.iter().map(|(_, expected)| expected);
        let device = popped.chain(&self.in_burst).chain(waiting).chain(&self.completed);
        let all = self.added.iter().chain(&self.shown).chain(device);
        self.size - all.map(|expected| expected.descriptors).sum::<u16>()
    }

    fn do_step(&mut self, step: &Step) {
        match step {
            Step::Add { readable, writable } => self.add(*readable, *writable),
            Step::Kick => self.kick(),
            Step::Show => self.show(),
            Step::Get => self.get(),
            Step::EnableCallback => self.enable_callback(),
            Step::EnableCallbackDelayed => self.enable_callback_delayed(),
            Step::DisableCallback => self.disable_callback(),
            Step::Pop => self.pop(),
            Step::Complete { which, eighths } => self.complete(*which, *eighths),
            Step::PopBurst(up_to) => self.pop_burst(*up_to),
            Step::CompleteBurst { count, eighths } => self.complete_burst(*count, *eighths),
            Step::ChainOf => self.chain_of(),
            Step::Publish => self.publish(),
            Step::Arm => self.arm(),
            Step::Disarm => self.disarm(),
            Step::Move => self.move_device(),
            Step::Reset => self.reset(),
        }
        assert_eq!(self.pair.driver.free_descriptors(), self.free());
        assert_eq!(self.pair.device.in_flight(), self.popped.len() + self.in_burst.len());
    }

    /// A piece of its own for each token, in an arena that is gone round.
    fn piece(&self, number: usize) -> Buffer {
        let len = ((self.next_token as usize + number) % 5 + 1) as u32;
        let slot = (self.next_token % 4096) * 64 + 8 * number as u64;
        Buffer { addr: IoAddr(self.arena + slot), len }
    }

    fn add(&mut self, readable: usize, writable: usize) {
        let pieces: Vec<Buffer> = (0..readable + writable).map(|number| self.piece(number)).collect();
        let (readable, writable) = pieces.split_at(readable);
        let token = self.next_token;
        let outcome = self.pair.driver.add(readable, writable, token);
        let count = pieces.len() as u16;
        let descriptors = if count > 1 && self.has(Features::INDIRECT_DESC) { 1 } else { count };
        let expected = match count {
            0 => Err((AddError::Empty, token)),
            _ if count > self.size => Err((AddError::TooLong, token)),
            _ if descriptors > self.free() => Err((AddError::Full, token)),
            _ => Ok(()),
        };
        assert_eq!(outcome, expected);
        if outcome.is_err() {
            return;
        }
        self.next_token += 1;
        let mut content = Vec::new();
        for (number, piece) in (0u64..).zip(readable) {
            let bytes: Vec<u8> =
                (0..piece.len).map(|byte| (token * 31 + number * 7 + u64::from(byte)) as u8).collect();
            self.pair.memory.put(piece.addr.0, &bytes);
            content.extend(bytes);
        }
        self.added.push_back(Expected {
            token,
            readable: content,
            writable_len: writable.iter().map(|piece| piece.len).sum(),
            pieces: count,
            descriptors,
            written: Vec::new(),
            writable: writable.to_vec(),
        });
    }

    fn kick(&mut self) {
        let kick = self.pair.driver.kick_prepare();
        self.append_shown();
        let beyond_a_lap = std::mem::take(&mut self.moved) > usize::from(self.size);
        match self.device_wish {
            _ if self.unasked == Unasked::Nothing => assert_eq!(kick, Kick::Suppressed),
            Wish::Nothing | Wish::Any if beyond_a_lap && self.has(Features::EVENT_IDX) => {}
            // The device had those before it went to sleep.
            Wish::Next if self.unasked == Unasked::Before => {}
            Wish::Next => {
                assert_eq!(kick, Kick::Needed, "the device sleeps");
                self.device_wish = self.once_notified();
            }
            Wish::Nothing => assert_eq!(kick, Kick::Suppressed, "the device is at work"),
            Wish::After(_) | Wish::Any => {}
        }
        self.unasked = Unasked::Nothing;
    }

    fn show(&mut self) {
        self.pair.driver.publish();
        self.append_shown();
    }

    fn append_shown(&mut self) {
        if !self.added.is_empty() {
            self.unasked = Unasked::Since;
        }
        let packed = self.has(Features::RING_PACKED);
        let moved = self.added.iter().map(|one| if packed { one.descriptors.into() } else { 1 });
        self.moved += moved.sum::<usize>();
        self.shown.append(&mut self.added);
    }

    /// Flags stay as they are. An event index lies behind, until the ring has gone round: twice round a packed ring is soon.
    fn once_notified(&self) -> Wish {
        match (self.has(Features::EVENT_IDX), self.has(Features::RING_PACKED)) {
            (false, _) => Wish::Next,
            (true, false) => Wish::Nothing,
            (true, true) => Wish::Any,
        }
    }

    fn pop(&mut self) {
        let Some(chain) = self.pair.device.pop().unwrap() else {
            assert!(self.shown.is_empty());
            return;
        };
        let expected = self.shown.pop_front().unwrap();
        if self.has(Features::IN_ORDER) {
            self.order.push_back(expected.token);
        }
        self.popped.push((chain, expected));
        self.check_last();
    }

    fn check_last(&self) {
        let (chain, expected) = self.popped.last().unwrap();
        assert_eq!(chain.readable_len(), expected.readable.len() as u64);
        assert_eq!(chain.writable_len(), u64::from(expected.writable_len));
        let mut content = vec![0; expected.readable.len()];
        chain.reader().read_exact(&mut content).unwrap();
        assert_eq!(content, expected.readable, "token {}", expected.token);
    }

    /// A burst takes all buffers of one piece until there are so many, or one of another kind; with `IN_ORDER`, if it goes on where it has
    /// ended.
    fn pop_burst(&mut self, up_to: usize) {
        let before = self.burst.len();
        let next = self.pair.device.pop_burst(&mut self.burst, up_to).unwrap();
        let goes_on = self.in_burst.back().is_none_or(|last| self.order.back() == Some(&last.token));
        let mut there = self.shown.iter().take_while(|expected| expected.pieces == 1).count();
        there = there.min(up_to.saturating_sub(before));
        if self.has(Features::IN_ORDER) && !goes_on {
            there = 0;
        }
        assert_eq!(self.burst.len() - before, there);
        for single in &self.burst.singles()[before..] {
            let expected = self.shown.pop_front().unwrap();
            self.order.extend(self.pair.features.contains(Features::IN_ORDER).then_some(expected.token));
            let content = self.pair.memory.bytes(single.addr().0, single.len() as usize);
            assert_eq!(single.is_writable(), expected.readable.is_empty());
            if !single.is_writable() {
                assert_eq!(content, expected.readable);
            }
            self.in_burst.push_back(expected);
        }
        let wanted = match self.shown.front() {
            _ if self.burst.len() >= up_to || self.has(Features::IN_ORDER) && !goes_on => Next::Unknown,
            None => Next::Nothing,
            Some(_) => Next::Other,
        };
        assert_eq!(next, wanted);
    }

    fn complete_burst(&mut self, count: usize, eighths: u32) {
        let count = count.min(self.in_burst.len());
        for (single, expected) in self.burst.singles_mut().iter_mut().zip(&mut self.in_burst).take(count) {
            expected.write(eighths);
            self.pair.memory.put(single.addr().0, &expected.written);
            // What is not writable is not written, whatever a device says.
            single.mark_written(if single.is_writable() { expected.written.len() as u32 } else { 7 });
        }
        self.pair.device.complete_burst(&mut self.burst, count).unwrap();
        for _ in 0..count {
            let expected = self.in_burst.pop_front().unwrap();
            self.pass_on(expected);
        }
    }

    fn chain_of(&mut self) {
        let chain = self.pair.device.chain_of(&mut self.burst);
        assert_eq!(chain.is_some(), !self.in_burst.is_empty());
        if let Some(chain) = chain {
            self.popped.push((chain, self.in_burst.pop_front().unwrap()));
            self.check_last();
        }
    }

    fn complete(&mut self, which: usize, eighths: u32) {
        if self.popped.is_empty() {
            return;
        }
        let (chain, mut expected) = self.popped.remove(which % self.popped.len());
        expected.write(eighths);
        chain.writer().write_all(&expected.written).unwrap();
        self.pair.device.complete(chain, expected.written.len() as u32).unwrap();
        self.pass_on(expected);
    }

    fn pass_on(&mut self, expected: Expected) {
        if !self.has(Features::IN_ORDER) {
            self.completed.push_back(expected);
            return;
        }
        self.waiting.push((expected.token, expected));
        while let Some(first) = self.order.front() {
            let Some(at) = self.waiting.iter().position(|(token, _)| token == first) else { break };
            self.completed.push_back(self.waiting.swap_remove(at).1);
            self.order.pop_front();
        }
    }

    fn publish(&mut self) {
        let notify = self.pair.device.publish().unwrap();
        let fresh = self.completed.len() - self.published;
        self.published = self.completed.len();
        if fresh == 0 {
            assert_eq!(notify, Notify::Suppressed);
            return;
        }
        let first = std::mem::replace(&mut self.undecided, false) && self.has(Features::EVENT_IDX);
        let told_nothing = self.driver_wish == Wish::Nothing && self.has(Features::RING_PACKED);
        if first && !told_nothing {
            assert_eq!(notify, Notify::Needed, "a new device end cannot know better");
            self.driver_wish = match self.driver_wish {
                Wish::After(_) if self.has(Features::RING_PACKED) => Wish::Any,
                Wish::After(count) if fresh <= count => Wish::After(count - fresh),
                Wish::Nothing => Wish::Nothing,
                _ => self.once_notified(),
            };
            return;
        }
        match self.driver_wish {
            Wish::Next => assert_eq!(notify, Notify::Needed, "the driver sleeps"),
            Wish::After(count) if fresh > count => {
                assert_eq!(notify, Notify::Needed, "the driver sleeps, and enough has happened");
            }
            Wish::After(count) if notify == Notify::Suppressed => {
                self.driver_wish = Wish::After(count - fresh);
                return;
            }
            // Descriptors are counted in a packed ring, of which a buffer has several.
            Wish::After(_) => assert!(self.has(Features::RING_PACKED)),
            Wish::Nothing => return assert_eq!(notify, Notify::Suppressed, "the driver is at work"),
            Wish::Any => return,
        }
        self.driver_wish = self.once_notified();
    }

    fn get(&mut self) {
        let Some(done) = self.pair.driver.get().unwrap() else {
            assert_eq!(self.published, 0);
            return;
        };
        assert!(self.published > 0, "nothing is seen before it is published");
        self.published -= 1;
        let expected = self.completed.pop_front().unwrap();
        assert_eq!((done.token, done.written as usize), (expected.token, expected.written.len()));
        let shown: Vec<u8> = expected
            .writable
            .iter()
            .flat_map(|piece| self.pair.memory.bytes(piece.addr.0, piece.len as usize))
            .collect();
        assert_eq!(shown[..expected.written.len()], expected.written);
    }

    fn arm(&mut self) {
        let more = self.pair.device.arm().unwrap();
        assert_eq!(more == MoreWork::Pending, !self.shown.is_empty());
        if self.shown.is_empty() && self.unasked == Unasked::Since {
            self.unasked = Unasked::Before;
        }
        self.device_wish = match more {
            MoreWork::None => Wish::Next,
            // The index lies among those that are yet to be asked about.
            MoreWork::Pending if self.unasked == Unasked::Since && self.has(Features::EVENT_IDX) => Wish::Any,
            MoreWork::Pending => self.once_notified(),
        };
    }

    fn disarm(&mut self) {
        self.pair.device.disarm().unwrap();
        // With the event index of a split ring disarming is a wish about the past.
        let hint = self.has(Features::EVENT_IDX) && !self.has(Features::RING_PACKED);
        if !hint {
            self.device_wish = Wish::Nothing;
        }
    }

    fn enable_callback(&mut self) {
        let more = self.pair.driver.enable_callback();
        assert_eq!(more == MoreWork::Pending, self.published != 0);
        self.driver_wish = if more == MoreWork::None { Wish::Next } else { self.once_notified() };
    }

    fn enable_callback_delayed(&mut self) {
        let in_flight = usize::from(self.pair.driver.in_flight());
        let more = self.pair.driver.enable_callback_delayed();
        let after = if self.has(Features::EVENT_IDX) { in_flight * 3 / 4 } else { 0 };
        if self.published > after {
            assert_eq!(more, MoreWork::Pending);
        }
        self.driver_wish = match (more, after) {
            (MoreWork::Pending, _) if self.has(Features::RING_PACKED) && after > 0 => Wish::Any,
            (MoreWork::Pending, _) => self.once_notified(),
            (MoreWork::None, 0) => Wish::Next,
            (MoreWork::None, _) => Wish::After(after - self.published),
        };
    }

    fn disable_callback(&mut self) {
        self.pair.driver.disable_callback();
        self.driver_wish = Wish::Nothing;
    }

    /// With nothing in flight, the position says all there is to say.
    fn move_device(&mut self) {
        let held = self.popped.len() + self.in_burst.len() + self.waiting.len();
        if held > 0 || self.published != self.completed.len() {
            return;
        }
        let position = self.pair.device.position();
        self.pair.device = self.pair.device_at(position);
        assert_eq!(self.pair.device.position(), position);
        self.undecided = true;
    }

    fn reset(&mut self) {
        let waiting = self.waiting.drain(..).map(|(token, _)| token);
        let mut expected: Vec<u64> = waiting.collect();
        for list in [&mut self.added, &mut self.shown, &mut self.completed] {
            expected.extend(list.drain(..).map(|one| one.token));
        }
        self.burst.discard();
        expected.extend(self.in_burst.drain(..).map(|one| one.token));
        for (chain, one) in self.popped.drain(..) {
            chain.discard();
            expected.push(one.token);
        }
        let mut tokens = self.pair.driver.detach_unused();
        tokens.sort_unstable();
        expected.sort_unstable();
        assert_eq!(tokens, expected);
        self.pair.driver.reset();
        self.pair.device = self.pair.device_at(QueuePosition::START);
        self.order.clear();
        (self.unasked, self.moved) = (Unasked::Nothing, 0);
        (self.published, self.undecided) = (0, true);
        (self.device_wish, self.driver_wish) = (Wish::Next, Wish::Next);
    }

    /// Everything comes back.
    fn finish(mut self) {
        self.kick();
        while !self.shown.is_empty() {
            self.pop();
        }
        while !self.in_burst.is_empty() {
            self.complete_burst(3, 8);
        }
        while !self.popped.is_empty() {
            self.complete(0, 8);
        }
        self.publish();
        while self.published != 0 {
            self.get();
        }
        self.get();
        assert_eq!(self.pair.driver.free_descriptors(), self.size);
        assert_eq!((self.pair.driver.in_flight(), self.pair.device.in_flight()), (0, 0));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.burst.discard();
        self.popped.drain(..).for_each(|(chain, _)| chain.discard());
    }
}

/// Any size will do for a packed ring, powers of two for a split one.
fn fitting(size: u16, features: Features) -> u16 {
    if features.contains(Features::RING_PACKED) { size } else { size.next_power_of_two() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_returns_every_buffer_once_and_loses_no_notification(
        features in proptest::sample::select(every_feature_set()),
        size in proptest::sample::select(vec![1u16, 2, 3, 4, 5, 6, 7, 8, 64]),
        steps in proptest::collection::vec(step(), 1..300),
    ) {
        let mut world = World::new(fitting(size, features), features);
        steps.iter().for_each(|step| world.do_step(step));
        world.finish();
    }
}

/// The same steps by a generator of its own, until so many requests have gone through: past the wrap of 16-bit indices, and
/// thousands of times round the ring.
fn run_long(features: Features, size: u16, requests: u64) {
    let mut world = World::new(fitting(size, features), features);
    let mut random = 1u64;
    while world.next_token < requests {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let detail = (random >> 40) as usize;
        let step = match (random >> 33) % 40 {
            0..8 => Step::Add { readable: detail % 3, writable: detail / 3 % 3 },
            8..12 => Step::Kick,
            12..21 => Step::Get,
            21..25 => Step::Pop,
            25..28 => Step::PopBurst(1 + detail % 4),
            28..31 => Step::CompleteBurst { count: detail % 5, eighths: 8 - (detail / 8 % 2) as u32 },
            31..36 => Step::Complete { which: detail, eighths: (detail % 9) as u32 },
            36 => Step::Publish,
            37 => Step::Arm,
            38 => {
                if detail.is_multiple_of(3) {
                    Step::EnableCallbackDelayed
                } else {
                    Step::EnableCallback
                }
            }
            _ => match detail % 4 {
                0 => Step::DisableCallback,
                1 => Step::Disarm,
                _ => Step::Move,
            },
        };
        world.do_step(&step);
    }
    world.finish();
}

#[test]
fn seventy_thousand_requests_go_past_the_wrap_of_the_index() {
    run_long(Features::EVENT_IDX | Features::INDIRECT_DESC, 8, 70_000);
}

#[test]
fn seventy_thousand_requests_go_past_the_wrap_of_the_index_in_order() {
    run_long(Features::EVENT_IDX | Features::INDIRECT_DESC | Features::IN_ORDER, 8, 70_000);
}

#[test]
fn packed_rings_of_odd_sizes_run_for_thousands_of_laps() {
    for size in [3, 5, 7] {
        run_long(Features::RING_PACKED | Features::EVENT_IDX, size, 10_000);
        run_long(Features::RING_PACKED | Features::EVENT_IDX | Features::IN_ORDER, size, 10_000);
    }
}
