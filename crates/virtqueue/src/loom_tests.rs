//! Both ends of a ring in two threads, under every interleaving and every stale read that the memory model allows.
//!
//! The ends are the real ones, over an [`Area`] of `loom` atomics in which a descriptor is four cells, so that nothing hangs on
//! its two halves being written whole. Each model that stands on a fence or on a release store runs once more with that
//! taken away, and must then fail: that is why it is there.
//!
//! `unsafe` because the device end is bound to a `Memory`; no model touches a byte of it.
#![allow(unsafe_code)]

use crate::area::{Area, Areas, Descriptor};
use crate::buffers::Buffers;
use crate::chain::Body;
use crate::device::{MoreWork, Notify, Options, Used};
use crate::driver::{Buffer, Kick};
use crate::layout::{QueuePosition, RingFormat};
use crate::memory::{Access, IoAddr, Memory, MemoryFault, Region};
use crate::slots::Returned;
use crate::{packed, split};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, fence};
use loom::thread;
use vioduct_spec::ring::packed::{EVENT_DESC, EVENT_FLAGS};
use vioduct_spec::ring::split::{
    AVAIL_FLAGS, AVAIL_IDX, AVAIL_RING, USED_ELEMENT_SIZE, USED_FLAGS, USED_IDX, USED_RING, avail_event,
    used_event,
};

/// What is taken away from an end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// No fence between its store and its next load.
    NoFence,
    /// Release stores that are relaxed.
    RelaxedStores,
    /// Acquire loads that are relaxed.
    RelaxedLoads,
    /// Each buffer of a batch published by itself.
    NoBatch,
}

/// The fields of one area.
#[derive(Default)]
struct Fields {
    descriptors: Vec<(AtomicU64, AtomicU32, AtomicU16, AtomicU16)>,
    words: BTreeMap<usize, AtomicU16>,
    pairs: BTreeMap<usize, (AtomicU32, AtomicU32)>,
}

impl Fields {
    fn of_descriptors(size: u16) -> Self {
        let descriptors = (0..size).map(|_| Default::default()).collect();
        Self { descriptors, ..Self::default() }
    }

    fn of_words(offsets: impl IntoIterator<Item = usize>) -> Self {
        let words = offsets.into_iter().map(|at| (at, AtomicU16::new(0))).collect();
        Self { words, ..Self::default() }
    }

    fn with_pairs(self, offsets: impl Iterator<Item = usize>) -> Self {
        Self { pairs: offsets.map(|at| (at, Default::default())).collect(), ..self }
    }
}

/// An area as one end sees it.
struct Modelled {
    fields: Arc<Fields>,
    flaw: Flaw,
}

impl Modelled {
    fn store_order(&self, order: Ordering) -> Ordering {
        if self.flaw == Flaw::RelaxedStores { Ordering::Relaxed } else { order }
    }

    fn load_order(&self, order: Ordering) -> Ordering {
        if self.flaw == Flaw::RelaxedLoads { Ordering::Relaxed } else { order }
    }

    fn word(&self, at: usize) -> Result<&AtomicU16, MemoryFault> {
        self.fields.words.get(&at).ok_or(MemoryFault { at: IoAddr(at as u64), len: 2 })
    }

    fn pair(&self, at: usize) -> Result<&(AtomicU32, AtomicU32), MemoryFault> {
        self.fields.pairs.get(&at).ok_or(MemoryFault { at: IoAddr(at as u64), len: 8 })
    }
}

impl Area for Modelled {
    fn load_u16(&self, at: usize, order: Ordering) -> Result<u16, MemoryFault> {
        Ok(self.word(at)?.load(self.load_order(order)))
    }

    fn store_u16(&self, at: usize, value: u16, order: Ordering) -> Result<(), MemoryFault> {
        self.word(at)?.store(value, self.store_order(order));
        Ok(())
    }

    fn store_u32_pair(&self, at: usize, low: u32, high: u32) -> Result<(), MemoryFault> {
        let pair = self.pair(at)?;
        pair.0.store(low, Ordering::Relaxed);
        pair.1.store(high, Ordering::Relaxed);
        Ok(())
    }

