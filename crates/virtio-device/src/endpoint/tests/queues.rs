use super::{Call, Recorder, Refusal, at, calls, features_ok, live};
use crate::endpoint::{Area, Half};
use crate::rig::Rig;
use proptest::prelude::*;
use vioduct_spec::{Features, Status};
use vioduct_virtqueue::QueuePosition;

/// Writes every register of queue `q`.
fn configure(rig: &mut Rig<Recorder>, q: u16, size: u16, address: u64) {
    rig.endpoint.set_queue_size(q, size);
    for area in [Area::Descriptor, Area::Driver, Area::Device] {
        rig.endpoint.set_queue_address(q, area, Half::Low, address as u32);
        rig.endpoint.set_queue_address(q, area, Half::High, (address >> 32) as u32);
    }
}

fn registers(rig: &Rig<Recorder>, q: u16) -> [u64; 4] {
    let address = |area| rig.endpoint.queue_address(q, area);
    [
        rig.endpoint.queue_size(q).into(),
        address(Area::Descriptor),
        address(Area::Driver),
        address(Area::Device),
    ]
}

fn try_enable(features: Features, size: u16, address: u64) -> bool {
    let mut rig = features_ok(features);
    configure(&mut rig, 0, size, address);
    rig.endpoint.enable_queue(0);
    rig.endpoint.queue_enabled(0)
}

#[test]
fn row14_the_configuration_of_an_enabled_queue_is_frozen() {
    for mut rig in [features_ok(Features::NONE), live(Features::NONE)] {
        if rig.endpoint.status().contains(Status::DRIVER_OK) {
            assert!(rig.endpoint.queue_enabled(0));
        } else {
            rig.enable_queue(0).unwrap();
        }
        calls(&mut rig);
        let before = registers(&rig, 0);
        configure(&mut rig, 0, 4, 0x5000_0000_1000);
        rig.endpoint.enable_queue(0);
        assert_eq!(registers(&rig, 0), before);
        assert_eq!(calls(&mut rig), [], "nor is it started again");
    }
}

#[test]
fn s3_1_1_queues_are_configured_only_between_features_ok_and_failure() {
    let ready = Status::ACKNOWLEDGE | Status::DRIVER | Status::FEATURES_OK;
    let allowed = [ready, ready | Status::DRIVER_OK];
    let refused =
        [Status::RESET, Status::ACKNOWLEDGE, Status::ACKNOWLEDGE | Status::DRIVER, ready | Status::FAILED];
    for (statuses, expected) in [(&allowed[..], [4, 0x1000, 0x1000, 0x1000]), (&refused[..], [16, 0, 0, 0])] {
        for status in statuses {
            let mut rig = at(*status);
            configure(&mut rig, 0, 4, 0x1000);
            rig.endpoint.enable_queue(0);
            assert_eq!(registers(&rig, 0), expected, "{status}");
            assert_eq!(rig.endpoint.queue_enabled(0), expected[0] == 4, "{status}");
        }
    }
}

#[test]
fn row16_queue_numbers_beyond_the_last_read_as_nothing() {
    let mut rig = live(Features::RING_RESET);
    calls(&mut rig);
    for q in [3, 4, 0x7fff, u16::MAX] {
        configure(&mut rig, q, 4, 0x1000);
        rig.endpoint.enable_queue(q);
        rig.endpoint.disable_queue(q);
        rig.endpoint.reset_queue(q);
        rig.endpoint.notify(q.into());
        rig.endpoint.set_queue_kick(q, None);
        assert_eq!(rig.endpoint.queue_size_max(q), 0);
        assert_eq!(registers(&rig, q), [0; 4]);
        assert!(!rig.endpoint.queue_enabled(q) && !rig.endpoint.queue_resetting(q));
    }
    assert_eq!(calls(&mut rig), []);
}

#[test]
fn row17_a_queue_of_an_invalid_size_is_not_enabled() {
    for size in [0, 3, 17, 32, 0x8000, u16::MAX] {
        assert!(!try_enable(Features::NONE, size, 0x1000), "split {size}");
    }
    for size in [1, 2, 8, 16] {
        assert!(try_enable(Features::NONE, size, 0x1000), "split {size}");
    }
    for size in [0, 17, u16::MAX] {
        assert!(!try_enable(Features::RING_PACKED, size, 0x1000), "packed {size}");
    }
    for size in [1, 3, 7, 16] {
        assert!(try_enable(Features::RING_PACKED, size, 0x1000), "packed {size}");
    }
}

