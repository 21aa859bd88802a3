//! The front-end on our server, and on servers that can do less.
#![allow(clippy::unwrap_used)]

#[path = "../rig/mod.rs"]
mod rig;

mod absence;
mod logs;
mod queues;
mod servers;
mod states;

use rig::behind::{Behind, quick};
use rig::front::Plan;
use rig::running::Running;
use std::time::Instant;
use vioduct_virtio_device::{ConfigAccess, DeviceInfo, Features};

/// As the `Adder` is, as far as it is declared.
fn adder(queues: u16) -> DeviceInfo {
    DeviceInfo {
        config_len: 16,
        config_access: ConfigAccess::Writable,
        ..DeviceInfo::new(63, "adder", vec![64; usize::from(queues)])
    }
}

fn started(running: &Running, features: Features, queues: u16) -> Behind {
    let plan = Plan { queues, ..Plan::new(features) };
    Behind::start(&running.path, adder(queues), plan, quick())
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < rig::peer::PATIENCE, "{what}");
        std::thread::yield_now();
    }
}