    fn load_u32_pair(&self, at: usize) -> Result<(u32, u32), MemoryFault> {
        let pair = self.pair(at)?;
        Ok((pair.0.load(Ordering::Relaxed), pair.1.load(Ordering::Relaxed)))
    }

    fn load_descriptor(&self, index: usize, order: Ordering) -> Result<Descriptor, MemoryFault> {
        let (addr, len, third, fourth) = &self.fields.descriptors[index];
        let fourth = fourth.load(self.load_order(order));
        let (len, third) = (len.load(Ordering::Relaxed), third.load(Ordering::Relaxed));
        Ok(Descriptor::new(addr.load(Ordering::Relaxed), len, third, fourth))
    }

    fn store_descriptor(
        &self,
        index: usize,
        descriptor: Descriptor,
        order: Ordering,
    ) -> Result<(), MemoryFault> {
        self.fields.descriptors[index].0.store(descriptor.addr, Ordering::Relaxed);
        self.store_descriptor_tail(index, descriptor, order)
    }

    fn store_descriptor_tail(
        &self,
        index: usize,
        descriptor: Descriptor,
        order: Ordering,
    ) -> Result<(), MemoryFault> {
        let (_, len, third, fourth) = &self.fields.descriptors[index];
        len.store(descriptor.len(), Ordering::Relaxed);
        third.store(descriptor.third(), Ordering::Relaxed);
        fourth.store(descriptor.fourth(), self.store_order(order));
        Ok(())
    }

    fn fetch_to_read(&self, _: usize) {}

    fn fetch_to_write(&self, _: usize) {}

    fn fence(&self) {
        if self.flaw != Flaw::NoFence {
            fence(Ordering::SeqCst);
        }
    }
}

/// Memory that holds every buffer of the models, none of which is read or written.
struct Untouched;

static UNTOUCHED: [u8; 64] = [0; 64];

// SAFETY: the region is a static array; it is offered as writable, but nothing in these tests writes, or reads, through it.
unsafe impl Memory for Untouched {
    fn read(&self, at: IoAddr, out: &mut [u8]) -> Result<(), MemoryFault> {
        Err(MemoryFault { at, len: out.len() as u64 })
    }

    fn write(&self, at: IoAddr, data: &[u8]) -> Result<(), MemoryFault> {
        Err(MemoryFault { at, len: data.len() as u64 })
    }

    fn region(&self, at: IoAddr) -> Option<Region> {
        let host = NonNull::from(&UNTOUCHED).cast();
        let region = Region { at: IoAddr(0), len: 64, host, access: Access::ReadWrite };
        region.translate(at, 1).map(|_| region)
    }
}

enum DriverRing {
    Split(split::driver::Ring<Modelled, usize>),
    Packed(packed::driver::Ring<Modelled, usize>),
}

enum DeviceRing {
    Split(split::device::Ring<Modelled>),
    Packed(packed::device::Ring<Modelled>),
}

/// The driver end, by the same names as [`crate::DriverQueue`].
struct Driver(DriverRing);

/// The device end, by the same names as [`crate::Queue`].
struct Device {
    ring: DeviceRing,
    buffers: Buffers,
}

macro_rules! on_ring {
    ($kind:ident, $ring:expr, $name:ident => $call:expr) => {
        match $ring {
            $kind::Split($name) => $call.unwrap(),
            $kind::Packed($name) => $call.unwrap(),
        }
    };
}

/// Buffer `number` of a model: a readable and a writable piece, unlike those of every other buffer.
fn pieces(number: usize) -> (Buffer, Buffer) {
    let number = number as u32;
    let piece = |addr: u32, len| Buffer { addr: IoAddr(u64::from(addr)), len };
    (piece(1 + number, 11 + number), piece(21 + number, 31 + number))
}

/// What the device says it wrote into buffer `number`.
fn written(number: usize) -> u32 {
    21 + number as u32
}

impl Driver {
    fn add(&mut self, number: usize) {
        let (readable, writable) = pieces(number);
        on_ring!(DriverRing, &mut self.0, ring => ring.add(&[readable], &[writable], writable.len, number));
    }

    fn kick_prepare(&mut self) -> Kick {
        on_ring!(DriverRing, &mut self.0, ring => ring.kick_prepare())
    }

