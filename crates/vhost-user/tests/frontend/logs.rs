//! The log of what a server writes.

use crate::rig::back::{Back, Deed};
use crate::rig::behind::{Behind, rings};
use crate::rig::devices::Adder;
use crate::rig::front::{GUEST_START, MEMORY_LEN, Plan};
use crate::rig::peer::*;
use crate::rig::running::Running;
use crate::started;
use vioduct_vhost_user::Frontend;
use vioduct_virtio_device::{Backend, DeviceInfo, Features};
use vioduct_virtqueue::{IoAddr, QueuePosition};

/// Stops the queue, does something about the memory's log, and starts the queue again.
fn between(behind: &mut Behind, change: impl FnOnce(&vioduct_virtio_device::MemoryMap)) {
    let position = behind.frontend.stop_queue(0).unwrap().unwrap();
    change(&behind.front.memory);
    behind.start_queue(0, position).unwrap();
}

#[test]
fn what_the_server_writes_is_logged_while_the_memory_wants_it() {
    let running = Running::new(|| Adder::new(1));
    for features in [Features::NONE, Features::EVENT_IDX, Features::RING_PACKED] {
        let mut behind = started(&running, features, 1);
        assert_eq!(behind.front.add(0, 5), 5);
        between(&mut behind, |memory| {
            assert_eq!(memory.take_dirty(), [], "nothing was wanted");
            memory.start_log();
        });
        behind.front.next = behind.front.next.next_multiple_of(4096) + 4096 - 8;
        // The request ends a page, so the reply begins the next.
        let reply = behind.front.next + 8;
        assert_eq!(behind.front.add(0, 6), 11);
        between(&mut behind, |memory| {
            let dirty = memory.take_dirty();
            assert!(dirty.contains(&IoAddr(reply)) && dirty.len() < 5, "{dirty:x?}");
            memory.stop_log();
        });
        assert_eq!(behind.front.add(0, 7), 18);
        between(&mut behind, |memory| assert_eq!(memory.take_dirty(), [], "nothing any more"));
        assert_eq!(behind.reports.failures(), [""; 0]);
    }
}

/// Nobody knows what it writes: it counts as having written everything.
#[test]
fn a_server_that_logs_nothing_has_written_everything() {
    let protocol = longs(&[REPLY_ACK]);
    let back = Back::new(GET_PROTOCOL_FEATURES, Deed::Answer(protocol, 0));
    let info = DeviceInfo::new(63, "plain", vec![16]);
    let connect = |regions| Frontend::connect(&back.path, info, regions, crate::quick());
    let mut behind = Behind::connect(rings(Plan::new(Features::NONE)), connect);
    behind.front.memory.start_log();
    behind.negotiate();
    behind.start_queue(0, QueuePosition::START).unwrap();
    behind.frontend.stop_queue(0).unwrap();
    let every: Vec<_> = (0..MEMORY_LEN / 4096).map(|page| IoAddr(GUEST_START + page * 4096)).collect();
    assert_eq!(behind.front.memory.take_dirty(), every);
}
