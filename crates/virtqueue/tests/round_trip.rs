//! Requests from one end to the other and back, for every layout and option.

mod rig;

use rig::Pair;
use vioduct_spec::Features;
use vioduct_virtqueue::{Kick, MoreWork, Notify};

fn every_feature_set() -> impl Iterator<Item = Features> {
    let options = [Features::RING_PACKED, Features::INDIRECT_DESC, Features::EVENT_IDX, Features::IN_ORDER];
    (0..1u32 << options.len()).map(move |mask| {
        let chosen = options.iter().enumerate().filter(|(bit, _)| mask & 1 << bit != 0);
        chosen.fold(Features::NONE, |set, (_, option)| set | *option)
    })
}

#[test]
fn a_request_split_over_descriptors_comes_back_with_its_reply() {
    for features in every_feature_set() {
        for size in [4, 8, 256] {
            let mut pair = Pair::new(size, features);
            let (a, b) = (pair.alloc(3), pair.alloc(5));
            let (c, d) = (pair.alloc(1), pair.alloc(7));
            for round in 0..1000u64 {
                let request = (round * 0x0101_0101).to_le_bytes();
                pair.memory.put(a.addr.0, &request[..3]);
                pair.memory.put(b.addr.0, &request[3..]);
                pair.driver.add(&[a, b], &[c, d], round).unwrap();
                let _ = pair.driver.kick_prepare();
                let chain = pair.device.pop().unwrap().expect("published");
                let value = chain.reader().read_u64().unwrap();
                assert_eq!(value, round * 0x0101_0101, "{features}, size {size}");
                chain.writer().write_u64(!value).unwrap();
                pair.device.complete(chain, 8).unwrap();
                let _ = pair.device.publish().unwrap();
                let done = pair.driver.get().unwrap().expect("completed");
                assert_eq!((done.token, done.written), (round, 8), "{features}, size {size}");
                let reply = [pair.memory.bytes(c.addr.0, 1), pair.memory.bytes(d.addr.0, 7)].concat();
                assert_eq!(reply, (!value).to_le_bytes());
            }
            assert_eq!(pair.driver.free_descriptors(), size);
            assert_eq!(pair.device.in_flight(), 0);
        }
    }
}

#[test]
fn an_armed_side_is_notified_once_and_an_unarmed_one_never() {
    for features in every_feature_set() {
        let mut pair = Pair::new(8, features);
        let buffer = pair.alloc(4);
        for round in 0..100 {
            assert_eq!(pair.device.arm().unwrap(), MoreWork::None);
            pair.driver.add(&[buffer], &[], round).unwrap();
            assert_eq!(pair.driver.kick_prepare(), Kick::Needed, "{features}, round {round}");
            pair.device.disarm().unwrap();
            let first = pair.device.pop().unwrap().expect("published");
            pair.driver.add(&[buffer], &[], round).unwrap();
            assert_eq!(pair.driver.kick_prepare(), Kick::Suppressed, "{features}, round {round}");
            let second = pair.device.pop().unwrap().expect("published");
            assert_eq!(pair.driver.enable_callback(), MoreWork::None);
            pair.device.complete(first, 0).unwrap();
            assert_eq!(pair.device.publish().unwrap(), Notify::Needed, "{features}, round {round}");
            pair.driver.disable_callback();
            pair.device.complete(second, 0).unwrap();
            assert_eq!(pair.device.publish().unwrap(), Notify::Suppressed, "{features}, round {round}");
            assert!(pair.driver.get().unwrap().is_some() && pair.driver.get().unwrap().is_some());
        }
    }
}
