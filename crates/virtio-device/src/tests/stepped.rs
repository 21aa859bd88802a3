use super::*;
use crate::backend::{Backend, BackendError};
use crate::handler::Budget;
use crate::inline::{Inline, Step};
use crate::rig::Rig;
use std::sync::Mutex;
use vioduct_spec::Status;
use vioduct_virtqueue::{Burst, IoAddr, Kick, Memory, Next};

const FORMATS: [Features; 4] = [
    Features::NONE,
    Features::EVENT_IDX,
    Features::RING_PACKED,
    Features::RING_PACKED.with(Features::EVENT_IDX),
];

fn wakes(receiver: &Receiver<Wake>) -> Vec<Wake> {
    receiver.try_iter().collect()
}

fn needs_reset<B: Backend>(rig: &Rig<B>) -> bool {
    rig.endpoint.status().contains(Status::NEEDS_RESET)
}

/// Makes split queue 0 claim far more available buffers than it has.
fn corrupt<B: Backend>(rig: &Rig<B>, q: u16) {
    let driver_area = rig.endpoint.queue_address(q, crate::Area::Driver);
    rig.memory.write(IoAddr(driver_area + 2), &0x7000u16.to_le_bytes()).unwrap();
}

#[test]
fn nothing_happens_until_a_step() {
    for features in FORMATS {
        let (model, woken) = reporting(vec![16]);
        let mut rig = Rig::new(Inline::new(model), features).unwrap();
        assert_eq!(rig.endpoint.backend_mut().run(10), 1, "the wake that follows a start");
        assert_eq!(wakes(&woken), [Wake::Started(0), Wake::Kick(0)]);
        rig.submit(0, &[&[41]], &[1]).unwrap();
        assert_eq!(rig.kick(0).unwrap(), Kick::Needed);
        assert_eq!((wakes(&woken), rig.take(0).unwrap()), (vec![], None));
        assert_eq!(rig.endpoint.backend_mut().step(), Step::Worked);
        assert_eq!(rig.take(0).unwrap().unwrap().bytes, [42]);
        assert_eq!(rig.endpoint.backend_mut().step(), Step::Idle);
        // A driver that was asked to notify and does not is not served, or no rig would notice its bug.
        rig.submit(0, &[&[41]], &[1]).unwrap();
        assert_eq!(rig.queue(0).unwrap().kick_prepare(), Kick::Needed);
        assert_eq!(rig.endpoint.backend_mut().step(), Step::Idle);
    }
}

#[test]
fn an_automatic_device_works_in_the_kick() {
    let mut rig = Rig::new(Inline::auto(incrementer()), Features::NONE).unwrap();
    rig.submit(0, &[&[1]], &[1]).unwrap();
    assert_eq!(rig.kick(0).unwrap(), Kick::Needed);
    assert_eq!(rig.take(0).unwrap().unwrap().bytes, [2]);
}

/// Buffers that were available before the queue ran are served without a notification.
#[test]
fn s2_1_2_a_started_queue_is_served_without_a_kick() {
    let mut rig = Rig::in_reset(Inline::new(incrementer())).unwrap();
    rig.negotiate(Features::NONE).unwrap();
    rig.enable_queue(0).unwrap();
    rig.submit(0, &[&[1]], &[1]).unwrap();
    let _ = rig.queue(0).unwrap().kick_prepare();
    assert_eq!(rig.endpoint.backend_mut().run(10), 0, "nothing is consumed before DRIVER_OK");
    rig.write_status(Status::DRIVER_OK).unwrap();
    assert_eq!(rig.endpoint.backend_mut().run(10), 1);
    assert_eq!(rig.take(0).unwrap().unwrap().bytes, [2]);
}

#[test]
fn s2_3_a_batch_is_notified_once() {
    for features in FORMATS {
        let mut rig = Rig::new(Inline::new(incrementer()), features).unwrap();
        rig.endpoint.backend_mut().run(10);
        for byte in 0..10 {
            rig.submit(0, &[&[byte]], &[1]).unwrap();
        }
        let _ = rig.kick(0).unwrap();
        assert_eq!(rig.endpoint.backend_mut().run(10), 1);
        assert_eq!(rig.notifications.used(), 1, "{features}");
        let stats = rig.endpoint.backend().stats(0).unwrap();
        assert_eq!((stats.wakes, stats.chains, stats.signals, stats.exhausted), (2, 10, 1, 0));
    }
}

