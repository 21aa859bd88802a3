//! Rings, tables and buffers that are reached by messages only, and what happens when the other side goes away.

use crate::rig::patchwork::{Patchwork, Place};
use crate::rig::raw::{Bytes, every_feature_set};
use std::sync::Arc;
use vioduct_spec::Features;
use vioduct_virtqueue::{
    Access, Buffer, BufferError, DriverQueue, IoAddr, Kick, Memory, MoreWork, Notify, Queue, QueueError,
    QueuePosition, RingFormat,
};

const BASE: u64 = 0x10_0000;
const TABLES: u64 = BASE + 0x1_0000;
const DATA: u64 = BASE + 0x2_0000;

/// Both ends of a queue: the driver end in its own process, the device end over what the places say of ring, tables and data.
fn ends(size: u16, features: Features, places: [Place; 3]) -> (Arc<Patchwork>, DriverQueue<u64>, Queue) {
    let memory = Arc::new(
        Patchwork::default()
            .with(BASE, 0x1_0000, Access::ReadWrite, places[0])
            .with(TABLES, 0x1_0000, Access::Read, places[1])
            .with(DATA, 0x1_0000, Access::ReadWrite, places[2]),
    );
    let format = RingFormat::of(features);
    let ring = memory.ring_memory(BASE, format, size);
    let driver = DriverQueue::new(ring, Some(memory.table_memory(TABLES, size)), features).unwrap();
    let shared: Arc<dyn Memory> = memory.clone();
    let device = Queue::new(shared, driver.layout(), features, QueuePosition::START).unwrap();
    (memory, driver, device)
}

fn buffer(offset: u64, len: u32) -> Buffer {
    Buffer { addr: IoAddr(DATA + offset), len }
}

#[test]
fn row10_the_whole_round_trip_works_by_messages() {
    let kinds = [Place::Mapped, Place::Remote];
    for features in every_feature_set() {
        for places in
            kinds.into_iter().flat_map(|a| kinds.into_iter().flat_map(move |b| kinds.map(|c| [a, b, c])))
        {
            let (memory, mut driver, mut device) = ends(4, features, places);
            for round in 0..25u64 {
                assert_eq!(device.arm().unwrap(), MoreWork::None);
                assert_eq!(driver.enable_callback(), MoreWork::None);
                memory.poke(DATA, &round.to_le_bytes());
                let (request, reply) = ([buffer(0, 3), buffer(3, 5)], [buffer(8, 2), buffer(10, 6)]);
                driver.add(&request, &reply, round).unwrap();
                assert_eq!(driver.kick_prepare(), Kick::Needed, "{features} {places:?}");
                device.disarm().unwrap();
                let chain = device.pop().unwrap().unwrap();
                assert_eq!(chain.reader().read_u64(), Ok(round));
                assert_eq!(chain.readable()[0].host().is_some(), places[2] == Place::Mapped);
                chain.writer().write_u64(!round).unwrap();
                device.complete(chain, 8).unwrap();
                assert_eq!(device.publish().unwrap(), Notify::Needed);
                let done = driver.get().unwrap().unwrap();
                assert_eq!((done.token, done.written), (round, 8));
                assert_eq!(memory.peek(DATA + 8, 8), (!round).to_le_bytes());
                driver.disable_callback();
            }
            let logged = memory.logged();
            assert!(logged.contains(&(DATA + 8, 2)) && logged.contains(&(DATA + 10, 6)), "{logged:x?}");
            assert!(logged.iter().any(|(at, _)| *at == driver.layout().device_area.0));
        }
    }
}

#[test]
fn row10_batches_and_early_completions_work_by_messages() {
    for features in every_feature_set() {
        let (_memory, mut driver, mut device) = ends(8, features, [Place::Remote; 3]);
        for round in 0..20u64 {
            for token in 0..4 {
                driver.add(&[buffer(0, 4)], &[buffer(8, 4)], 4 * round + token).unwrap();
            }
            let _ = driver.kick_prepare();
            let mut chains: Vec<_> = std::iter::from_fn(|| device.pop().unwrap()).collect();
            assert_eq!(chains.len(), 4);
            for number in [2usize, 2, 0, 0] {
                let chain = chains.remove(number.min(chains.len() - 1));
                chain.writer().write_u32(1).unwrap();
                device.complete(chain, 4).unwrap();
            }
            assert_eq!(driver.get(), Ok(None), "nothing is published yet");
            let _ = device.publish().unwrap();
            let mut tokens: Vec<u64> =
                std::iter::from_fn(|| driver.get().unwrap()).map(|done| done.token).collect();
            if !features.contains(Features::IN_ORDER) {
                tokens.sort_unstable();
            }
            assert_eq!(tokens, (4 * round..4 * round + 4).collect::<Vec<_>>(), "{features}");
        }
    }
}