    fn get(&mut self) -> Option<Returned<usize>> {
        on_ring!(DriverRing, &mut self.0, ring => ring.get())
    }

    fn disable_callback(&mut self) {
        on_ring!(DriverRing, &mut self.0, ring => ring.disable_callback());
    }

    fn enable_callback(&mut self, after: u16) -> MoreWork {
        on_ring!(DriverRing, &mut self.0, ring => ring.enable_callback(after))
    }
}

impl Device {
    fn pop(&mut self) -> Option<Box<Body>> {
        on_ring!(DeviceRing, &mut self.ring, ring => ring.pop(&mut self.buffers))
    }

    fn complete(&mut self, body: &Body, written: u32) {
        self.buffers.give_back(body).unwrap();
        let used = Used { id: body.id, written, buffers: 1, descriptors: body.descriptors };
        on_ring!(DeviceRing, &mut self.ring, ring => ring.push_used(used));
    }

    fn publish(&mut self) -> Notify {
        on_ring!(DeviceRing, &mut self.ring, ring => ring.publish())
    }

    fn arm(&mut self) -> MoreWork {
        on_ring!(DeviceRing, &mut self.ring, ring => ring.arm())
    }

    fn disarm(&mut self) {
        on_ring!(DeviceRing, &mut self.ring, ring => ring.disarm());
    }
}

/// What a model varies.
#[derive(Clone, Copy)]
struct Setup {
    format: RingFormat,
    event_index: bool,
    driver: Flaw,
    device: Flaw,
}

impl Setup {
    const fn sound(format: RingFormat) -> Self {
        Self { format, event_index: false, driver: Flaw::None, device: Flaw::None }
    }

    const fn with_event_index(self) -> Self {
        Self { event_index: true, ..self }
    }

    const fn flawed_driver(self, driver: Flaw) -> Self {
        Self { driver, ..self }
    }

    const fn flawed_device(self, device: Flaw) -> Self {
        Self { device, ..self }
    }

    fn fields(self, size: u16) -> [Arc<Fields>; 3] {
        let entries = 0..usize::from(size);
        let (driver, device) = match self.format {
            RingFormat::Split => {
                let available = entries.clone().map(|entry| AVAIL_RING + 2 * entry);
                let used = entries.map(|entry| USED_RING + USED_ELEMENT_SIZE * entry);
                (
                    Fields::of_words([AVAIL_FLAGS, AVAIL_IDX, used_event(size)].into_iter().chain(available)),
                    Fields::of_words([USED_FLAGS, USED_IDX, avail_event(size)]).with_pairs(used),
                )
            }
            RingFormat::Packed => {
                let event = || Fields::of_words([EVENT_DESC, EVENT_FLAGS]);
                (event(), event())
            }
        };
        [Fields::of_descriptors(size), driver, device].map(Arc::new)
    }

    /// Both ends of a queue of `size` descriptors, two of which make a buffer.
    fn ends(self, size: u16) -> (Driver, Device) {
        let fields = self.fields(size);
        let areas = |flaw| {
            let [descriptors, driver, device] =
                fields.each_ref().map(|fields| Modelled { fields: Arc::clone(fields), flaw });
            Areas { descriptors, driver, device }
        };
        let options = Options { indirect: false, event_index: self.event_index, in_order: false };
        let (front, back, start) = (areas(self.driver), areas(self.device), QueuePosition::START);
        let buffers = Buffers::new(Arc::new(Untouched), size);
        let (driver, ring) = match self.format {
            RingFormat::Split => (
                DriverRing::Split(split::driver::Ring::new(front, size, options)),
                DeviceRing::Split(split::device::Ring::new(back, size, options, start).unwrap()),
            ),
            RingFormat::Packed => (
                DriverRing::Packed(packed::driver::Ring::new(front, size, options)),
                DeviceRing::Packed(packed::device::Ring::new(back, size, options, start).unwrap()),
            ),
        };
        (Driver(driver), Device { ring, buffers })
    }
}

/// Runs a model under every interleaving of a few switches where a thread could have gone on. `LOOM_MAX_PREEMPTIONS=5` takes a
/// minute for them all.
fn explore(model: impl Fn() + Sync + Send + 'static) {
    const PREEMPTIONS: usize = 3;
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    builder.check(model);
}

