//! Servers that go away.

use crate::rig::behind::{Behind, quick, rings};
use crate::rig::devices::Adder;
use crate::rig::front::Plan;
use crate::rig::running::Running;
use crate::{adder, started, until};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use vioduct_vhost_user::{Frontend, Patience, Server};
use vioduct_virtio_device::{Backend, Features, Workers};
use vioduct_virtqueue::QueuePosition;

/// Ends a server, and begins another at the same path.
fn replace(running: &mut Running) {
    running.end();
    running.begin(|| Adder::new(3));
}

/// Several queues, some of which do not run, and nothing said by anybody meanwhile.
#[test]
fn queues_go_on_with_another_server() {
    for features in [Features::NONE, Features::RING_PACKED, Features::RING_PACKED | Features::IN_ORDER] {
        let mut running = Running::new(|| Adder::new(3));
        let mut behind = started(&running, features, 3);
        let stopped = behind.frontend.stop_queue(1).unwrap().unwrap();
        for turn in 1..10 {
            replace(&mut running);
            for q in [0, 2] {
                // The new server's device starts at 0.
                let _ = behind.front.submit(q, 1);
                behind.front.kick(q);
            }
            let mut sums = [behind.front.await_reply(0), behind.front.await_reply(2)];
            sums.sort_unstable();
            assert_eq!(sums, [1, 2], "turn {turn}, {features}");
        }
        behind.start_queue(1, stopped).unwrap();
        assert_eq!(behind.front.add(1, 5), 7);
        assert!(behind.reports.changes() > 0, "the configuration has changed with the server");
        assert_eq!(behind.reports.failures(), [""; 0]);
    }
}

/// A call that needs the server waits for it, and no longer than it may.
#[test]
fn calls_wait_for_the_server_for_a_while() {
    let mut running = Running::new(|| Adder::new(3));
    let patience = Patience { call: Duration::from_millis(50), ..quick() };
    let plan = Plan { queues: 3, ..Plan::new(Features::NONE) };
    let mut behind = Behind::start(&running.path, adder(3), plan, patience);
    assert_eq!(behind.front.add(0, 0x55), 0x55);
    let mut config = [0; 1];
    behind.frontend.read_config(0, &mut config);
    running.end();
    let began = Instant::now();
    let error = behind.frontend.stop_queue(0).unwrap_err();
    assert!(error.to_string().contains("does it run"), "{error}");
    assert!(began.elapsed() >= Duration::from_millis(50));
    behind.frontend.write_config(0, &[1]);
    config = [0; 1];
    let began = Instant::now();
    behind.frontend.read_config(0, &mut config);
    assert_eq!(config, [0x55], "as it was last read");
    assert!(began.elapsed() < Duration::from_millis(50));
    running.begin(|| Adder::new(3));
    until("the queue does not stop", || behind.frontend.stop_queue(0).is_ok());
}

#[test]
fn a_server_that_stays_away_is_reported_once_and_a_reset_looks_again() {
    let mut running = Running::new(|| Adder::new(3));
    let patience = Patience { absence: Duration::from_millis(30), ..quick() };
    let plan = Plan { queues: 3, ..Plan::new(Features::RING_PACKED) };
    let mut behind = Behind::start(&running.path, adder(3), plan, patience);
    running.end();
    until("nobody is told", || !behind.reports.failures().is_empty());
    let error = behind.frontend.stop_queue(0).unwrap_err().to_string();
    assert!(error.contains("start it again, and reset the device"), "{error}");
    assert_eq!(behind.reports.failures(), [error]);
    behind.frontend.reset().unwrap();
    running.begin(|| Adder::new(3));
    behind.front = rings(plan);
    let regions = vioduct_vhost_user::SharedRegion::all_of(&behind.front.memory).unwrap();
    until("the server is not found again", || {
        let _ = behind.frontend.reset();
        behind.frontend.share(regions.clone()).is_ok()
    });
    let (memory, events) = (behind.front.memory.clone(), behind.reports.clone());
    behind.frontend.connect(vioduct_virtio_device::Host { memory, events });
    behind.negotiate();
    behind.start_queue(0, QueuePosition::START).unwrap();
    assert_eq!(behind.front.add(0, 4), 4);
}

#[test]
fn a_socket_that_was_inherited_is_lost_once() {
    let (near, far) = UnixStream::pair().unwrap();
    let server = Server::from_socket(far.into()).unwrap();
    let stopper = server.stopper();
    let thread = std::thread::spawn(move || server.run(|| Ok::<_, String>(Workers::new(Adder::new(1)))));
    let plan = Plan::new(Features::NONE);
    let connect = |regions| Frontend::over(near.into(), adder(1), regions, Patience::default());
    let mut behind = Behind::connect(rings(plan), connect);
    behind.negotiate();
    behind.start_queue(0, QueuePosition::START).unwrap();
    assert_eq!(behind.front.add(0, 2), 2);
    stopper.stop();
    thread.join().unwrap().unwrap();
    until("nobody is told", || !behind.reports.failures().is_empty());
    assert!(behind.frontend.stop_queue(0).is_err());
    behind.frontend.reset().unwrap();
    assert!(behind.frontend.set_features(Features::VERSION_1).is_err());
    let failures = behind.reports.failures();
    assert!(failures.len() == 1 && failures[0].contains("start both anew"), "{failures:?}");
}
