//! The device's own state, through a front-end.

use crate::rig::back::Back;
use crate::rig::devices::Adder;
use crate::rig::front::Plan;
use crate::rig::running::Running;
use crate::{adder, started};
use std::fs::File;
use std::io::Write;
use std::sync::atomic::Ordering;
use std::thread;
use vioduct_vhost_user::Frontend;
use vioduct_virtio_device::{Backend, Features};

/// Everything that migrates: the state, larger than a pipe is deep, and the queue's position.
#[test]
fn a_device_goes_on_elsewhere() {
    for features in [Features::NONE, Features::RING_PACKED] {
        let (here, there) = (Running::new(|| Adder::new(1)), Running::new(|| Adder::new(1)));
        let mut source = started(&here, features, 1);
        assert_eq!((source.front.add(0, 5), source.front.add(0, 6)), (5, 11));
        let position = source.frontend.stop_queue(0).unwrap().unwrap();
        let state = source.frontend.save_state().unwrap();
        assert_eq!(state.len(), 160_000);
        let connect = |regions| Frontend::connect(&there.path, adder(1), regions, crate::quick());
        let mut target = crate::rig::behind::Behind::connect(source.front, connect);
        target.negotiate();
        target.frontend.restore_state(&state).unwrap();
        target.start_queue(0, position).unwrap();
        assert_eq!(target.front.add(0, 7), 18);
    }
}

#[test]
fn a_state_of_another_device_is_refused() {
    let running = Running::new(|| Adder::new(1));
    let mut behind = started(&running, Features::NONE, 1);
    behind.frontend.stop_queue(0).unwrap();
    let error = behind.frontend.restore_state(&[1; 100]).unwrap_err();
    assert!(error.to_string().contains("refuses CheckDeviceState"), "{error}");
    behind.frontend.save_state().unwrap();
}

#[test]
fn a_running_device_has_no_state_to_save() {
    let running = Running::new(|| Adder::new(1));
    let mut behind = started(&running, Features::NONE, 1);
    let error = behind.frontend.save_state().unwrap_err();
    assert!(error.to_string().contains("refuses SetDeviceStateFd"), "{error}");
    assert_eq!(behind.front.add(0, 1), 1);
}

/// A server writes for ever: it is stopped after 16 MiB, and its connection ends.
#[test]
fn row65_a_state_without_end_is_not_taken() {
    let back = Back::good();
    back.told.keeps_pipes.store(true, Ordering::SeqCst);
    let told = back.told.clone();
    let writer = thread::spawn(move || {
        let pipe = loop {
            match told.pipe.lock().unwrap().take() {
                Some(pipe) => break pipe,
                None => thread::yield_now(),
            }
        };
        let mut pipe = File::from(pipe);
        let mut written = 0;
        while pipe.write_all(&[0; 4096]).is_ok() {
            written += 4096;
        }
        written
    });
    let patience = vioduct_vhost_user::Patience { call: std::time::Duration::ZERO, ..crate::quick() };
    let connect = |regions| Frontend::connect(&back.path, adder(1), regions, patience);
    let mut behind =
        crate::rig::behind::Behind::connect(crate::rig::behind::rings(Plan::new(Features::NONE)), connect);
    let error = behind.frontend.save_state().unwrap_err();
    assert!(error.to_string().contains("file too large"), "{error}");
    let written = writer.join().unwrap();
    assert!((16 << 20..17 << 20).contains(&written), "{written} bytes were taken");
}