/// Two buffers, each published by itself, while the device drains, asks to be notified, looks again, and sleeps if there is
/// nothing: then the first buffer that it has not seen was published with the answer that it must be notified.
fn no_kick_is_lost(setup: Setup) {
    explore(move || {
        let (mut driver, mut device) = setup.ends(4);
        device.disarm();
        let adding = thread::spawn(move || {
            [0, 1].map(|number| {
                driver.add(number);
                driver.kick_prepare()
            })
        });
        let mut seen = 0;
        loop {
            while device.pop().is_some() {
                seen += 1;
            }
            if device.arm() == MoreWork::None {
                break;
            }
            device.disarm();
        }
        let kicks = adding.join().unwrap();
        assert!(seen == 2 || kicks[seen] == Kick::Needed, "lost kick");
    });
}

/// The same in the other direction.
fn no_interrupt_is_lost(setup: Setup) {
    explore(move || {
        let (got, notifies) = complete_and_sleep(setup, |_| 0);
        assert!(got == 2 || notifies[got] == Notify::Needed, "lost interrupt");
    });
}

/// The same when the driver asks for an interrupt only once most of what is in flight has been used.
fn no_late_interrupt_is_lost(setup: Setup) {
    explore(move || {
        let (got, notifies) = complete_and_sleep(setup, |in_flight| in_flight * 3 / 4);
        assert!(got == 2 || notifies[got..].contains(&Notify::Needed), "lost interrupt");
    });
}

/// Two buffers, each completed and published by itself, while the driver drains, asks to be notified `after` more than the
/// next, looks again, and sleeps if there is nothing: how many it got, and the answers to the publications.
fn complete_and_sleep(setup: Setup, after: fn(u16) -> u16) -> (usize, [Notify; 2]) {
    let (mut driver, mut device) = setup.ends(4);
    driver.disable_callback();
    driver.add(0);
    driver.add(1);
    let _ = driver.kick_prepare();
    let bodies = [0, 1].map(|_| device.pop().expect("published"));
    let completing = thread::spawn(move || {
        bodies.map(|body| {
            device.complete(&body, 0);
            device.publish()
        })
    });
    let mut got = 0;
    loop {
        while driver.get().is_some() {
            got += 1;
        }
        if driver.enable_callback(after(2 - got as u16)) == MoreWork::None {
            break;
        }
        driver.disable_callback();
    }
    (got, completing.join().unwrap())
}

/// A byte of each of two buffers: `loom` fails a model in which an access is not ordered with one of the other side.
type Data = Arc<[UnsafeCell<usize>; 2]>;

// `loom` runs its threads one at a time, in one thread of the system.
#[allow(clippy::arc_with_non_send_sync)]
fn data() -> Data {
    Arc::new([UnsafeCell::new(0), UnsafeCell::new(0)])
}

fn put(data: &Data, number: usize, value: usize) {
    // SAFETY: nobody else has the pointer, or `loom` fails the model.
    data[number].with_mut(|byte| unsafe { *byte = value });
}

fn take(data: &Data, number: usize) -> usize {
    // SAFETY: as above.
    data[number].with(|byte| unsafe { *byte })
}

fn assert_intact(body: &Body, number: usize) {
    let (readable, writable) = pieces(number);
    let found: Vec<Buffer> =
        body.segments.iter().map(|piece| Buffer { addr: piece.addr(), len: piece.len() }).collect();
    assert_eq!(found, [readable, writable], "torn buffer");
    assert_eq!(body.readable, 1, "torn buffer");
}

fn assert_returned(returned: &Returned<usize>, number: usize) {
    assert_eq!((returned.token, returned.written), (number, written(number)), "torn completion");
}

