//! Tests of the window: a driver end over it, and every access that a driver should not make.
//!
//! They hold `unsafe` because a driver end is made over raw memory.
#![allow(unsafe_code)]

use crate::{InterruptLine, Level, Mmio, VENDOR_ID};
use proptest::prelude::*;
use std::sync::{Arc, Mutex};
use vioduct_spec::{Features, Status, mmio};
use vioduct_virtio_device::{
    ConfigAccess, DeviceInfo, DeviceModel, Fault, Handlers, Inline, Io, MemoryMap, QueueHandler, Wake,
};
use vioduct_virtqueue::{Buffer, DriverQueue, IoAddr, Kick, Memory, RingFormat, RingMemory};

/// Answers each buffer with four bytes, and shows eight bytes of configuration.
struct Answering;

impl DeviceModel for Answering {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            features: Features::bit(5),
            config_len: 8,
            config_access: ConfigAccess::Writable,
            ..DeviceInfo::new(63, "answering", vec![16, 8])
        }
    }
    fn read_config(&self, offset: usize, out: &mut [u8]) {
        (0..).zip(out).for_each(|(place, byte)| *byte = 0x10 + (offset + place) as u8);
    }
    fn handlers(&mut self, _negotiated: Features) -> Handlers {
        vec![(0..2, Box::new(Answering))]
    }
}

impl QueueHandler for Answering {
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        let Wake::Kick(q) = why else { return Ok(()) };
        io.serve(q, |chain| chain.writer().write_all(b"pong").map(|()| 4))
    }
}

/// Remembers the levels that a line was set to.
#[derive(Clone, Default)]
struct Line(Arc<Mutex<Vec<Level>>>);

impl InterruptLine for Line {
    fn set(&self, level: Level) {
        self.0.lock().unwrap().push(level);
    }
}

struct Machine {
    window: Mmio<Inline<Answering>>,
    line: Line,
    memory: Arc<MemoryMap>,
}

const RING: u64 = 0x1000;
const BUFFER: u64 = 0x8000;

impl Machine {
    fn new() -> Self {
        let memory = Arc::new(MemoryMap::anonymous(0x10000).unwrap());
        let line = Line::default();
        let window = Mmio::new(Inline::auto(Answering), memory.clone(), Box::new(line.clone()));
        Self { window, line, memory }
    }

    fn read(&mut self, offset: u64) -> u32 {
        let mut word = [0xee; 4];
        self.window.read(offset, &mut word);
        u32::from_le_bytes(word)
    }

    fn write(&mut self, offset: u64, value: u32) {
        self.window.write(offset, &value.to_le_bytes());
    }

    /// The status values that bring a device up, and its features.
    fn negotiate(&mut self, features: Features) {
        for status in [1, 3] {
            self.write(mmio::STATUS, status);
        }
        for select in [0, 1] {
            self.write(mmio::DRIVER_FEATURES_SEL, select);
            self.write(mmio::DRIVER_FEATURES, (features | Features::VERSION_1).word(select));
        }
        self.write(mmio::STATUS, 11);
        assert_eq!(self.read(mmio::STATUS), 11);
    }

    fn set_up_queue(&mut self, queue: u32, size: u16) -> DriverQueue<()> {
        let at = IoAddr(RING);
        let len = RingMemory::len_for(RingFormat::Split, size);
        self.memory.write(at, &vec![0; len]).unwrap();
        let host = self.memory.region(at).unwrap().translate(at, len as u64).unwrap();
        // SAFETY: zeroed bytes of a mapping that lives as long as the machine, which outlives its queues in every test.
        let ring = unsafe { RingMemory::new(host, at, RingFormat::Split, size) }.unwrap();
        let layout = ring.layout();
        self.write(mmio::QUEUE_SEL, queue);
        self.write(mmio::QUEUE_SIZE, size.into());
        for (low, area) in [
            (mmio::QUEUE_DESC_LOW, layout.descriptor_area),
            (mmio::QUEUE_DRIVER_LOW, layout.driver_area),
            (mmio::QUEUE_DEVICE_LOW, layout.device_area),
        ] {
            self.write(low, area.0 as u32);
            self.write(low + 4, (area.0 >> 32) as u32);
        }
        self.write(mmio::QUEUE_READY, 1);
        DriverQueue::new(ring, None, Features::VERSION_1).unwrap()
    }

    /// A device with queue 0 running.
    fn live(features: Features) -> (Self, DriverQueue<()>) {
        let mut machine = Self::new();
        machine.negotiate(features);
        let queue = machine.set_up_queue(0, 16);
        machine.write(mmio::STATUS, 15);
        (machine, queue)
    }

