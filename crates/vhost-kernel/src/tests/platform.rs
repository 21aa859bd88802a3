//! `ACCESS_PLATFORM`: the kernel asks for translations, and gets those of a guest's own addresses (virtio 1.3 §6).

use super::fake::{Device, Fake, Idle, bring_up, no_memory, taps, with_memory};
use crate::backend::{KernelBackend, Service};
use crate::kind::{Framing, Kind};
use std::thread::yield_now;
use std::time::{Duration, Instant};
use vioduct_spec::{Features, Status};
use vioduct_virtio_device::{Backend, Inline};

/// A card that offers it, whether or not the kernel does.
fn card(fake: &Fake) -> Device<Idle> {
    let inner = Inline::new(Idle { queues: 2, features: Features::NONE }).with_access_platform();
    let kind = Kind::Net { taps: taps(1), framing: Framing::Header };
    with_memory(KernelBackend::over(inner, kind, Ok(vec![fake.node()]), no_memory()))
}

fn bring_up_with(rig: &mut Device<Idle>, features: Features) {
    rig.negotiate(features).unwrap();
    (0..2).for_each(|q| rig.enable_queue(q).unwrap());
    rig.write_status(Status::DRIVER_OK).unwrap();
}

fn translations(fake: &Fake) -> Vec<String> {
    let of_translations = |request: &String| request.starts_with("Update") || request.starts_with("Inv");
    fake.asked().into_iter().filter(of_translations).collect()
}

const UPDATE: &str = "Update 0x0+0x400000";
const INVALIDATE: &str = "Invalidate 0x0+0x400000";

#[test]
fn all_memory_is_translated_before_a_ring_is_told() {
    let fake = Fake::new();
    let mut rig = card(&fake);
    fake.asked();
    bring_up_with(&mut rig, Features::ACCESS_PLATFORM);
    let asked = fake.asked();
    let expected =
        ["GetBackendFeatures", "SetBackendFeatures(2)", "SetFeatures 0x300000000", "SetMemTable 0x400000"];
    assert_eq!(asked[..4], expected);
    assert_eq!(asked[4], UPDATE);
    assert!(asked[5].starts_with("SetVringNum") && !asked[5..].contains(&UPDATE.to_owned()), "{asked:?}");
    assert_eq!(rig.endpoint.backend().service(), Service::Kernel);
}

#[test]
fn rings_are_where_the_driver_has_them() {
    let fake = Fake::new();
    let mut rig = card(&fake);
    bring_up_with(&mut rig, Features::ACCESS_PLATFORM);
    let layout = rig.queue(1).unwrap().layout();
    let areas = fake.state().areas;
    let driver = [layout.descriptor_area, layout.driver_area, layout.device_area].map(|area| area.0);
    assert_eq!([areas.descriptor, areas.driver, areas.device], driver);
}

#[test]
fn translations_end_with_the_last_queue() {
    let fake = Fake::new();
    let mut rig = card(&fake);
    bring_up_with(&mut rig, Features::ACCESS_PLATFORM);
    fake.asked();
    rig.endpoint.backend_mut().stop_queue(0).unwrap();
    assert_eq!(translations(&fake), [""; 0]);
    rig.endpoint.backend_mut().stop_queue(1).unwrap();
    assert_eq!(translations(&fake), [INVALIDATE]);
}

/// The kernel forgets them with new features, and asks for them from then on whatever those are.
#[test]
fn the_next_driver_has_translations_too() {
    let fake = Fake::new();
    let mut rig = card(&fake);
    for features in [Features::ACCESS_PLATFORM, Features::ACCESS_PLATFORM, Features::NONE] {
        bring_up_with(&mut rig, features);
        assert_eq!(translations(&fake), [UPDATE], "{features}");
        rig.endpoint.pause();
        rig.memory.start_log();
        rig.endpoint.resume();
        rig.memory.stop_log();
        assert_eq!(translations(&fake), [INVALIDATE, UPDATE], "{features}");
        rig.endpoint.reset();
        assert_eq!(translations(&fake), [INVALIDATE], "{features}");
    }
}

/// The features are told anew when a log begins, with a queue at work.
#[test]
fn a_queue_that_comes_after_the_log_has_all_translated_again() {
    let fake = Fake::new();
    let mut rig = card(&fake);
    rig.negotiate(Features::ACCESS_PLATFORM).unwrap();
    rig.enable_queue(0).unwrap();
    rig.write_status(Status::DRIVER_OK).unwrap();
    assert_eq!(translations(&fake), [UPDATE]);
    rig.memory.start_log();
    rig.enable_queue(1).unwrap();
    let asked = fake.asked();
    let place = |words: &str| asked.iter().position(|request| request.starts_with(words));
    assert!(place("SetFeatures").is_some_and(|features| Some(features) < place(UPDATE)), "{asked:?}");
}

#[test]
fn a_kernel_without_it_has_it_not_offered_and_one_without_messages_does_not_serve() {
    let fake = Fake::new();
    fake.state().features = Features::VERSION_1;
    assert!(!card(&fake).endpoint.offered().contains(Features::ACCESS_PLATFORM));
    let fake = Fake::new();
    fake.state().interface = 0;
    let mut rig = card(&fake);
    assert!(rig.endpoint.offered().contains(Features::ACCESS_PLATFORM));
    bring_up_with(&mut rig, Features::ACCESS_PLATFORM);
    assert_eq!(rig.endpoint.backend().service(), Service::Process);
    assert!(!rig.endpoint.status().contains(Status::NEEDS_RESET));
}

#[test]
fn refused_translations_leave_the_device_working() {
    let fake = Fake::new();
    fake.refuse(&["Update"]);
    let mut rig = card(&fake);
    bring_up_with(&mut rig, Features::ACCESS_PLATFORM);
    assert_eq!(rig.endpoint.backend().service(), Service::Process);
    assert!(!rig.endpoint.status().contains(Status::NEEDS_RESET));
}

#[test]
fn without_it_nothing_is_translated() {
    let fake = Fake::new();
    let mut rig = card(&fake);
    bring_up(&mut rig);
    assert_eq!(translations(&fake), [""; 0]);
}

#[test]
fn a_question_is_answered_with_its_region_or_with_a_reset() {
    let fake = Fake::new();
    let mut rig = card(&fake);
    bring_up_with(&mut rig, Features::ACCESS_PLATFORM);
    translations(&fake);
    let wait = |what: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !what() {
            assert!(start.elapsed() < Duration::from_secs(20), "nothing happens");
            yield_now();
        }
    };
    fake.miss(0x1234);
    wait(&|| translations(&fake) == [UPDATE]);
    assert!(!rig.endpoint.status().contains(Status::NEEDS_RESET));
    fake.miss(1 << 40);
    wait(&|| rig.endpoint.status().contains(Status::NEEDS_RESET));
    assert_eq!(translations(&fake), [""; 0]);
}
