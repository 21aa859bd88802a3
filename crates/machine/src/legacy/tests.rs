//! The devices as a driver uses them.

use super::clock::CivilTime;
use super::*;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};
use vioduct_virtio_device::Signal;

fn read(device: &mut dyn PortDevice, offset: u16) -> u8 {
    let mut byte = [0x5a];
    device.read(offset, &mut byte);
    byte[0]
}

/// What a line is connected to: its interrupt, and its other end.
#[derive(Clone, Default)]
struct Wire {
    interrupts: Arc<AtomicUsize>,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Signal for Wire {
    fn signal(&self) {
        self.interrupts.fetch_add(1, Ordering::Relaxed);
    }
}

impl Write for Wire {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.sent.lock().unwrap().extend(data);
        Ok(data.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A terminal that is gone.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn line() -> (SerialLine, Wire) {
    let wire = Wire::default();
    (SerialLine::new(Arc::new(wire.clone()), Box::new(wire.clone())), wire)
}

// Offsets and bits of a 16550.
const DATA: u16 = 0;
const INTERRUPT_ENABLE: u16 = 1;
const INTERRUPT_ID: u16 = 2;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;
const DATA_READY: u8 = 1;

#[test]
fn what_the_guest_sends_is_written_in_order() {
    let (mut line, wire) = line();
    for byte in b"hello\r\n" {
        assert_eq!(read(&mut line, LINE_STATUS) & 0x20, 0x20, "ready to send");
        assert_eq!(line.write(DATA, &[*byte]), None);
    }
    assert_eq!(*wire.sent.lock().unwrap(), b"hello\r\n");
}

#[test]
fn what_is_received_interrupts_and_is_read_in_order() {
    let (mut line, wire) = line();
    line.write(INTERRUPT_ENABLE, &[1]);
    assert_eq!((wire.interrupts.load(Ordering::Relaxed), read(&mut line, LINE_STATUS) & DATA_READY), (0, 0));
    assert_eq!(line.receive(b"ls"), 2);
    assert_eq!(wire.interrupts.load(Ordering::Relaxed), 1);
    assert_eq!(read(&mut line, INTERRUPT_ID) & 0xf, 4, "received data");
    assert_eq!((read(&mut line, DATA), read(&mut line, DATA)), (b'l', b's'));
    assert_eq!(read(&mut line, LINE_STATUS) & DATA_READY, 0);
}

/// A paste is longer than the FIFO: nothing of it may be lost, or come twice.
#[test]
fn input_longer_than_the_fifo_waits_for_the_guest() {
    let (mut line, wire) = line();
    line.write(INTERRUPT_ENABLE, &[1]);
    let input: Vec<u8> = (0..1000u32).map(|place| (place % 251) as u8).collect();
    assert_eq!(line.receive(&input), 1000);
    let mut read_back = Vec::new();
    while read(&mut line, LINE_STATUS) & DATA_READY != 0 {
        let before = wire.interrupts.load(Ordering::Relaxed);
        read_back.push(read(&mut line, DATA));
        if read_back.len() < 900 {
            assert!(
                wire.interrupts.load(Ordering::Relaxed) > before,
                "no interrupt for byte {}",
                read_back.len()
            );
        }
    }
    assert_eq!(read_back, input);
}

#[test]
fn input_that_nobody_reads_is_not_taken_for_ever() {
    let (mut line, _) = line();
    let taken = line.receive(&[1; 10_000]);
    assert_eq!(taken, 4096);
    // The FIFO took its part, which makes room for as much.
    assert_eq!((line.receive(&[2; 10_000]), line.receive(&[3; 10_000])), (64, 0));
    for _ in 0..taken {
        assert_eq!(read(&mut line, DATA), 1);
    }
    assert_eq!(read(&mut line, DATA), 2);
}

/// Linux tests for a port by its loopback mode; what is typed meanwhile is for later.
#[test]
fn loopback_is_not_disturbed_by_input() {
    let (mut line, wire) = line();
    line.write(MODEM_CONTROL, &[0x10]);
    assert_eq!(line.receive(b"typed"), 5);
    line.write(DATA, b"L");
    assert_eq!(read(&mut line, DATA), b'L');
    assert_eq!(read(&mut line, LINE_STATUS) & DATA_READY, 0);
    line.write(MODEM_CONTROL, &[0]);
    assert_eq!(read(&mut line, DATA), b't');
    assert!(wire.sent.lock().unwrap().is_empty());
}

#[test]
fn a_line_whose_end_is_gone_takes_what_is_sent() {
    let mut line = SerialLine::new(Arc::new(Wire::default()), Box::new(Closed));
    assert_eq!(line.write(DATA, b"x"), None);
    assert_eq!(read(&mut line, LINE_STATUS) & 0x60, 0x60);
}

#[test]
fn an_access_of_several_bytes_is_one_of_several_registers() {
    let (mut line, _) = line();
    let scratch = 7;
    line.write(scratch - 1, &[0, 0x42]);
    let mut both = [0; 3];
    line.read(scratch - 1, &mut both);
    assert_eq!(both[1..], [0x42, 0xff], "the second is scratch, the third is beyond the device");
    line.read(u16::MAX, &mut both);
    assert_eq!(both, [0xff; 3]);
    line.write(u16::MAX, &[1, 2, 3]);
}

#[test]
fn the_keyboard_controller_resets_and_does_nothing_else() {
    let mut keyboard = KeyboardController::new();
    assert_eq!(read(&mut keyboard, 4) & 2, 0, "ready for a command");
    assert_eq!(keyboard.write(4, &[0xaa]), None);
    assert_eq!(keyboard.write(0, &[0xfe]), None, "data, not a command");
    assert_eq!(keyboard.write(4, &[0xfe]), Some(MachineEvent::Reset));
    assert_eq!(keyboard.write(4, &[0xff]), None, "once");
    for offset in [256 + 4, u16::MAX] {
        assert_eq!(keyboard.write(offset, &[0xfe]), None, "no register of it");
    }
}

#[test]
fn the_power_registers_reset_and_switch_off() {
    let mut power = PowerRegisters;
    assert_eq!(power.write(0, &[1]), Some(MachineEvent::Reset));
    assert_eq!(power.write(1, &[5 << 2 | 1 << 5]), Some(MachineEvent::PowerOff));
    // Not the value, not enabled, another type, another register.
    for (offset, value) in [(0, 0), (0, 2), (1, 5 << 2), (1, 1 << 5), (1, 4 << 2 | 1 << 5), (2, 0x34), (3, 1)]
    {
        assert_eq!(power.write(offset, &[value]), None, "{offset} {value:#x}");
    }
    let mut all = [0x5a; 4];
    power.read(0, &mut all);
    assert_eq!(all, [0, 0, 0, 0xff]);
}

fn clock_register(clock: &mut Clock, register: u8) -> u8 {
    assert_eq!(clock.write(0, &[register]), None);
    read(clock, 1)
}

#[test]
fn the_clock_tells_the_time_in_decimal() {
    // 2024-02-29 23:59:58 UTC, a Thursday.
    let mut clock = Clock::telling(|| UNIX_EPOCH + Duration::from_secs(1_709_251_198));
    let told = [0, 2, 4, 6, 7, 8, 9, 0x32].map(|register| clock_register(&mut clock, register));
    assert_eq!(told, [0x58, 0x59, 0x23, 0x05, 0x29, 0x02, 0x24, 0x20]);
    let status = [0xa, 0xb, 0xc, 0xd].map(|register| clock_register(&mut clock, register));
    assert_eq!(status, [0x26, 0x02, 0, 0x80]);
}

/// The second that passes while the clock is read does not make 10:59:59 into 11:59:59 or 10:00:00.
#[test]
fn the_parts_of_a_time_belong_together() {
    let seconds = Arc::new(AtomicU64::new(10 * 3600 + 59 * 60 + 59));
    let shared = seconds.clone();
    let mut clock = Clock::telling(move || UNIX_EPOCH + Duration::from_secs(shared.load(Ordering::Relaxed)));
    assert_eq!(clock_register(&mut clock, 0), 0x59);
    seconds.fetch_add(1, Ordering::Relaxed);
    assert_eq!((clock_register(&mut clock, 2), clock_register(&mut clock, 4)), (0x59, 0x10));
    assert_eq!(clock_register(&mut clock, 0xa) & 0x80, 0, "no update in progress");
    assert_eq!((clock_register(&mut clock, 2), clock_register(&mut clock, 4)), (0, 0x11));
}

#[test]
fn the_clock_cannot_be_set_and_other_registers_are_memory() {
    let mut clock = Clock::telling(|| UNIX_EPOCH);
    for (register, kept) in
        [(0x09, 0x70), (0x0b, 0x02), (0x0d, 0x80), (0x0f, 0xa5), (0x7f, 0xa5), (0x01, 0xa5)]
    {
        clock.write(0, &[register | 0x80]);
        assert_eq!(read(&mut clock, 0), register, "bit 7 is not of the index");
        clock.write(1, &[0xa5]);
        assert_eq!(clock_register(&mut clock, register), kept, "{register:#x}");
    }
    // Both ports at once, as one word.
    clock.write(0, &[0x0f, 0x11]);
    let mut word = [0; 2];
    clock.read(0, &mut word);
    assert_eq!(word, [0x0f, 0x11]);
}

#[test]
fn dates_are_those_of_the_calendar() {
    let date = |seconds| {
        let time = CivilTime::of(UNIX_EPOCH + Duration::from_secs(seconds));
        (time.year, time.month, time.day, time.weekday)
    };
    assert_eq!(date(0), (1970, 1, 1, 5));
    assert_eq!(date(951_782_400), (2000, 2, 29, 3));
    assert_eq!(date(951_868_800), (2000, 3, 1, 4));
    assert_eq!(date(4_107_542_399), (2100, 2, 28, 1), "no leap year");
    assert_eq!(date(4_107_542_400), (2100, 3, 1, 2));
    assert_eq!(date(253_402_300_799), (9999, 12, 31, 6));
    assert_eq!(date(253_402_300_800), (9999, 12, 31, 6), "the last that can be told");
    let before = CivilTime::of(UNIX_EPOCH - Duration::from_secs(1));
    assert_eq!((before.year, before.second), (1970, 0));
    // Every day of 800 years follows the one before.
    let mut last = (1969, 12, 31, 4);
    for day in 0..292_194 {
        let (year, month, of_month, weekday) = date(day * 86_400);
        assert_eq!(weekday, last.3 % 7 + 1);
        let next = (last.0, last.1, last.2 + 1);
        let first = of_month == 1 && (last.2 >= 28);
        assert!((year, month, of_month) == next || first, "{last:?} before {year}-{month}-{of_month}");
        last = (year, month, of_month, weekday);
    }
    assert_eq!((last.0, last.1, last.2), (2769, 12, 31));
}