/// Two buffers one after the other through a ring that holds only one at a time, so that the second takes the places of the
/// first: each side, once it sees the other's index or flags, sees the descriptors and the data that they speak of.
fn what_is_seen_is_whole(setup: Setup) {
    explore(move || {
        let (mut driver, mut device) = setup.ends(2);
        let (requests, replies) = (data(), data());
        let (asked, answered) = (Arc::clone(&requests), Arc::clone(&replies));
        let serving = thread::spawn(move || {
            for number in 0..2 {
                let body = loop {
                    if let Some(body) = device.pop() {
                        break body;
                    }
                    thread::yield_now();
                };
                assert_eq!(take(&asked, number), 100 + number);
                assert_intact(&body, number);
                put(&answered, number, 200 + number);
                device.complete(&body, written(number));
                let _ = device.publish();
            }
        });
        for number in 0..2 {
            put(&requests, number, 100 + number);
            driver.add(number);
            let _ = driver.kick_prepare();
            let returned = loop {
                if let Some(returned) = driver.get() {
                    break returned;
                }
                thread::yield_now();
            };
            assert_eq!(take(&replies, number), 200 + number);
            assert_returned(&returned, number);
        }
        serving.join().unwrap();
    });
}

/// Two buffers published together: a device that sees the first sees the second, both whole.
fn a_batch_is_available_at_once(setup: Setup) {
    explore(move || {
        let (mut driver, mut device) = setup.ends(4);
        let adding = thread::spawn(move || {
            for number in 0..2 {
                driver.add(number);
                if number == 1 || setup.driver == Flaw::NoBatch {
                    let _ = driver.kick_prepare();
                }
            }
        });
        if let Some(first) = device.pop() {
            assert_intact(&first, 0);
            let second = device.pop().expect("half a batch");
            assert_intact(&second, 1);
        }
        adding.join().unwrap();
    });
}

/// Two completions published together: a driver that sees the first sees the second, both whole.
fn a_batch_is_used_at_once(setup: Setup) {
    explore(move || {
        let (mut driver, mut device) = setup.ends(4);
        driver.add(0);
        driver.add(1);
        let _ = driver.kick_prepare();
        let bodies = [0, 1].map(|_| device.pop().expect("published"));
        let completing = thread::spawn(move || {
            for (number, body) in bodies.iter().enumerate() {
                device.complete(body, written(number));
                if number == 1 || setup.device == Flaw::NoBatch {
                    let _ = device.publish();
                }
            }
        });
        if let Some(first) = driver.get() {
            assert_returned(&first, 0);
            let second = driver.get().expect("half a batch");
            assert_returned(&second, 1);
        }
        completing.join().unwrap();
    });
}

