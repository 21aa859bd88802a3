//! The same behind a front-end: who drives the queue does nothing about it, and does not notice.

use crate::{CRASHES, Load, Victim};
use std::fmt::Display;
use std::mem;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vioduct_vhost_user::{Frontend, Patience, SharedRegion};
use vioduct_virtio_device::{Backend, DeviceInfo, EventFd, Features, Host, HostEvents, QueueSetup};
use vioduct_virtqueue::QueuePosition;

const POINTS: usize = 300;

#[derive(Default)]
struct Failures(Mutex<Vec<String>>);

impl HostEvents for Failures {
    fn config_changed(&self) {}
    fn needs_reset(&self, reason: &dyn Display) {
        self.0.lock().unwrap().push(reason.to_string());
    }
}

/// The server that is to be found, in place of the one before.
fn show(folder: &Path, victim: &Victim) {
    let next = folder.join("next");
    std::os::unix::fs::symlink(&victim.path, &next).unwrap();
    std::fs::rename(next, folder.join("current")).unwrap();
}

fn start(folder: &Path, load: &Load, features: Features, events: Arc<Failures>) -> Frontend {
    let memory = load.front.memory.clone();
    let patience = Patience {
        first_pause: Duration::from_micros(500),
        longest_pause: Duration::from_millis(4),
        ..Patience::default()
    };
    let info = DeviceInfo::new(63, "shuffler", vec![16]);
    let regions = SharedRegion::all_of(&memory).unwrap();
    let mut frontend = Frontend::connect(folder.join("current"), info, regions, patience).unwrap();
    frontend.connect(Host { memory, events });
    frontend.set_features(Features::VERSION_1 | features).unwrap();
    let ring = &load.front.rings[0];
    let event = |event: &EventFd| Arc::new(EventFd::from(event.as_fd().try_clone_to_owned().unwrap()));
    let setup = QueueSetup {
        layout: ring.driver.layout(),
        position: QueuePosition::START,
        kick: Some(event(&ring.kick)),
        call: event(&ring.call),
        in_flight: None,
    };
    frontend.start_queue(0, setup).unwrap();
    frontend
}

fn survive(features: Features) {
    let crashes = std::env::var(CRASHES).map_or(POINTS, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut load = Load::new(features);
    let events = Arc::new(Failures::default());
    let mut victim = Victim::spawn(folder.path(), 0);
    victim.wait_until_ready();
    show(folder.path(), &victim);
    let mut frontend = start(folder.path(), &load, features, events.clone());
    let mut next = Victim::spawn(folder.path(), 1);
    for crash in 0..crashes {
        load.run(crash * 31 % 64, Duration::from_micros(crash as u64 * 7919 % 300));
        drop(mem::replace(&mut victim, mem::replace(&mut next, Victim::spawn(folder.path(), crash + 2))));
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
    assert_eq!(*events.0.lock().unwrap(), [""; 0]);
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