#[test]
fn s2_7_a_queue_whose_areas_are_not_aligned_is_not_enabled() {
    for area in [Area::Descriptor, Area::Driver, Area::Device] {
        let mut rig = features_ok(Features::NONE);
        configure(&mut rig, 0, 16, 0x1000);
        rig.endpoint.set_queue_address(0, area, Half::Low, 0x1001);
        rig.endpoint.enable_queue(0);
        assert!(!rig.endpoint.queue_enabled(0), "{area:?}");
    }
    for (area, align) in [(Area::Descriptor, 16), (Area::Driver, 2), (Area::Device, 4)] {
        let mut rig = features_ok(Features::NONE);
        configure(&mut rig, 0, 16, 0x1000);
        rig.endpoint.set_queue_address(0, area, Half::Low, 0x1000 + align);
        rig.endpoint.enable_queue(0);
        assert!(rig.endpoint.queue_enabled(0), "{area:?} at a multiple of {align}");
    }
}

#[test]
fn the_halves_of_an_address_are_written_one_by_one() {
    let mut rig = features_ok(Features::NONE);
    rig.endpoint.set_queue_address(1, Area::Driver, Half::High, 0xdead);
    rig.endpoint.set_queue_address(1, Area::Driver, Half::Low, 0xbeef);
    assert_eq!(registers(&rig, 1), [8, 0, 0xdead_0000_beef, 0]);
}

#[test]
fn notifications_reach_running_queues_by_their_full_number() {
    let mut rig = live(Features::NONE);
    calls(&mut rig);
    for word in [1, 0x1_0001, u32::MAX, 3] {
        rig.endpoint.notify(word);
    }
    assert_eq!(calls(&mut rig), [Call::Kick(1)]);
}

#[test]
fn s2_9_with_notification_data_the_number_is_in_the_low_half() {
    let mut rig = live(Features::NOTIFICATION_DATA);
    calls(&mut rig);
    for word in [0x8005_0002, 0x0001_0003, 0xffff_0000] {
        rig.endpoint.notify(word);
    }
    assert_eq!(calls(&mut rig), [Call::Kick(2), Call::Kick(0)]);
}

#[test]
fn s2_6_1_a_reset_queue_is_stopped_and_has_its_defaults_again() {
    let mut rig = live(Features::RING_RESET);
    calls(&mut rig);
    rig.endpoint.reset_queue(0);
    assert_eq!(calls(&mut rig), [Call::Stop(0)], "the other queues go on");
    assert_eq!(registers(&rig, 0), [16, 0, 0, 0]);
    assert!(!rig.endpoint.queue_enabled(0) && !rig.endpoint.queue_resetting(0));
    rig.endpoint.notify(0);
    assert_eq!(calls(&mut rig), [], "it executes nothing");
    rig.enable_queue(0).unwrap();
    let calls = calls(&mut rig);
    assert!(matches!(calls[..], [Call::Start(0, _, QueuePosition::START)]), "{calls:?}");
}

#[test]
fn s2_6_1_without_ring_reset_no_queue_is_reset() {
    let mut rig = live(Features::NONE);
    calls(&mut rig);
    rig.endpoint.reset_queue(0);
    assert!(rig.endpoint.queue_enabled(0));
    assert_eq!(calls(&mut rig), []);
}

#[test]
fn s2_6_1_a_queue_reset_that_fails_reads_as_going_on() {
    let mut rig = live(Features::RING_RESET);
    rig.endpoint.backend_mut().refusal = Refusal::Stop;
    rig.endpoint.reset_queue(0);
    assert!(rig.endpoint.queue_resetting(0) && !rig.endpoint.queue_enabled(0));
    assert!(rig.endpoint.status().contains(Status::NEEDS_RESET));
    rig.endpoint.backend_mut().refusal = Refusal::Nothing;
    rig.endpoint.reset_queue(0);
    assert!(!rig.endpoint.queue_resetting(0));
    assert_eq!(registers(&rig, 0), [16, 0, 0, 0]);
}