/// While the device is at work it wants no kicks; what becomes available then is found all the same.
#[test]
fn row23_what_comes_while_the_device_works_is_not_lost() {
    for features in FORMATS {
        let mut rig = Rig::new(Inline::new(incrementer()), features).unwrap();
        rig.endpoint.backend_mut().run(10);
        for byte in 0..100 {
            rig.submit(0, &[&[byte]], &[1]).unwrap();
            let kick = rig.kick(0).unwrap();
            assert_eq!(kick, if byte == 0 { Kick::Needed } else { Kick::Suppressed }, "{features} {byte}");
            assert_eq!(rig.endpoint.backend_mut().step(), Step::Worked);
            assert_eq!(rig.take(0).unwrap().unwrap().bytes, [byte + 1]);
        }
        assert_eq!(rig.endpoint.backend_mut().step(), Step::Idle, "armed again");
        rig.submit(0, &[&[1]], &[1]).unwrap();
        assert_eq!(rig.kick(0).unwrap(), Kick::Needed);
    }
}

#[test]
fn row22_a_wake_is_limited_in_chains_and_bytes() {
    for (budget, steps) in [(Budget { chains: 4, bytes: 1000 }, 3), (Budget { chains: 100, bytes: 5 }, 4)] {
        let backend = Inline::new(incrementer()).with_budget(budget);
        let mut rig = Rig::new(backend, Features::NONE).unwrap();
        rig.endpoint.backend_mut().run(10);
        for byte in 0..10 {
            rig.submit(0, &[&[byte]], &[1]).unwrap();
        }
        let _ = rig.kick(0).unwrap();
        assert_eq!(rig.endpoint.backend_mut().run(10), steps, "no further kick is needed");
        assert_eq!(rig.notifications.used(), steps as u64);
        assert_eq!(rig.endpoint.backend().stats(0).unwrap().exhausted, steps as u64 - 1);
        assert_eq!(std::iter::from_fn(|| rig.take(0).unwrap()).count(), 10);
    }
}

/// One queue is kept full by its driver; the other has its turn nevertheless, kicked or not.
#[test]
fn row22_a_busy_queue_does_not_starve_another() {
    let (model, woken) = reporting(vec![16, 16]);
    let backend = Inline::new(model).with_budget(Budget { chains: 1, ..Budget::default() });
    let mut rig = Rig::new(backend, Features::NONE).unwrap();
    for _ in 0..4 {
        rig.submit(0, &[&[1]], &[1]).unwrap();
    }
    rig.submit(1, &[&[1]], &[1]).unwrap();
    let _ = (rig.kick(0).unwrap(), rig.kick(1).unwrap());
    rig.endpoint.backend_mut().run(3);
    let kicks: Vec<_> = wakes(&woken).into_iter().filter(|wake| matches!(wake, Wake::Kick(_))).collect();
    assert_eq!(kicks, [Wake::Kick(0), Wake::Kick(1), Wake::Kick(0)]);
}

/// The other queue's driver was not asked to notify, and the lane never comes to rest to find out.
#[test]
fn row22_a_queue_without_kicks_is_found_beside_a_busy_one() {
    let (model, woken) = reporting(vec![16, 16]);
    let backend = Inline::new(model).with_budget(Budget { chains: 1, ..Budget::default() });
    let mut rig = Rig::new(backend, Features::NONE).unwrap();
    rig.endpoint.backend_mut().run(2);
    wakes(&woken);
    rig.submit(1, &[&[1]], &[1]).unwrap();
    assert_eq!(rig.kick(1).unwrap(), Kick::Suppressed);
    rig.endpoint.notify(0);
    for _ in 0..4 {
        rig.submit(0, &[&[1]], &[1]).unwrap();
        let _ = rig.kick(0).unwrap();
        assert_eq!(rig.endpoint.backend_mut().step(), Step::Worked);
    }
    assert!(wakes(&woken).contains(&Wake::Kick(1)));
}

