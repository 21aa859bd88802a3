//! A vendor-specific capability that stands for bytes of a BAR, as virtio's PCI configuration access capability does
//! (virtio 1.3 §4.1.4.9).

use vioduct_pci::{BarSpec, Capability, FunctionSpec, MsixSpec};

use crate::probe::{Event, Rig};

const WINDOW: u64 = 0x48;
const DATA: u64 = WINDOW + 16;

fn rig() -> Rig {
    let writable = [0, 0xff, 0, 0, 0].into_iter().chain([0xff; 12]).collect();
    let spec = FunctionSpec::new(1, 1, 0)
        .with_bar(BarSpec::memory32(4, 0x1000))
        .with_capability(Capability::vendor([0; 5]))
        .with_capability(Capability::Vendor { body: vec![0; 17], writable })
        .with_msix(MsixSpec::in_bar(1, 4, 0x800));
    Rig::new(spec)
}

fn aim(rig: &mut Rig, bar: u8, offset: u32, len: u32) {
    rig.hosted.config_write(WINDOW + 4, &[bar]);
    rig.hosted.config_write(WINDOW + 8, &offset.to_le_bytes());
    rig.hosted.config_write(WINDOW + 12, &len.to_le_bytes());
    assert_eq!(rig.hosted.function_mut().take_events(), [], "aiming is no access");
}

#[test]
fn reading_the_data_reads_the_bar() {
    let mut rig = rig();
    aim(&mut rig, 4, 0x10, 2);
    assert_eq!(rig.config(DATA, 4), [0x5a, 0x5a, 0, 0]);
    let read = Event::Read { bar: 4, offset: 0x10, len: 2 };
    assert_eq!(rig.hosted.function_mut().take_events(), [read]);
}

#[test]
fn writing_the_data_writes_the_bar() {
    let mut rig = rig();
    aim(&mut rig, 4, 0x20, 4);
    rig.hosted.config_write(DATA, &[1, 2, 3, 4]);
    let write = Event::Write { bar: 4, offset: 0x20, data: vec![1, 2, 3, 4] };
    assert_eq!(rig.hosted.function_mut().take_events(), [write]);
}

#[test]
fn the_msix_table_is_reached_through_the_window_too() {
    let mut rig = rig();
    aim(&mut rig, 4, 0x80c, 4);
    assert_eq!(rig.config(DATA, 4), [1, 0, 0, 0]);
    rig.hosted.config_write(DATA, &[0; 4]);
    assert_eq!(rig.bar(4, 0x80c, 4), [0; 4]);
}

#[test]
fn a_window_aimed_anywhere_else_touches_nothing() {
    let mut rig = rig();
    for (bar, offset, len) in
        [(4, 0, 0), (4, 0, 5), (4, 0, u32::MAX), (4, 0x1000, 4), (4, u32::MAX, 4), (3, 0, 4), (255, 0, 1)]
    {
        aim(&mut rig, bar, offset, len);
        rig.hosted.config_write(DATA, &[1, 2, 3, 4]);
        rig.config(DATA, 4);
        assert_eq!(rig.hosted.function_mut().take_events(), [], "BAR{bar} {offset:#x} {len}");
    }
}

#[test]
fn other_parts_of_the_list_are_plain_bytes() {
    let mut rig = rig();
    aim(&mut rig, 4, 0, 4);
    rig.config(0, 0x48);
    rig.config(WINDOW, 16);
    rig.config(WINDOW + 20, 0x40);
    assert_eq!(rig.hosted.function_mut().take_events(), []);
}
