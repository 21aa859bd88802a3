//! Queues, configuration and memory, through a front-end.

use crate::rig::devices::Adder;
use crate::rig::front::{GUEST_START, MEMORY_LEN};
use crate::rig::running::Running;
use crate::{adder, started, until};
use std::sync::Arc;
use vioduct_vhost_user::{Frontend, FrontendError, SharedRegion};
use vioduct_virtio_device::{Backend, BackendError, Backing, Features, Host, MemoryMap, RegionSetup};
use vioduct_virtqueue::{Access, IoAddr};

const FORMATS: [Features; 2] = [Features::NONE, Features::RING_PACKED];

#[test]
fn queues_stop_and_start_alone_where_they_stood() {
    for features in FORMATS {
        let running = Running::new(|| Adder::new(3));
        let mut behind = started(&running, features, 3);
        let mut sum = 0;
        for turn in 0..20 {
            let q = turn % 3;
            for other in 0..3 {
                sum += 1;
                assert_eq!(behind.front.add(other, 1), sum, "turn {turn}");
            }
            let position = behind.frontend.stop_queue(q).unwrap().unwrap();
            assert_eq!(position.available, position.used);
            assert_eq!(behind.frontend.stop_queue(q).unwrap(), None, "it is stopped");
            let _ = behind.front.submit(q, 1);
            sum += 1;
            behind.start_queue(q, position).unwrap();
            assert_eq!(behind.front.await_reply(q), sum);
        }
        assert_eq!(behind.reports.failures(), [""; 0]);
    }
}

#[test]
fn the_configuration_is_the_server_s() {
    let running = Running::new(|| Adder::new(1));
    let mut behind = started(&running, Features::NONE, 1);
    assert_eq!(behind.frontend.features() & Features::DEVICE_TYPE, Features::bit(5));
    assert_eq!(behind.frontend.info().features, Features::bit(5));
    behind.frontend.write_config(0, &1000u64.to_le_bytes());
    assert_eq!(behind.front.add(0, 1), 1001);
    until("the change is not passed on", || behind.reports.changes() == 1);
    let mut bytes = [0; 12];
    behind.frontend.read_config(4, &mut bytes);
    assert_eq!(bytes, [&[0; 4], (!1001u64).to_le_bytes().as_slice()].concat()[..]);
}

#[test]
fn a_queue_that_cannot_start_does_not_end_the_session() {
    let running = Running::new(|| Adder::new(1));
    let mut behind = started(&running, Features::NONE, 1);
    let position = behind.frontend.stop_queue(0).unwrap().unwrap();
    let elsewhere = vioduct_virtqueue::QueuePosition {
        available: vioduct_virtqueue::RingIndex { index: 4000, ..position.available },
        ..position
    };
    let error = behind.start_queue(0, elsewhere).unwrap_err();
    assert!(error.to_string().contains("refuses"), "{error}");
    behind.frontend.kick(9);
    assert_eq!(behind.frontend.stop_queue(9).unwrap(), None, "there is no such queue");
    behind.start_queue(0, position).unwrap();
    assert!(matches!(behind.start_queue(0, position), Err(BackendError::Running { queue: 0 })));
    assert_eq!(behind.front.add(0, 7), 7);
}

#[test]
fn a_reset_begins_anew() {
    for features in FORMATS {
        let running = Running::new(|| Adder::new(2));
        let mut behind = started(&running, features, 2);
        assert_eq!((behind.front.add(0, 3), behind.front.add(1, 4)), (3, 7));
        behind.frontend.reset().unwrap();
        let mut config = [1; 8];
        behind.frontend.read_config(0, &mut config);
        assert_eq!(config, [0; 8]);
        behind.negotiate();
        behind.front = crate::rig::behind::rings(behind.front.plan);
        behind.frontend.share(SharedRegion::all_of(&behind.front.memory).unwrap()).unwrap();
        let events = behind.reports.clone();
        behind.frontend.connect(Host { memory: behind.front.memory.clone(), events });
        for q in 0..2 {
            behind.start_queue(q, vioduct_virtqueue::QueuePosition::START).unwrap();
        }
        assert_eq!((behind.front.add(1, 30), behind.front.add(0, 40)), (30, 70));
    }
}

/// Rings lie in the memory that was shared last, and in no other.
#[test]
fn memory_changes_while_queues_are_stopped() {
    let running = Running::new(|| Adder::new(1));
    let mut behind = started(&running, Features::NONE, 1);
    let file = behind.front.memory.clone();
    let all = || SharedRegion::all_of(&file).unwrap();
    assert!(behind.frontend.share(all()).is_err(), "a queue runs");
    assert_eq!(behind.front.add(0, 1), 1);
    let position = behind.frontend.stop_queue(0).unwrap().unwrap();
    let elsewhere = RegionSetup {
        at: IoAddr(GUEST_START + 2 * MEMORY_LEN),
        len: 0x10_0000,
        access: Access::ReadWrite,
        backing: Backing::Shared,
    };
    let other = MemoryMap::new(vec![elsewhere]).unwrap();
    behind.frontend.share(SharedRegion::all_of(&other).unwrap()).unwrap();
    let error = behind.start_queue(0, position).unwrap_err();
    assert!(error.to_string().contains("outside of the memory"), "{error}");
    let both = [SharedRegion::all_of(&other).unwrap(), all()].concat();
    behind.frontend.share(both).unwrap();
    behind.start_queue(0, position).unwrap();
    assert_eq!(behind.front.add(0, 1), 2);
}

#[test]
fn what_cannot_be_is_refused_at_once() {
    let running = Running::new(|| Adder::new(1));
    let private = MemoryMap::anonymous(0x10_0000).unwrap();
    assert!(matches!(SharedRegion::all_of(&private), Err(FrontendError::PrivateMemory(IoAddr(0)))));
    let memory = Arc::new(crate::rig::front::guest_memory());
    let connect = |info| {
        let regions = SharedRegion::all_of(&memory).unwrap();
        Frontend::connect(&running.path, info, regions, crate::quick()).map(drop).unwrap_err().to_string()
    };
    assert!(connect(adder(2)).contains("has 1 queues, not 2"));
    let long = vioduct_virtio_device::DeviceInfo { config_len: 4097, ..adder(1) };
    assert!(connect(long).contains("declare at most 4096"));
    let nobody = Frontend::connect("/nowhere", adder(1), Vec::new(), crate::quick()).map(drop);
    assert!(nobody.unwrap_err().to_string().contains("does it run, and listen there?"));
    let file = std::fs::File::open("/dev/null").unwrap();
    let error = Frontend::over(file.into(), adder(1), Vec::new(), crate::quick()).map(drop).unwrap_err();
    assert!(matches!(error, FrontendError::NotAStream));
}
