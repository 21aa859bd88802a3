use super::{Call, Recorder, Refusal, STOPPED_AT, at, calls, features_ok, in_reset, live};
use crate::endpoint::StatusWrite;
use crate::rig::Rig;
use vioduct_spec::{Features, Status};
use vioduct_virtqueue::QueuePosition;

const FOUND: Status = Status::ACKNOWLEDGE.with(Status::DRIVER);
const READY: Status = FOUND.with(Status::FEATURES_OK);
const LIVE: Status = READY.with(Status::DRIVER_OK);

/// Every value written in every phase: what is accepted is in the table, and nothing else changes the status.
#[test]
fn row15_out_of_order_status_writes_are_refused() {
    let phases: [(Status, &[u8]); 6] = [
        (Status::RESET, &[1, 3]),
        (Status::ACKNOWLEDGE, &[3]),
        (FOUND, &[11]),
        (READY, &[15]),
        (LIVE, &[]),
        (LIVE.with(Status::FAILED), &[]),
    ];
    for (phase, accepted) in phases {
        for value in 1..=u8::MAX {
            let mut rig = at(phase);
            // NEEDS_RESET is the device's own bit, so whether it is written makes no difference.
            let bits = value & !Status::NEEDS_RESET.0;
            let gives_up = bits & Status::FAILED.0 != 0 && !phase.contains(Status::FAILED);
            let (outcome, after) = match bits {
                same if same == phase.0 => (StatusWrite::Unchanged, phase),
                _ if gives_up => (StatusWrite::Accepted, phase | Status::FAILED),
                bits if accepted.contains(&bits) => (StatusWrite::Accepted, Status(bits)),
                _ => (StatusWrite::Refused, phase),
            };
            assert_eq!(rig.endpoint.write_status(value), outcome, "{value:#x} written at {phase:?}");
            assert_eq!(rig.endpoint.status(), after, "{value:#x} written at {phase:?}");
        }
        let mut rig = at(phase);
        assert_eq!(rig.endpoint.write_status(0), StatusWrite::Reset);
        assert_eq!(rig.endpoint.status(), Status::RESET, "after {phase:?}");
    }
}

#[test]
fn s3_1_1_the_driver_brings_the_device_up_in_order() {
    let mut rig = live(Features::bit(0));
    let features = Features::VERSION_1 | Features::bit(0);
    assert_eq!(rig.endpoint.status(), LIVE);
    assert_eq!(rig.endpoint.negotiated(), features);
    let calls = calls(&mut rig);
    assert_eq!(calls[0], Call::Features(features));
    assert_eq!(calls.len(), 4, "features, then three queues: {calls:?}");
}

#[test]
fn s2_2_2_features_ok_is_refused_for_a_bit_not_offered() {
    for features in [Features::bit(1), Features::ACCESS_PLATFORM, Features::SR_IOV, Features::bit(63)] {
        let mut rig = at(FOUND);
        rig.endpoint.set_driver_features(0, features.word(0));
        rig.endpoint.set_driver_features(1, (features | Features::VERSION_1).word(1));
        assert_eq!(rig.endpoint.write_status(READY.0), StatusWrite::Refused, "{features}");
        assert_eq!(rig.endpoint.status(), FOUND);
        assert_eq!(rig.endpoint.negotiated(), Features::NONE);
        assert_eq!(calls(&mut rig), [], "the back-end is not asked");
    }
}

#[test]
fn s6_1_features_ok_is_refused_without_version_1() {
    let mut rig = at(FOUND);
    rig.endpoint.set_driver_features(0, 1);
    rig.endpoint.set_driver_features(1, 0);
    assert_eq!(rig.endpoint.write_status(READY.0), StatusWrite::Refused);
    assert_eq!(rig.endpoint.status(), FOUND);
    rig.endpoint.set_driver_features(1, Features::VERSION_1.word(1));
    assert_eq!(rig.endpoint.write_status(READY.0), StatusWrite::Accepted, "the driver may try again");
}

#[test]
fn s2_2_2_features_ok_is_refused_when_the_back_end_cannot_serve_them() {
    let mut rig = Rig::in_reset(Recorder::refusing(Refusal::Features)).unwrap();
    assert!(rig.negotiate(Features::NONE).is_err());
    assert_eq!(rig.endpoint.status(), FOUND);
}

#[test]
fn s2_2_1_features_do_not_change_outside_of_negotiation() {
    for status in [Status::RESET, Status::ACKNOWLEDGE, READY, LIVE] {
        let mut rig = at(status);
        let before = rig.endpoint.driver_features();
        rig.endpoint.set_driver_features(0, 1);
        rig.endpoint.set_driver_features(1, 0);
        assert_eq!(rig.endpoint.driver_features(), before, "{status}");
    }
}

