use super::{Call, at, calls, features_ok, live};
use crate::model::ConfigAccess;
use vioduct_spec::{Features, Status};

#[test]
fn row36_configuration_reads_are_bounded() {
    let mut rig = live(Features::NONE);
    let mut read = |offset: u64| {
        let mut out = [0xee; 4];
        rig.endpoint.read_config(offset, &mut out);
        out
    };
    assert_eq!(read(0), [1, 2, 3, 4]);
    assert_eq!(read(6), [7, 8, 0, 0], "zero beyond the end");
    for offset in [8, 9, u64::from(u32::MAX), u64::MAX - 3, u64::MAX] {
        assert_eq!(read(offset), [0; 4], "{offset:#x}");
    }
}

#[test]
fn row36_configuration_writes_are_bounded() {
    let mut rig = live(Features::NONE);
    calls(&mut rig);
    rig.endpoint.write_config(4, &[9; 4]);
    for (offset, len) in [(5, 4), (8, 1), (u64::MAX, 1), (u64::MAX - 3, 8), (0, 9)] {
        rig.endpoint.write_config(offset, &vec![9; len]);
    }
    assert_eq!(calls(&mut rig), [Call::Write(4, vec![9; 4])]);
}

#[test]
fn s2_5_a_read_only_configuration_space_is_not_written() {
    let mut rig = live(Features::NONE);
    rig.endpoint.info.config_access = ConfigAccess::ReadOnly;
    calls(&mut rig);
    rig.endpoint.write_config(0, &[9]);
    assert_eq!(calls(&mut rig), []);
}

#[test]
fn s2_5_2_configuration_is_readable_before_features_ok_and_written_only_by_a_driver() {
    for status in [Status::RESET, Status::ACKNOWLEDGE] {
        let mut rig = at(status);
        let mut out = [0; 2];
        rig.endpoint.read_config(1, &mut out);
        assert_eq!(out, [2, 3]);
        rig.endpoint.write_config(0, &[9]);
        assert_eq!(calls(&mut rig), [], "{status}");
    }
}

/// Also if the device does not say so: between two reads of a driver, a field changes.
#[test]
fn s2_5_the_generation_changes_when_the_driver_could_see_a_mixture() {
    let mut rig = live(Features::NONE);
    let mut out = [0; 8];
    rig.endpoint.read_config(0, &mut out);
    let generation = rig.endpoint.generation();
    rig.endpoint.read_config(0, &mut out);
    assert_eq!(rig.endpoint.generation(), generation, "nothing changed");
    rig.endpoint.read_config(0, &mut out[..4]);
    rig.endpoint.backend_mut().config = vec![9; 8];
    rig.endpoint.read_config(4, &mut out[4..]);
    assert_eq!(out, [1, 2, 3, 4, 9, 9, 9, 9]);
    assert_ne!(rig.endpoint.generation(), generation);
}

#[test]
fn s2_5_a_change_that_the_device_reports_is_notified_and_moves_the_generation() {
    let rig = live(Features::NONE);
    let generation = rig.endpoint.generation();
    rig.endpoint.backend().host().events.config_changed();
    assert_ne!(rig.endpoint.generation(), generation);
    assert_eq!(rig.notifications.config(), 1);
    let rig = features_ok(Features::NONE);
    rig.endpoint.backend().host().events.config_changed();
    assert_eq!(rig.notifications.config(), 0, "no driver is ready for it");
}