/// Every model for one layout; then each again with what it stands on taken away.
macro_rules! models {
    ($layout:ident, $format:expr) => {
        mod $layout {
            use super::*;

            const SOUND: Setup = Setup::sound($format);
            const EVENT: Setup = SOUND.with_event_index();

            #[test]
            fn no_kick_is_lost_by_flags() {
                no_kick_is_lost(SOUND);
            }

            #[test]
            fn no_interrupt_is_lost_by_flags() {
                no_interrupt_is_lost(SOUND);
            }

            #[test]
            #[should_panic(expected = "lost kick")]
            fn a_kick_is_lost_by_flags_without_the_drivers_fence() {
                no_kick_is_lost(SOUND.flawed_driver(Flaw::NoFence));
            }

            #[test]
            #[should_panic(expected = "lost kick")]
            fn a_kick_is_lost_by_flags_without_the_devices_fence() {
                no_kick_is_lost(SOUND.flawed_device(Flaw::NoFence));
            }

            #[test]
            #[should_panic(expected = "lost interrupt")]
            fn an_interrupt_is_lost_by_flags_without_the_drivers_fence() {
                no_interrupt_is_lost(SOUND.flawed_driver(Flaw::NoFence));
            }

            #[test]
            #[should_panic(expected = "lost interrupt")]
            fn an_interrupt_is_lost_by_flags_without_the_devices_fence() {
                no_interrupt_is_lost(SOUND.flawed_device(Flaw::NoFence));
            }

            #[test]
            fn no_kick_is_lost_by_event_index() {
                no_kick_is_lost(EVENT);
            }

            #[test]
            fn no_interrupt_is_lost_by_event_index() {
                no_interrupt_is_lost(EVENT);
            }

            #[test]
            #[should_panic(expected = "lost kick")]
            fn a_kick_is_lost_by_event_index_without_the_drivers_fence() {
                no_kick_is_lost(EVENT.flawed_driver(Flaw::NoFence));
            }

            #[test]
            #[should_panic(expected = "lost kick")]
            fn a_kick_is_lost_by_event_index_without_the_devices_fence() {
                no_kick_is_lost(EVENT.flawed_device(Flaw::NoFence));
            }

            #[test]
            #[should_panic(expected = "lost interrupt")]
            fn an_interrupt_is_lost_by_event_index_without_the_drivers_fence() {
                no_interrupt_is_lost(EVENT.flawed_driver(Flaw::NoFence));
            }

            #[test]
            #[should_panic(expected = "lost interrupt")]
            fn an_interrupt_is_lost_by_event_index_without_the_devices_fence() {
                no_interrupt_is_lost(EVENT.flawed_device(Flaw::NoFence));
            }

            #[test]
            fn no_late_interrupt_is_lost() {
                super::no_late_interrupt_is_lost(EVENT);
            }

            #[test]
            #[should_panic(expected = "lost interrupt")]
            fn a_late_interrupt_is_lost_without_the_drivers_fence() {
                super::no_late_interrupt_is_lost(EVENT.flawed_driver(Flaw::NoFence));
            }

            #[test]
            #[should_panic(expected = "lost interrupt")]
            fn a_late_interrupt_is_lost_without_the_devices_fence() {
                super::no_late_interrupt_is_lost(EVENT.flawed_device(Flaw::NoFence));
            }

            #[test]
            fn what_is_seen_is_whole() {
                super::what_is_seen_is_whole(SOUND);
            }

            #[test]
            #[should_panic(expected = "Causality violation")]
            fn data_are_not_seen_without_the_drivers_release_stores() {
                super::what_is_seen_is_whole(SOUND.flawed_driver(Flaw::RelaxedStores));
            }

            #[test]
            #[should_panic(expected = "Causality violation")]
            fn data_are_not_seen_without_the_drivers_acquire_loads() {
                super::what_is_seen_is_whole(SOUND.flawed_driver(Flaw::RelaxedLoads));
            }

            #[test]
            #[should_panic(expected = "Causality violation")]
            fn data_are_not_seen_without_the_devices_release_stores() {
                super::what_is_seen_is_whole(SOUND.flawed_device(Flaw::RelaxedStores));
            }

            #[test]
            #[should_panic(expected = "Causality violation")]
            fn data_are_not_seen_without_the_devices_acquire_loads() {
                super::what_is_seen_is_whole(SOUND.flawed_device(Flaw::RelaxedLoads));
            }

            #[test]
            fn a_batch_is_available_at_once() {
                super::a_batch_is_available_at_once(SOUND);
            }

            #[test]
            fn a_batch_is_used_at_once() {
                super::a_batch_is_used_at_once(SOUND);
            }

            #[test]
            #[should_panic(expected = "torn")]
            fn a_batch_is_torn_without_the_drivers_release_store() {
                super::a_batch_is_available_at_once(SOUND.flawed_driver(Flaw::RelaxedStores));
            }

            #[test]
            #[should_panic(expected = "torn")]
            fn a_batch_is_torn_without_the_devices_acquire_load() {
                super::a_batch_is_available_at_once(SOUND.flawed_device(Flaw::RelaxedLoads));
            }

            #[test]
            #[should_panic(expected = "torn")]
            fn a_completed_batch_is_torn_without_the_devices_release_store() {
                super::a_batch_is_used_at_once(SOUND.flawed_device(Flaw::RelaxedStores));
            }

            #[test]
            #[should_panic(expected = "torn")]
            fn a_completed_batch_is_torn_without_the_drivers_acquire_load() {
                super::a_batch_is_used_at_once(SOUND.flawed_driver(Flaw::RelaxedLoads));
            }

            #[test]
            #[should_panic(expected = "half a batch")]
            fn half_a_batch_is_available_if_published_one_by_one() {
                super::a_batch_is_available_at_once(SOUND.flawed_driver(Flaw::NoBatch));
            }

            #[test]
            #[should_panic(expected = "half a batch")]
            fn half_a_batch_is_used_if_published_one_by_one() {
                super::a_batch_is_used_at_once(SOUND.flawed_device(Flaw::NoBatch));
            }
        }
    };
}

models!(split_ring, RingFormat::Split);
models!(packed_ring, RingFormat::Packed);