#[test]
fn transport_features_are_offered_only_where_the_transport_has_them() {
    let rig = in_reset();
    assert!(rig.endpoint.offered().contains(Rig::<Recorder>::TRANSPORT));
    let host = rig.endpoint.backend().host();
    let endpoint =
        crate::Endpoint::new(Recorder::new(), host.memory, rig.notifications.clone(), Features::NONE);
    assert_eq!(endpoint.offered(), Features::RING | Features::bit(0));
}

/// Nothing runs before DRIVER_OK, whatever is enabled; then the enabled queues do.
#[test]
fn s2_1_2_no_queue_runs_before_driver_ok() {
    let mut rig = features_ok(Features::NONE);
    rig.enable_queue(0).unwrap();
    calls(&mut rig);
    rig.endpoint.notify(0);
    assert_eq!(calls(&mut rig), []);
    rig.write_status(Status::DRIVER_OK).unwrap();
    let calls = calls(&mut rig);
    assert!(matches!(calls[..], [Call::Start(0, _, QueuePosition::START)]), "{calls:?}");
}

#[test]
fn s2_1_2_needs_reset_is_notified_once_driver_ok_is_set() {
    let mut rig = features_ok(Features::NONE);
    let events = rig.endpoint.backend().host().events;
    events.needs_reset(&"a test");
    events.config_changed();
    assert_eq!(rig.endpoint.status(), READY | Status::NEEDS_RESET);
    assert_eq!(rig.notifications.config(), 0, "not before DRIVER_OK");
    rig.write_status(Status::DRIVER_OK).unwrap();
    assert_eq!(rig.notifications.config(), 1);
}

#[test]
fn s2_1_2_needs_reset_is_latched_and_notified_once() {
    let mut rig = live(Features::NONE);
    let events = rig.endpoint.backend().host().events;
    for _ in 0..3 {
        events.needs_reset(&"a test");
    }
    assert_eq!(rig.endpoint.status(), LIVE | Status::NEEDS_RESET);
    assert_eq!(rig.notifications.config(), 1);
    assert_eq!(rig.endpoint.write_status(LIVE.0), StatusWrite::Unchanged);
    assert!(rig.endpoint.status().contains(Status::NEEDS_RESET), "the driver cannot clear it");
    rig.endpoint.write_status(0);
    assert_eq!(rig.endpoint.status(), Status::RESET, "but by a reset");
}

#[test]
fn a_queue_that_cannot_start_needs_a_reset() {
    let mut rig = Rig::new(Recorder::refusing(Refusal::Start), Features::NONE).unwrap();
    assert_eq!(rig.endpoint.status(), LIVE | Status::NEEDS_RESET);
    assert_eq!(rig.notifications.config(), 1);
    let starts = calls(&mut rig).iter().filter(|call| matches!(call, Call::Start(..))).count();
    assert_eq!(starts, 1, "the others are not tried");
}

#[test]
fn s2_4_reset_returns_everything_to_its_initial_state() {
    let mut rig = live(Features::RING_RESET);
    calls(&mut rig);
    rig.endpoint.write_status(0);
    assert_eq!(calls(&mut rig), [Call::Reset]);
    assert_eq!(rig.endpoint.driver_features(), Features::NONE);
    let fresh = in_reset();
    for q in 0..3 {
        assert!(!rig.endpoint.queue_enabled(q));
        assert_eq!(rig.endpoint.queue_size(q), fresh.endpoint.queue_size(q));
    }
    assert_eq!(rig.endpoint.save().queues, Rig::in_reset(Recorder::new()).unwrap().endpoint.save().queues);
}

/// The driver polls for 0: a device that could not let go of its queues does not show it.
#[test]
fn s2_4_a_reset_that_fails_does_not_read_as_complete() {
    let mut rig = live(Features::NONE);
    rig.endpoint.backend_mut().refusal = Refusal::Stop;
    rig.endpoint.write_status(0);
    assert_eq!(rig.endpoint.status(), Status::NEEDS_RESET);
    rig.endpoint.backend_mut().refusal = Refusal::Nothing;
    rig.endpoint.write_status(0);
    assert_eq!(rig.endpoint.status(), Status::RESET);
}

#[test]
fn s2_1_a_driver_that_gives_up_stops_the_queues() {
    let mut rig = live(Features::NONE);
    calls(&mut rig);
    rig.write_status(Status::FAILED).unwrap();
    assert_eq!(calls(&mut rig), [Call::Stop(0), Call::Stop(1), Call::Stop(2)]);
    rig.endpoint.notify(0);
    rig.endpoint.resume();
    assert_eq!(calls(&mut rig), []);
    assert_eq!(rig.endpoint.save().queues[0].position, Some(STOPPED_AT));
}