    fn request(&mut self, queue: &mut DriverQueue<()>, notification: u32) {
        queue.add(&[], &[Buffer { addr: IoAddr(BUFFER), len: 4 }], ()).unwrap();
        assert_eq!(queue.kick_prepare(), Kick::Needed);
        self.write(mmio::QUEUE_NOTIFY, notification);
    }

    fn levels(&self) -> Vec<Level> {
        std::mem::take(&mut self.line.0.lock().unwrap())
    }
}

#[test]
fn s4_2_2_1_magic_version_type_and_vendor_read_as_defined() {
    let mut machine = Machine::new();
    let read = [mmio::MAGIC_VALUE, mmio::DEVICE_VERSION, mmio::DEVICE_ID, mmio::VENDOR_ID];
    assert_eq!(read.map(|offset| machine.read(offset)), [0x7472_6976, 2, 63, VENDOR_ID]);
    machine.write(mmio::MAGIC_VALUE, 1);
    assert_eq!(machine.read(mmio::MAGIC_VALUE), 0x7472_6976, "read-only");
}

#[test]
fn s4_2_2_features_are_shown_by_halves() {
    let mut machine = Machine::new();
    let offered = machine.window.endpoint().offered();
    assert!(offered.contains(Features::RING_RESET | Features::NOTIFICATION_DATA | Features::bit(5)));
    for (select, expected) in [(0, offered.word(0)), (1, offered.word(1)), (2, 0), (u32::MAX, 0)] {
        machine.write(mmio::DEVICE_FEATURES_SEL, select);
        assert_eq!(machine.read(mmio::DEVICE_FEATURES), expected, "select {select}");
    }
}

/// virtio 1.3 §2.9: with NOTIFICATION_DATA a notification's value is not the queue's number alone.
#[test]
fn a_machine_that_matches_notifications_is_not_offered_data_in_them() {
    let machine = Machine::new();
    let line = Box::new(machine.line.clone());
    let window = Mmio::with_matched_notifications(Inline::auto(Answering), machine.memory.clone(), line);
    let all = machine.window.endpoint().offered();
    assert_eq!(window.endpoint().offered(), all.without(Features::NOTIFICATION_DATA));
}

#[test]
fn a_request_goes_through_the_window() {
    let (mut machine, mut queue) = Machine::live(Features::NONE);
    machine.request(&mut queue, 0);
    assert_eq!(queue.get().unwrap().unwrap().written, 4);
    let mut bytes = [0; 4];
    machine.memory.read(IoAddr(BUFFER), &mut bytes).unwrap();
    assert_eq!(&bytes, b"pong");
}

#[test]
fn s2_9_notification_data_names_the_queue_in_its_low_half() {
    let (mut machine, mut queue) = Machine::live(Features::NOTIFICATION_DATA);
    machine.request(&mut queue, 0x0001_0000);
    assert!(queue.get().unwrap().is_some());
}

/// A used buffer sets its bit and raises the line; only its acknowledgement takes both back.
#[test]
fn s4_2_2_1_an_event_is_in_interrupt_status_until_acknowledged() {
    let (mut machine, mut queue) = Machine::live(Features::NONE);
    assert_eq!((machine.read(mmio::INTERRUPT_STATUS), machine.levels()), (0, vec![]));
    machine.request(&mut queue, 0);
    machine.request(&mut queue, 0);
    assert_eq!((machine.read(mmio::INTERRUPT_STATUS), machine.levels()), (1, vec![Level::High]));
    machine.write(mmio::INTERRUPT_ACK, 2);
    assert_eq!((machine.read(mmio::INTERRUPT_STATUS), machine.levels()), (1, vec![]));
    machine.window.endpoint_mut().read_config(0, &mut []);
    let wrong = IoAddr(machine.window.endpoint().queue_address(0, vioduct_virtio_device::Area::Driver) + 2);
    machine.memory.write(wrong, &[0xff, 0x70]).unwrap();
    machine.write(mmio::QUEUE_NOTIFY, 0);
    assert_eq!(machine.read(mmio::INTERRUPT_STATUS), 3, "and a configuration change: the device failed");
    machine.write(mmio::INTERRUPT_ACK, 1);
    assert_eq!((machine.read(mmio::INTERRUPT_STATUS), machine.levels()), (2, vec![]));
    machine.write(mmio::INTERRUPT_ACK, 0xffff_ff02);
    assert_eq!((machine.read(mmio::INTERRUPT_STATUS), machine.levels()), (0, vec![Level::Low]));
}

