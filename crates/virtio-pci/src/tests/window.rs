//! Access by way of configuration space (virtio 1.3 §4.1.4.9).

use vioduct_spec::Status;
use vioduct_spec::pci::{cap, common_config as at};

use super::rig::{PLAIN, Rig};

impl Rig {
    fn window(&self) -> u64 {
        self.capability(cap::TYPE_PCI_CFG).unwrap().at
    }

    /// Points the window somewhere, field by field.
    fn aim(&mut self, bar: u8, offset: u64, len: u32) {
        let window = self.window();
        self.hosted.config_write(window + cap::BAR as u64, &[bar]);
        self.hosted.config_write(window + cap::LENGTH as u64, &len.to_le_bytes());
        self.hosted.config_write(window + cap::OFFSET as u64, &(offset as u32).to_le_bytes());
    }

    fn data(&self) -> u64 {
        self.window() + cap::PCI_CFG_DATA as u64
    }

    /// The capability as it is now.
    fn fields(&mut self) -> [u8; cap::PCI_CFG_DATA] {
        let at = self.window();
        let mut out = [0; cap::PCI_CFG_DATA];
        self.hosted.config_read(at, &mut out);
        out
    }

    fn look(&mut self) -> [u8; 4] {
        let at = self.data();
        let mut out = [0; 4];
        self.hosted.config_read(at, &mut out);
        out
    }

    fn poke(&mut self, data: [u8; 4]) {
        let at = self.data();
        self.hosted.config_write(at, &data);
    }
}

#[test]
fn s4_1_4_9_1_there_is_a_window_whose_fields_the_driver_writes() {
    let mut rig = Rig::new();
    rig.aim(5, 0x1234_5678, 2);
    let fields = rig.fields();
    assert_eq!(fields[cap::CFG_TYPE..], [5, 5, 0, 0, 0, 0x78, 0x56, 0x34, 0x12, 2, 0, 0, 0]);
    let window = rig.window();
    rig.hosted.config_write(window, &[0; 4]);
    assert_eq!(rig.fields(), fields, "the rest is read-only");
}

#[test]
fn s4_1_4_9_1_a_write_to_the_data_is_a_write_to_the_bar() {
    let mut rig = Rig::new();
    let (bar, start) = rig.structure(cap::TYPE_COMMON);
    rig.aim(bar, start + at::DEVICE_STATUS, 1);
    rig.poke([1, 0xee, 0xee, 0xee]);
    assert_eq!(rig.status(), Status::ACKNOWLEDGE, "the first byte only");
    rig.aim(bar, start + at::QUEUE_SELECT, 2);
    rig.poke([1, 0, 0xee, 0xee]);
    assert_eq!(rig.get(at::QUEUE_SELECT, 2), 1);
    rig.aim(bar, start + at::DEVICE_FEATURE_SELECT, 4);
    rig.poke([1, 2, 3, 4]);
    assert_eq!(rig.get(at::DEVICE_FEATURE_SELECT, 4), 0x0403_0201);
}

#[test]
fn s4_1_4_9_1_a_read_of_the_data_is_a_read_of_the_bar() {
    let mut rig = Rig::new();
    let (bar, start) = rig.structure(cap::TYPE_COMMON);
    rig.aim(bar, start + at::NUM_QUEUES, 2);
    assert_eq!(rig.look()[..2], [3, 0]);
    let (bar, start) = rig.structure(cap::TYPE_DEVICE);
    rig.aim(bar, start + 4, 4);
    assert_eq!(rig.look(), [5, 6, 7, 8]);
    rig.aim(bar, start + 1, 1);
    assert_eq!(rig.look()[..1], [2]);
}

#[test]
fn s4_1_4_9_1_the_window_reaches_isr_and_doorbells() {
    let mut rig = Rig::live(PLAIN);
    rig.offer(0);
    let (bar, start) = rig.structure(cap::TYPE_NOTIFY);
    rig.aim(bar, start, 2);
    rig.poke([0; 4]);
    assert_eq!(rig.used(0), 1);
    let (bar, start) = rig.structure(cap::TYPE_ISR);
    rig.aim(bar, start, 1);
    assert_eq!(rig.look()[0], 1);
    assert_eq!(rig.isr(), 0, "that was a read of the ISR");
}

#[test]
fn aiming_the_window_accesses_nothing() {
    let mut rig = Rig::live(PLAIN);
    rig.offer(0);
    rig.kick(0);
    let (bar, start) = rig.structure(cap::TYPE_ISR);
    rig.aim(bar, start, 1);
    rig.fields();
    assert_eq!(rig.isr(), 1);
}

/// Hostile peers, row 16, by another door.
#[test]
fn windows_to_nowhere_do_nothing() {
    let mut rig = Rig::new();
    let (bar, start) = rig.structure(cap::TYPE_COMMON);
    let status = start + at::DEVICE_STATUS;
    for (bar, offset, len) in [
        (bar, status, 0),
        (bar, status, 3),
        (bar, status, 8),
        (bar, status, u32::MAX),
        (1, status, 1),
        (0xff, status, 1),
    ] {
        rig.aim(bar, offset, len);
        rig.poke([1, 0, 0, 0]);
        rig.look();
        assert_eq!(rig.status(), Status::RESET, "{len} bytes at {offset:#x} of BAR{bar}");
    }
    rig.aim(bar, 0xffff_ffff, 4);
    rig.poke([1; 4]);
    assert_eq!(rig.look(), [0xff; 4]);
}