/// A handler that leaves buffers has its reasons: it is not woken for them over and over.
#[test]
fn a_handler_that_leaves_buffers_is_not_woken_for_them() {
    let (sender, woken) = channel();
    let model = Scripted::new(vec![16], move |why, io| {
        sender.send(why).unwrap();
        match why {
            Wake::Kick(q) => match io.pop(q)? {
                Some(chain) => io.complete(q, chain, 0),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    });
    let mut rig = Rig::new(Inline::new(model), Features::NONE).unwrap();
    rig.endpoint.backend_mut().run(10);
    wakes(&woken);
    for _ in 0..3 {
        rig.submit(0, &[&[1]], &[1]).unwrap();
    }
    let _ = rig.kick(0).unwrap();
    assert_eq!(rig.endpoint.backend_mut().run(10), 1);
    assert_eq!(wakes(&woken), [Wake::Kick(0)]);
}

#[test]
fn a_handler_of_bursts_is_kicked_when_it_has_found_nothing() {
    for features in FORMATS {
        let burst = Arc::new(Mutex::new(Burst::new(4)));
        let model = Scripted::new(vec![16], move |why, io| {
            let Wake::Kick(q) = why else { return Ok(()) };
            let mut burst = burst.lock().unwrap();
            while io.pop_burst(q, &mut burst, 4)? == Next::Unknown {
                io.complete_burst(q, &mut burst, 3)?;
                let last = io.chain_of(q, &mut burst).unwrap();
                io.complete(q, last, 0)?;
            }
            let count = burst.len();
            io.complete_burst(q, &mut burst, count)
        });
        let mut rig = Rig::new(Inline::new(model), features).unwrap();
        for round in 1..=5 {
            for _ in 0..10 {
                rig.submit(0, &[], &[1]).unwrap();
            }
            let _ = rig.kick(0).unwrap();
            rig.endpoint.backend_mut().run(10);
            assert_eq!(std::iter::from_fn(|| rig.take(0).unwrap()).count(), 10);
            assert_eq!(rig.endpoint.backend_mut().stats(0).unwrap().chains, 10 * round);
        }
    }
}

#[test]
fn bursts_are_given_back_while_a_queue_stops() {
    for features in FORMATS {
        let burst = Arc::new(Mutex::new(Burst::new(4)));
        let held = burst.clone();
        let model = Scripted::new(vec![16], move |why, io| {
            let mut burst = held.lock().unwrap();
            match why {
                Wake::Kick(q) => io.pop_burst(q, &mut burst, 4).map(drop),
                Wake::Stopping(q) => {
                    assert_eq!(io.pop_burst(q, &mut burst, 8), Ok(Next::Nothing), "it gives no more");
                    io.complete_burst(q, &mut burst, 3)?;
                    let last = io.chain_of(q, &mut burst).unwrap();
                    io.complete(q, last, 0)
                }
                _ => Ok(()),
            }
        });
        let mut rig = Rig::new(Inline::new(model), features).unwrap();
        for _ in 0..6 {
            rig.submit(0, &[&[1]], &[]).unwrap();
        }
        let _ = rig.kick(0).unwrap();
        rig.endpoint.backend_mut().run(10);
        let position = rig.endpoint.backend_mut().stop_queue(0).unwrap().unwrap();
        assert_eq!((position.available.index, position.used.index), (4, 4));
        assert_eq!(std::iter::from_fn(|| rig.take(0).unwrap()).count(), 4);
        assert!(burst.lock().unwrap().is_empty());
    }
}

#[test]
fn a_handler_leaves_alone_what_it_expects_nothing_of() {
    for features in FORMATS {
        let (sender, woken) = channel();
        let model = Scripted::new(vec![16, 16], move |why, io| {
            sender.send(why).unwrap();
            // Having looked at it, it gets no kicks of it.
            io.expect_kick(1);
            io.serve(0, increment)?;
            io.expect_kick_only(0);
            Ok(())
        });
        let mut rig = Rig::new(Inline::new(model), features).unwrap();
        rig.endpoint.backend_mut().run(10);
        wakes(&woken);
        rig.submit(1, &[&[1]], &[1]).unwrap();
        let _ = rig.queue(1).unwrap().kick_prepare();
        assert_eq!(rig.endpoint.backend_mut().run(10), 0);
        assert_eq!(rig.request(0, &[1], 1).unwrap().bytes, [2]);
        assert_eq!(wakes(&woken), [Wake::Kick(0)]);
    }
}

#[test]
fn event_sources_wake_their_handler() {
    let finish = Arc::new(EventFd::new().unwrap());
    let (model, woken) = holding(finish.clone());
    let mut rig = Rig::new(Inline::new(model), Features::NONE).unwrap();
    rig.submit(0, &[&[8]], &[1]).unwrap();
    let _ = rig.kick(0).unwrap();
    rig.endpoint.backend_mut().run(10);
    assert_eq!(rig.take(0).unwrap(), None);
    crate::Signal::signal(&*finish);
    assert_eq!(rig.endpoint.backend_mut().run(10), 1, "once per signal");
    assert_eq!(rig.take(0).unwrap().unwrap().bytes, [9]);
    assert_eq!(wakes(&woken).last(), Some(&Wake::Source(SourceId(7))));
}

/// Stopping waits for the I/O in flight, and the queue resumes on another device where it stood.
#[test]
fn stopping_a_queue_drains_it_first() {
    for features in FORMATS {
        let finish = Arc::new(EventFd::new().unwrap());
        let (model, woken) = holding(finish.clone());
        let mut rig = Rig::new(Inline::new(model), features).unwrap();
        rig.submit(0, &[&[8]], &[1]).unwrap();
        let _ = rig.kick(0).unwrap();
        rig.endpoint.backend_mut().run(10);
        crate::Signal::signal(&*finish);
        let state = rig.endpoint.save();
        // A packed ring counts descriptors, a split one buffers.
        let index = if features.contains(Features::RING_PACKED) { 2 } else { 1 };
        let position = state.queues[0].position.unwrap();
        assert_eq!((position.available.index, position.used.index), (index, index), "{features}");
        assert_eq!(rig.take(0).unwrap().unwrap().bytes, [9]);
        assert!(wakes(&woken).ends_with(&[Wake::Stopping(0), Wake::Source(SourceId(7))]));
        rig.endpoint.resume();
        crate::Signal::signal(&*finish);
        rig.submit(0, &[&[1]], &[1]).unwrap();
        let _ = rig.kick(0).unwrap();
        rig.endpoint.backend_mut().run(10);
        crate::Signal::signal(&*finish);
        rig.endpoint.backend_mut().run(10);
        assert_eq!(rig.take(0).unwrap().unwrap().bytes, [2]);
    }
}

#[test]
fn a_stopping_queue_gives_no_more_buffers() {
    let model = Scripted::new(vec![16], |why, io| match why {
        Wake::Kick(q) | Wake::Started(q) | Wake::Stopping(q) => io.serve(q, increment),
        Wake::Source(_) => Ok(()),
    });
    let mut rig = Rig::new(Inline::new(model), Features::NONE).unwrap();
    rig.submit(0, &[&[1]], &[1]).unwrap();
    let _ = rig.kick(0).unwrap();
    assert_eq!(rig.endpoint.save().queues[0].position, Some(vioduct_virtqueue::QueuePosition::START));
    assert_eq!(rig.take(0).unwrap(), None);
}

/// A device that cannot give a buffer back is not torn from it: the stop fails, and can be tried again.
#[test]
fn a_queue_whose_buffers_stay_with_the_device_does_not_stop() {
    let held = Arc::new(Mutex::new(Vec::new()));
    let keep = held.clone();
    let model = Scripted::new(vec![16], move |why, io| {
        let mut held = keep.lock().unwrap();
        if let Wake::Kick(q) = why {
            held.extend(io.pop(q)?);
        }
        Ok(())
    });
    let mut rig = Rig::new(Inline::new(model), Features::NONE).unwrap();
    rig.submit(0, &[&[8]], &[1]).unwrap();
    let _ = rig.kick(0).unwrap();
    rig.endpoint.backend_mut().run(10);
    let error = rig.endpoint.backend_mut().stop_queue(0).unwrap_err();
    assert!(matches!(error, BackendError::Draining { queue: 0, in_flight: 1 }));
    rig.endpoint.write_status(0);
    assert_eq!(rig.endpoint.status(), Status::NEEDS_RESET);
    held.lock().unwrap().drain(..).for_each(Chain::discard);
}

#[test]
fn s2_4_reset_with_requests_in_flight_takes_everything_back() {
    let finish = Arc::new(EventFd::new().unwrap());
    let (model, _woken) = holding(finish.clone());
    let mut rig = Rig::new(Inline::new(model), Features::NONE).unwrap();
    rig.submit(0, &[&[8]], &[1]).unwrap();
    let _ = rig.kick(0).unwrap();
    rig.endpoint.backend_mut().run(10);
    crate::Signal::signal(&*finish);
    rig.endpoint.write_status(0);
    assert_eq!(rig.endpoint.status(), Status::RESET);
    assert_eq!(rig.endpoint.backend_mut().run(10), 0);
    rig.negotiate(Features::NONE).unwrap();
    rig.enable_queue(0).unwrap();
    rig.write_status(Status::DRIVER_OK).unwrap();
    assert_eq!(rig.endpoint.status().0, 15);
}

/// Two queues of two handlers are corrupted; the device reports once, and does nothing more.
#[test]
fn row1_a_queue_fault_reports_needs_reset_exactly_once() {
    let (sender, woken) = channel();
    let model = Scripted::in_lanes(vec![16, 16], vec![0..1, 1..2], move |why, io| {
        sender.send(why).unwrap();
        match why {
            Wake::Kick(q) => io.serve(q, increment),
            _ => Ok(()),
        }
    });
    let mut rig = Rig::new(Inline::new(model), Features::NONE).unwrap();
    rig.endpoint.backend_mut().run(10);
    corrupt(&rig, 0);
    corrupt(&rig, 1);
    for q in [0, 1, 0, 1] {
        rig.endpoint.notify(q);
        rig.endpoint.backend_mut().run(10);
    }
    assert!(needs_reset(&rig));
    assert_eq!(rig.notifications.config(), 1);
    assert_eq!(wakes(&woken).iter().filter(|wake| matches!(wake, Wake::Kick(_))).count(), 3);
    rig.endpoint.write_status(0);
    assert_eq!(rig.endpoint.status(), Status::RESET);
}

/// Whoever listens, and however often the device fails.
#[test]
fn row1_a_back_end_reports_its_fault_once() {
    struct Listener(Mutex<Vec<String>>);
    impl crate::HostEvents for Listener {
        fn config_changed(&self) {}
        fn needs_reset(&self, reason: &dyn std::fmt::Display) {
            self.0.lock().unwrap().push(reason.to_string());
        }
    }
    let model = Scripted::new(vec![16], |why, _| match why {
        Wake::Started(_) | Wake::Source(_) => Ok(()),
        Wake::Kick(_) => Err(Fault::Device("first".into())),
        Wake::Stopping(_) => Err(Fault::Device("second".into())),
    });
    let mut rig = Rig::in_reset(Inline::new(model)).unwrap();
    let events = Arc::new(Listener(Mutex::default()));
    let host = crate::Host { memory: rig.memory.clone(), events: events.clone() };
    rig.endpoint.backend_mut().connect(host);
    rig.negotiate(Features::NONE).unwrap();
    rig.enable_queue(0).unwrap();
    rig.write_status(Status::DRIVER_OK).unwrap();
    rig.endpoint.backend_mut().run(10);
    rig.endpoint.write_status(0);
    assert_eq!(*events.0.lock().unwrap(), ["first"]);
}

#[test]
fn a_device_detected_fault_needs_a_reset_with_its_reason() {
    let model = Scripted::new(vec![16], |why, _| match why {
        Wake::Kick(_) => Err(Fault::Device("the disk is gone".into())),
        _ => Ok(()),
    });
    let mut rig = Rig::new(Inline::new(model), Features::NONE).unwrap();
    rig.endpoint.backend_mut().run(10);
    assert!(needs_reset(&rig));
}

#[test]
fn row8_a_buffer_too_short_is_returned_with_nothing_written() {
    let mut rig = Rig::new(Inline::new(incrementer()), Features::NONE).unwrap();
    assert_eq!(rig.request(0, &[], 1).unwrap().written, 0);
    assert_eq!(rig.request(0, &[1], 0).unwrap().written, 0);
    assert_eq!(rig.request(0, &[1], 1).unwrap().bytes, [2], "the queue goes on");
}

#[test]
fn handlers_that_claim_a_queue_wrongly_are_refused() {
    for lanes in [[0..2, 1..3], [0..1, 0..1], [0..1, 1..4], [5..6, 0..1]].map(Vec::from) {
        let model = Scripted::in_lanes(vec![16; 3], lanes.clone(), |_, _| Ok(()));
        let mut rig = Rig::in_reset(Inline::new(model)).unwrap();
        assert!(rig.negotiate(Features::NONE).is_err(), "{lanes:?}");
        assert_eq!(rig.endpoint.status().0, 3);
    }
}

#[test]
fn control_calls_out_of_order_are_errors() {
    let mut backend = Inline::new(incrementer()).offering(Features::VERSION_1);
    assert_eq!(backend.features(), Features::VERSION_1);
    let error = backend.set_features(Features::RING_PACKED).unwrap_err();
    assert_eq!(error.to_string(), "features not on offer: RING_PACKED");
    let error = backend.set_features(Features::VERSION_1).unwrap_err();
    assert_eq!(error.to_string(), "connect must be called first");
    assert!(backend.stop_queue(0).unwrap().is_none() && backend.stop_queue(9).unwrap().is_none());
    backend.kick(0);
    backend.kick(9);
}
