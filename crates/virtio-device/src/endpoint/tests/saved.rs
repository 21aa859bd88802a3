use super::{Call, Recorder, STOPPED_AT, calls, in_reset, live};
use crate::endpoint::RestoreError;
use crate::inline::Inline;
use crate::model::{DeviceInfo, DeviceModel, Handlers, StateError};
use crate::rig::Rig;
use proptest::prelude::*;
use vioduct_spec::{Features, Status};
use vioduct_state::{Kind, LoadError, Writer};

fn bytes(rig: &mut Rig<Recorder>) -> Vec<u8> {
    let mut writer = Writer::default();
    rig.endpoint.save_to(&mut writer).unwrap();
    writer.into_bytes()
}

fn saved() -> Vec<u8> {
    bytes(&mut live(Features::RING_PACKED))
}

/// Restores into a fresh device; that fails, and leaves it in reset.
fn refusal(rig: &mut Rig<Recorder>, saved: &[u8]) -> RestoreError {
    let error = rig.endpoint.restore_from(saved).unwrap_err();
    assert_eq!(rig.endpoint.status(), Status::RESET, "{error}");
    rig.endpoint.resume();
    assert!(!calls(rig).iter().any(|call| matches!(call, Call::Start(..))), "{error}");
    error
}

#[test]
fn a_saved_device_goes_on_elsewhere_from_its_bytes() {
    let mut from = live(Features::RING_PACKED);
    let saved = bytes(&mut from);
    let mut to = in_reset();
    to.endpoint.restore_from(&saved).unwrap();
    assert_eq!(calls(&mut to), [Call::Features(Features::RING_PACKED | Features::VERSION_1)], "paused");
    let (mut here, there) = (from.endpoint.save(), to.endpoint.save());
    here.generation += 1;
    assert_eq!(here, there);
    to.endpoint.resume();
    let calls = calls(&mut to);
    assert!(matches!(calls[..], [Call::Start(0, _, STOPPED_AT), _, _]), "{calls:?}");
}

#[test]
fn row75_bytes_of_another_length_are_refused() {
    let saved = saved();
    let mut rig = in_reset();
    for len in 0..saved.len() {
        assert_eq!(refusal(&mut rig, &saved[..len]), RestoreError::Form(LoadError::Truncated), "{len}");
    }
    let longer = [&saved[..], &[0]].concat();
    assert_eq!(refusal(&mut rig, &longer), RestoreError::Form(LoadError::Trailing(1)));
}

#[test]
fn row75_bytes_of_another_device_are_refused() {
    let with = |change: &dyn Fn(&mut DeviceInfo)| {
        let mut recorder = Recorder::new();
        change(&mut recorder.info);
        refusal(&mut Rig::in_reset(recorder).unwrap(), &saved())
    };
    let error = with(&|info| info.device_type = 62);
    assert_eq!(error, RestoreError::DeviceType { saved: 63, device: 62 });
    assert_eq!(with(&|info| info.config_len = 4), RestoreError::ConfigLen { saved: 8, device: 4 });
    let error = with(&|info| info.queue_sizes.push(16));
    assert_eq!(error, RestoreError::QueueCount { saved: 3, count: 4 });
    let error = with(&|info| info.queue_sizes[2] = 32);
    assert!(matches!(error, RestoreError::Queue { queue: 2, .. }), "{error}");
    let mut writer = Writer::default();
    writer.block(Kind(*b"VDEV"), 2, |_| ());
    let error = refusal(&mut in_reset(), &writer.into_bytes()).to_string();
    assert!(error.contains("VDEV of the saved state has version 2"), "{error}");
}

#[test]
fn a_device_in_use_is_left_alone() {
    let mut rig = live(Features::NONE);
    calls(&mut rig);
    assert_eq!(rig.endpoint.restore_from(&saved()), Err(RestoreError::InUse));
    assert_eq!(calls(&mut rig), []);
    assert!(rig.endpoint.queue_enabled(0));
}

/// A model that takes one byte, of which the upper half is 0.
struct Nibble(u8);

impl DeviceModel for Nibble {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::new(63, "nibble", Vec::new())
    }
    fn handlers(&mut self, _negotiated: Features) -> Handlers {
        Vec::new()
    }
    fn reset(&mut self) {
        self.0 = 0;
    }
    fn save(&self) -> Vec<u8> {
        vec![self.0]
    }
    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        let [value @ 0..=15] = state else { return Err(StateError("no nibble".into())) };
        self.0 = *value;
        Ok(())
    }
}

#[test]
fn the_models_state_goes_along_and_is_its_own_to_check() {
    for (value, taken) in [(9, true), (16, false)] {
        let mut from = Rig::new(Inline::new(Nibble(value)), Features::NONE).unwrap();
        let mut writer = Writer::default();
        from.endpoint.save_to(&mut writer).unwrap();
        let mut to = Rig::in_reset(Inline::new(Nibble(1))).unwrap();
        let restored = to.endpoint.restore_from(&writer.into_bytes());
        if taken {
            assert_eq!((restored, to.endpoint.backend().model().0), (Ok(()), value));
        } else {
            let reason = "the saved state does not suit the device: no nibble".into();
            assert_eq!(restored, Err(RestoreError::Model(reason)));
            assert_eq!((to.endpoint.status(), to.endpoint.backend().model().0), (Status::RESET, 0));
        }
    }
}

proptest! {
    #[test]
    fn row75_no_bytes_make_restoring_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut damaged = saved();
        for (at, byte) in changes {
            *at.get_mut(&mut damaged) = byte;
        }
        let mut rig = in_reset();
        let restored = rig.endpoint.restore_from(&damaged).is_ok();
        rig.endpoint.resume();
        prop_assert!(restored || rig.endpoint.status() == Status::RESET);
    }
}