/// Writing 0 to QueueReady: the queue stops, keeps its registers, and they can be changed.
#[test]
fn s4_2_2_2_a_disabled_queue_is_stopped_and_can_be_configured() {
    let mut rig = live(Features::NONE);
    calls(&mut rig);
    let before = registers(&rig, 1);
    rig.endpoint.disable_queue(1);
    assert_eq!((calls(&mut rig), registers(&rig, 1)), (vec![Call::Stop(1)], before));
    rig.endpoint.set_queue_size(1, 4);
    rig.endpoint.enable_queue(1);
    let calls = calls(&mut rig);
    assert!(
        matches!(calls[..], [Call::Start(1, layout, QueuePosition::START)] if layout.size == 4),
        "{calls:?}"
    );
}

#[derive(Clone, Debug)]
enum Access {
    Status(u8),
    Features(u32, u32),
    Size(u16, u16),
    Address(u16, u32),
    Enable(u16),
    Disable(u16),
    Reset(u16),
    Notify(u32),
    Config(u64, usize),
    PauseAndResume,
}

fn access() -> impl Strategy<Value = Access> {
    let status = prop_oneof![3 => prop::sample::select(vec![1u8, 3, 11, 15]), 1 => any::<u8>()];
    let word = prop_oneof![Just(1u32), any::<u32>()];
    let queue = || 0u16..5;
    prop_oneof![
        3 => status.prop_map(Access::Status),
        1 => (0u32..3, word).prop_map(|(select, word)| Access::Features(select, word)),
        1 => (queue(), prop_oneof![Just(16u16), any::<u16>()]).prop_map(|(q, size)| Access::Size(q, size)),
        1 => (queue(), any::<u32>()).prop_map(|(q, word)| Access::Address(q, word)),
        2 => queue().prop_map(Access::Enable),
        1 => queue().prop_map(Access::Disable),
        1 => queue().prop_map(Access::Reset),
        1 => any::<u32>().prop_map(Access::Notify),
        1 => (any::<u64>(), 0usize..16).prop_map(|(offset, len)| Access::Config(offset, len)),
        1 => Just(Access::PauseAndResume),
    ]
}

fn apply(rig: &mut Rig<Recorder>, access: &Access) {
    let endpoint = &mut rig.endpoint;
    match *access {
        Access::Status(value) => {
            endpoint.write_status(value);
        }
        Access::Features(select, word) => endpoint.set_driver_features(select, word),
        Access::Size(q, size) => endpoint.set_queue_size(q, size),
        Access::Address(q, word) => endpoint.set_queue_address(q, Area::Device, Half::Low, word),
        Access::Enable(q) => endpoint.enable_queue(q),
        Access::Disable(q) => endpoint.disable_queue(q),
        Access::Reset(q) => endpoint.reset_queue(q),
        Access::Notify(word) => endpoint.notify(word),
        Access::Config(offset, len) => {
            endpoint.read_config(offset, &mut vec![0; len]);
            endpoint.write_config(offset, &vec![0; len]);
        }
        Access::PauseAndResume => {
            endpoint.pause();
            endpoint.resume();
        }
    }
}

proptest! {
    /// Whatever a driver does, a back-end sees starts and stops in turn, each within one life of its features.
    #[test]
    fn row15_no_order_of_accesses_misuses_the_back_end(accesses in prop::collection::vec(access(), 0..60)) {
        let mut rig = super::in_reset();
        let (mut negotiated, mut running) = (false, [false; 3]);
        for access in &accesses {
            apply(&mut rig, access);
            for call in calls(&mut rig) {
                match call {
                    Call::Features(_) => negotiated = true,
                    Call::Start(q, ..) => {
                        prop_assert!(negotiated && !running[usize::from(q)]);
                        running[usize::from(q)] = true;
                    }
                    Call::Stop(q) => prop_assert!(std::mem::replace(&mut running[usize::from(q)], false)),
                    Call::Kick(q) => prop_assert!(running[usize::from(q)]),
                    Call::Write(offset, data) => prop_assert!(offset + data.len() <= 8),
                    Call::Reset => (negotiated, running) = (false, [false; 3]),
                }
            }
        }
    }
}