#[test]
fn row10_a_peer_that_goes_away_stops_the_queue_at_the_next_access() {
    type Operation = (&'static str, fn(&mut Queue) -> Result<(), QueueError>);
    let operations: [Operation; 5] = [
        ("pop", |device| device.pop().map(|chain| assert!(chain.is_none()))),
        ("arm", |device| device.arm().map(|_| ())),
        ("disarm", Queue::disarm),
        ("poll", |device| device.poll().map(|_| ())),
        ("publish", |device| device.publish().map(|_| ())),
    ];
    for features in [Features::NONE, Features::RING_PACKED] {
        for (name, operation) in operations {
            let (memory, mut driver, mut device) = ends(4, features, [Place::Remote; 3]);
            driver.add(&[buffer(0, 4)], &[buffer(8, 4)], 1).unwrap();
            let _ = driver.kick_prepare();
            let chain = device.pop().unwrap().unwrap();
            device.complete(chain, 0).unwrap();
            memory.take_away();
            let fault = operation(&mut device).unwrap_err();
            assert!(matches!(fault, QueueError::Memory(_)), "{features} {name}: {fault}");
            // Its return does not bring the queue back.
            memory.give_back();
            let asked = memory.asked();
            assert_eq!(device.fault(), Some(fault));
            assert_eq!(operation(&mut device), Err(fault), "{features} {name}");
            assert_eq!(memory.asked(), asked);
        }
    }
}

#[test]
fn row10_data_that_goes_away_fails_the_request_alone() {
    for features in [Features::NONE, Features::RING_PACKED] {
        let (memory, mut driver, mut device) =
            ends(4, features, [Place::Mapped, Place::Mapped, Place::Remote]);
        driver.add(&[buffer(0, 4)], &[buffer(8, 4)], 1).unwrap();
        let _ = driver.kick_prepare();
        let chain = device.pop().unwrap().unwrap();
        memory.take_away();
        assert!(matches!(chain.reader().read_u32(), Err(BufferError::Memory(_))));
        let mut writer = chain.writer();
        assert!(matches!(writer.write_u32(7), Err(BufferError::Memory(_))));
        memory.give_back();
        device.complete(chain, 4).unwrap();
        let _ = device.publish().unwrap();
        let done = driver.get().unwrap().unwrap();
        assert_eq!((done.token, done.written), (1, 0), "nothing is said to be written that was not");
    }
}

#[test]
fn row10_a_buffer_half_mapped_and_half_remote_is_one_buffer() {
    for features in [Features::NONE, Features::RING_PACKED] {
        for places in [[Place::Mapped, Place::Remote], [Place::Remote, Place::Mapped]] {
            let end = DATA + 0x1_0000;
            let memory = Arc::new(
                Patchwork::default()
                    .with(BASE, 0x1_0000, Access::ReadWrite, Place::Mapped)
                    .with(DATA, 0x1_0000, Access::ReadWrite, places[0])
                    .with(end, 0x1000, Access::ReadWrite, places[1]),
            );
            let ring = memory.ring_memory(BASE, RingFormat::of(features), 4);
            let mut driver = DriverQueue::<u64>::new(ring, None, features).unwrap();
            let shared: Arc<dyn Memory> = memory.clone();
            let mut device = Queue::new(shared, driver.layout(), features, QueuePosition::START).unwrap();
            memory.poke(end - 4, b"12345678");
            let across = Buffer { addr: IoAddr(end - 4), len: 8 };
            driver.add(&[across], &[across], 0).unwrap();
            let _ = driver.kick_prepare();
            let chain = device.pop().unwrap().unwrap();
            assert_eq!(chain.reader().read_array(), Ok(*b"12345678"));
            chain.writer().write_all(b"abcdefgh").unwrap();
            assert_eq!(memory.peek(end - 4, 8), b"abcdefgh");
            device.complete(chain, 8).unwrap();
        }
    }
}
