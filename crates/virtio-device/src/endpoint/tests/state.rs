use super::{Call, Recorder, Refusal, STOPPED_AT, calls, in_reset, live};
use crate::endpoint::{EndpointState, RestoreError};
use crate::memory::MemoryMap;
use crate::rig::Rig;
use proptest::prelude::*;
use std::sync::Arc;
use vioduct_spec::{Features, Status};
use vioduct_virtqueue::{QueuePosition, RingIndex, Wrap};

fn saved() -> EndpointState {
    live(Features::RING_PACKED).endpoint.save()
}

/// Restores into a fresh device; that fails, and leaves it in reset.
fn refusal(state: &EndpointState) -> String {
    let mut rig = in_reset();
    let error = rig.endpoint.restore(state).unwrap_err();
    assert_eq!(rig.endpoint.status(), Status::RESET);
    assert!((0..3).all(|q| !rig.endpoint.queue_enabled(q)));
    rig.endpoint.resume();
    assert!(!calls(&mut rig).iter().any(|call| matches!(call, Call::Start(..))));
    error.to_string()
}

#[test]
fn a_paused_device_stops_its_queues_and_resumes_where_they_stood() {
    let mut rig = live(Features::NONE);
    calls(&mut rig);
    rig.endpoint.pause();
    rig.endpoint.pause();
    assert_eq!(calls(&mut rig), [Call::Stop(0), Call::Stop(1), Call::Stop(2)]);
    rig.endpoint.notify(0);
    assert_eq!(calls(&mut rig), []);
    rig.endpoint.resume();
    let calls = calls(&mut rig);
    assert!(
        matches!(calls[..], [Call::Start(0, _, STOPPED_AT), _, Call::Start(2, _, STOPPED_AT)]),
        "{calls:?}"
    );
}

#[test]
fn replacing_memory_quiesces_the_queues() {
    let mut rig = live(Features::NONE);
    calls(&mut rig);
    let other = Arc::new(MemoryMap::anonymous(4096).unwrap());
    rig.endpoint.replace_memory(other);
    let kinds: Vec<_> = calls(&mut rig).into_iter().map(|call| matches!(call, Call::Stop(_))).collect();
    assert_eq!(kinds, [true, true, true, false, false, false]);
}

#[test]
fn a_saved_device_goes_on_elsewhere_with_positions_and_wrap_counters() {
    let state = saved();
    assert_eq!(state.queues[1].position, Some(STOPPED_AT));
    let mut rig = in_reset();
    rig.endpoint.restore(&state).unwrap();
    assert_eq!(calls(&mut rig), [Call::Features(Features::RING_PACKED | Features::VERSION_1)], "paused");
    rig.endpoint.resume();
    let calls = calls(&mut rig);
    assert!(matches!(calls[..], [Call::Start(0, _, STOPPED_AT), _, _]), "{calls:?}");
    let again = rig.endpoint.save();
    assert_eq!(EndpointState { generation: state.generation, ..again }, state);
    assert_ne!(again.generation, state.generation, "the configuration may be another");
}

#[test]
fn a_device_saved_while_it_needs_a_reset_still_does() {
    let mut rig = live(Features::NONE);
    rig.endpoint.backend().host().events.needs_reset(&"a test");
    let state = rig.endpoint.save();
    let mut rig = in_reset();
    rig.endpoint.restore(&state).unwrap();
    rig.endpoint.resume();
    assert!(rig.endpoint.status().contains(Status::NEEDS_RESET));
    assert!(!calls(&mut rig).iter().any(|call| matches!(call, Call::Start(..))));
}

#[test]
fn state_is_restored_only_into_a_device_not_in_use() {
    assert_eq!(live(Features::NONE).endpoint.restore(&saved()), Err(RestoreError::InUse));
}

#[test]
fn row75_restored_status_and_features_are_checked() {
    for status in [2, 4, 5, 7, 8, 13, 16, 0x1f, 0x2f] {
        let message = refusal(&EndpointState { status, ..saved() });
        assert!(message.contains("never in status"), "{status}: {message}");
    }
    for features in [0, 1 << 1 | Features::VERSION_1.0, u64::MAX] {
        let message = refusal(&EndpointState { driver_features: features, ..saved() });
        assert!(message.contains("features do not suit"), "{features:#x}: {message}");
    }
    let state = saved();
    let mut rig = Rig::in_reset(Recorder::refusing(Refusal::Features)).unwrap();
    assert!(matches!(rig.endpoint.restore(&state), Err(RestoreError::Features(_))));
}

#[test]
fn row75_restored_queues_are_checked() {
    let with = |change: &dyn Fn(&mut EndpointState)| {
        let mut state = saved();
        change(&mut state);
        refusal(&state)
    };
    let at = |index| RingIndex { index, wrap: Wrap::Set };
    let outside = |available, used| Some(QueuePosition { available: at(available), used: at(used) });
    assert!(with(&|state| state.queues.truncate(2)).contains("2 queues saved, the device has 3"));
    assert!(with(&|state| state.queues.clear()).contains("0 queues saved"));
    for size in [0, 17, u16::MAX] {
        assert!(with(&|state| state.queues[0].size = size).contains("size is not valid"), "{size}");
    }
    assert!(with(&|state| state.queues[2].device_area += 2).contains("not aligned"));
    for position in [outside(16, 0), outside(0, 16), outside(u16::MAX, u16::MAX)] {
        let message = with(&|state| state.queues[0].position = position);
        assert_eq!(message, "queue 0: its position is outside of the ring: the saved state is damaged");
    }
    assert!(with(&|state| state.status = 3).contains("enabled before features"));
}

proptest! {
    #[test]
    fn row75_no_state_makes_restoring_panic(
        status in prop_oneof![prop::sample::select(vec![0u8, 1, 3, 11, 15, 79, 143]), any::<u8>()],
        driver_features in prop_oneof![Just(Features::VERSION_1.0), any::<u64>()],
        generation: u32,
        numbers in prop::collection::vec(any::<(u16, u64, u16, u16, bool)>(), 2..5),
    ) {
        let queues = numbers.into_iter().map(|(size, area, available, used, enabled)| {
            let at = |index| RingIndex { index, wrap: Wrap::Clear };
            let position = enabled.then_some(QueuePosition { available: at(available), used: at(used) });
            crate::QueueState { size, descriptor_area: area, driver_area: area, device_area: area, position }
        });
        let state = EndpointState { status, driver_features, generation, queues: queues.collect() };
        let mut rig = in_reset();
        let restored = rig.endpoint.restore(&state).is_ok();
        rig.endpoint.resume();
        prop_assert_eq!(rig.endpoint.status().0, if restored { status } else { 0 });
    }
}
