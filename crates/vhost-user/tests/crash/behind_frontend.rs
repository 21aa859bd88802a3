//! The same behind a front-end: who drives the queue does nothing about it, and does not notice.

use crate::rig::behind::{Behind, quick};
use crate::rig::front::Plan;
use crate::{CRASHES, Load, Victim};
use std::mem;
use std::path::Path;
use std::time::Duration;
use vioduct_virtio_device::{Backend, DeviceInfo, Features};

const POINTS: usize = 300;

/// The server that is to be found, in place of the one before.
fn show(folder: &Path, victim: &Victim) {
    let next = folder.join("next");
    std::os::unix::fs::symlink(&victim.path, &next).unwrap();
    std::fs::rename(next, folder.join("current")).unwrap();
}

fn survive(features: Features) {
    let crashes = std::env::var(CRASHES).map_or(POINTS, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut victim = Victim::spawn(folder.path(), 0);
    victim.wait_until_ready();
    show(folder.path(), &victim);
    let info = DeviceInfo::new(63, "shuffler", vec![16]);
    let Behind { front, mut frontend, reports } =
        Behind::start(&folder.path().join("current"), info, Plan::new(features), quick());
    let mut load = Load::over(front);
    for crash in 0..crashes {
        let next = Victim::spawn(folder.path(), crash + 1);
        load.run(crash * 31 % 64, Duration::from_micros(crash as u64 * 7919 % 300));
        drop(mem::replace(&mut victim, next));
        // Requests that nobody takes, for now.
        load.submit();
        victim.wait_until_ready();
        show(folder.path(), &victim);
    }
    load.run(1, Duration::ZERO);
    load.finish();
    assert_eq!(load.front.rings[0].driver.in_flight(), 0);
    let position = frontend.stop_queue(0).unwrap().expect("a queue that ran has a position");
    assert_eq!(position.available, position.used);
    assert_eq!(reports.failures(), [""; 0]);
}

#[test]
fn a_split_queue_behind_a_front_end_survives_its_server() {
    survive(Features::NONE);
}

#[test]
fn a_packed_queue_behind_a_front_end_survives_its_server() {
    survive(Features::RING_PACKED);
}

#[test]
fn a_packed_queue_in_order_behind_a_front_end_survives_its_server() {
    survive(Features::RING_PACKED | Features::IN_ORDER | Features::EVENT_IDX);
}