#[test]
fn s4_2_2_1_reset_clears_interrupt_status_and_queue_ready() {
    let (mut machine, mut queue) = Machine::live(Features::NONE);
    machine.request(&mut queue, 0);
    assert_eq!(machine.read(mmio::QUEUE_READY), 1);
    machine.levels();
    machine.write(mmio::STATUS, 0);
    assert_eq!((machine.read(mmio::STATUS), machine.read(mmio::INTERRUPT_STATUS)), (0, 0));
    assert_eq!(machine.levels(), [Level::Low]);
    for queue in 0..2 {
        machine.write(mmio::QUEUE_SEL, queue);
        assert_eq!(machine.read(mmio::QUEUE_READY), 0);
    }
}

/// Only a write of zero is a reset, not one whose low byte is.
#[test]
fn row15_a_status_beyond_its_eight_bits_is_ignored() {
    let (mut machine, _queue) = Machine::live(Features::NONE);
    for value in [0x100, 0xffff_ff00, 0x1_000f] {
        machine.write(mmio::STATUS, value);
        assert_eq!(machine.read(mmio::STATUS), 15, "{value:#x}");
    }
}

#[test]
fn s4_2_2_1_a_queue_that_is_not_ready_is_not_accessed() {
    let (mut machine, mut queue) = Machine::live(Features::NONE);
    machine.write(mmio::QUEUE_READY, 0);
    assert_eq!(machine.read(mmio::QUEUE_READY), 0);
    queue.add(&[], &[Buffer { addr: IoAddr(BUFFER), len: 4 }], ()).unwrap();
    let _ = queue.kick_prepare();
    machine.write(mmio::QUEUE_NOTIFY, 0);
    assert!(queue.get().unwrap().is_none());
    assert_eq!(machine.read(mmio::INTERRUPT_STATUS), 0);
}

#[test]
fn s4_2_2_1_a_reset_queue_reads_as_reset_and_not_ready() {
    let (mut machine, _queue) = Machine::live(Features::RING_RESET);
    machine.write(mmio::QUEUE_RESET, 2);
    assert_eq!(machine.read(mmio::QUEUE_READY), 1, "only 1 resets");
    machine.write(mmio::QUEUE_RESET, 1);
    assert_eq!((machine.read(mmio::QUEUE_RESET), machine.read(mmio::QUEUE_READY)), (0, 0));
    let mut queue = machine.set_up_queue(0, 8);
    assert_eq!((machine.read(mmio::QUEUE_RESET), machine.read(mmio::QUEUE_READY)), (0, 1));
    machine.request(&mut queue, 0);
    assert!(queue.get().unwrap().is_some(), "the queue works again");
}

#[test]
fn row16_queue_selectors_beyond_the_last_read_as_no_queue() {
    let (mut machine, _queue) = Machine::live(Features::RING_RESET);
    for (select, expected) in [(0, 16), (1, 8), (2, 0), (0xffff, 0), (0x1_0000, 0), (u32::MAX, 0)] {
        machine.write(mmio::QUEUE_SEL, select);
        assert_eq!(machine.read(mmio::QUEUE_SIZE_MAX), expected, "queue {select:#x}");
    }
    machine.write(mmio::QUEUE_READY, 1);
    machine.write(mmio::QUEUE_RESET, 1);
    assert_eq!((machine.read(mmio::QUEUE_READY), machine.read(mmio::QUEUE_RESET)), (0, 0));
    machine.write(mmio::QUEUE_SEL, 0);
    assert_eq!(machine.read(mmio::QUEUE_READY), 1, "queue 0 was not meant");
}

#[test]
fn row14_the_registers_of_a_ready_queue_are_frozen() {
    let (mut machine, mut queue) = Machine::live(Features::NONE);
    for offset in [mmio::QUEUE_SIZE, mmio::QUEUE_DESC_LOW, mmio::QUEUE_DRIVER_HIGH, mmio::QUEUE_DEVICE_LOW] {
        machine.write(offset, 0);
    }
    machine.write(mmio::QUEUE_READY, 2);
    machine.request(&mut queue, 0);
    assert!(queue.get().unwrap().is_some());
    assert_eq!(machine.window.endpoint().queue_size(0), 16);
}

#[test]
fn row17_a_size_beyond_sixteen_bits_is_not_truncated() {
    let mut machine = Machine::new();
    machine.negotiate(Features::NONE);
    machine.write(mmio::QUEUE_SIZE, 0x1_0008);
    machine.write(mmio::QUEUE_READY, 1);
    assert_eq!(machine.read(mmio::QUEUE_READY), 0);
}

#[test]
fn s4_2_2_shared_memory_regions_that_do_not_exist_are_all_ones() {
    let mut machine = Machine::new();
    machine.write(mmio::SHM_SEL, 1);
    for offset in [mmio::SHM_LEN_LOW, mmio::SHM_LEN_HIGH, mmio::SHM_ADDR_LOW, mmio::SHM_ADDR_HIGH] {
        assert_eq!(machine.read(offset), u32::MAX);
    }
}

#[test]
fn s4_2_2_2_registers_are_accessed_by_aligned_words_only() {
    let (mut machine, _queue) = Machine::live(Features::NONE);
    for (offset, len) in
        [(mmio::STATUS, 1), (mmio::STATUS, 2), (mmio::STATUS, 8), (mmio::STATUS + 1, 4), (0xfe, 4)]
    {
        let mut out = vec![0xee; len];
        machine.window.read(offset, &mut out);
        assert_eq!(out, vec![0; len], "{offset:#x} {len}");
        machine.window.write(offset, &vec![0; len]);
        assert_eq!(
            Status(machine.read(mmio::STATUS) as u8).0,
            15,
            "{offset:#x} {len}: the device was not reset"
        );
    }
}

#[test]
fn s4_2_2_2_the_configuration_space_is_accessed_in_all_widths() {
    let mut machine = Machine::new();
    for (offset, expected) in [
        (0, vec![0x10]),
        (2, vec![0x12, 0x13]),
        (4, vec![0x14, 0x15, 0x16, 0x17]),
        (0, (0x10..0x18).collect()),
        (6, vec![0x16, 0x17, 0, 0]),
        (0xefc, vec![0; 4]),
        (0, vec![0; 3]),
    ] {
        let mut out = vec![0xee; expected.len()];
        machine.window.read(mmio::CONFIG + offset, &mut out);
        assert_eq!(out, expected, "{offset:#x}");
    }
    assert_eq!(machine.read(mmio::CONFIG_GENERATION), machine.window.endpoint().generation());
}

proptest! {
    #[test]
    fn row16_no_access_panics(accesses in prop::collection::vec(
        (prop_oneof![0u64..0x120, any::<u64>()], 0usize..17, any::<u64>(), any::<bool>()), 0..100,
    ), features: bool) {
        let mut machine = if features { Machine::live(Features::RING_RESET).0 } else { Machine::new() };
        for (offset, len, value, writes) in accesses {
            let mut bytes = [value.to_le_bytes(), value.to_be_bytes()].concat();
            bytes.resize(len, 0);
            if writes {
                machine.window.write(offset, &bytes);
            } else {
                machine.window.read(offset, &mut bytes);
            }
        }
        machine.write(mmio::STATUS, 0);
        prop_assert_eq!(machine.read(mmio::STATUS), 0);
    }
}

#[test]
fn a_window_goes_on_elsewhere() {
    let (mut here, mut queue) = Machine::live(Features::NONE);
    here.request(&mut queue, 0);
    here.write(mmio::DEVICE_FEATURES_SEL, 1);
    let state = here.window.save().unwrap();
    let line = Line::default();
    let window = Mmio::new(Inline::auto(Answering), here.memory.clone(), Box::new(line.clone()));
    let mut there = Machine { window, line, memory: here.memory.clone() };
    there.window.restore(&state).unwrap();
    let registers = [mmio::DEVICE_FEATURES, mmio::QUEUE_READY, mmio::STATUS, mmio::INTERRUPT_STATUS];
    assert_eq!(registers.map(|offset| here.read(offset)), registers.map(|offset| there.read(offset)));
    assert_eq!(there.levels(), [Level::High], "the line follows");
    there.write(mmio::INTERRUPT_ACK, 1);
    there.window.endpoint_mut().resume();
    assert!(queue.get().unwrap().is_some());
    there.request(&mut queue, 0);
    assert!(queue.get().unwrap().is_some(), "from where it stood");
    assert_eq!(there.window.restore(&state).unwrap_err(), vioduct_virtio_device::RestoreError::InUse);
    assert_eq!(there.read(mmio::STATUS), 15);
}

#[test]
fn row75_damaged_windows_are_refused_or_taken_over_whole() {
    let (mut here, _queue) = Machine::live(Features::NONE);
    let state = here.window.save().unwrap();
    for len in 0..state.len() {
        let mut there = Machine::new();
        assert!(there.window.restore(&state[..len]).is_err(), "{len}");
        assert_eq!(there.read(mmio::STATUS), 0);
    }
    for at in 0..state.len() {
        let mut damaged = state.clone();
        damaged[at] ^= 0xff;
        let mut there = Machine::new();
        let refused = there.window.restore(&damaged).is_err();
        there.window.endpoint_mut().resume();
        there.write(mmio::QUEUE_NOTIFY, 0);
        assert!(!refused || there.read(mmio::STATUS) == 0, "byte {at}");
    }
}
