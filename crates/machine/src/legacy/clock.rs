//! The clock of a PC: an MC146818 as far as the time of day goes (Motorola, MC146818 data sheet).

use super::{MachineEvent, PortDevice, read_each, write_each};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// CMOS registers behind an index port and a data port. They tell the host's time in UTC, as decimal digits, and cannot be set; alarms
/// never come. The other registers are memory.
pub struct Clock {
    now: Box<dyn Fn() -> SystemTime + Send>,
    index: u8,
    memory: [u8; REGISTERS],
    /// The time that is read, sampled with the seconds and with status A, so that a second does not pass between its parts.
    time: CivilTime,
}

const REGISTERS: usize = 128;
/// Offsets of the two ports.
const INDEX: u16 = 0;
const DATA: u16 = 1;
/// Bit 7 of the index masks non-maskable interrupts, which there are none of.
const INDEX_BITS: u8 = 0x7f;

/// Status A: a time base of 32768 Hz, and no update in progress, ever.
const STATUS_A: u8 = 0x26;
/// Status B: 24 hours, decimal.
const STATUS_B: u8 = 0x02;
/// Status D: the time is valid.
const STATUS_D: u8 = 0x80;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Register {
    Seconds,
    Minutes,
    Hours,
    Weekday,
    Day,
    Month,
    Year,
    Century,
    StatusA,
    StatusB,
    /// Which interrupts are pending: none.
    StatusC,
    StatusD,
    /// Alarms, and what firmwares keep.
    Memory,
}

impl Register {
    fn at(index: u8) -> Self {
        match index {
            0x00 => Self::Seconds,
            0x02 => Self::Minutes,
            0x04 => Self::Hours,
            0x06 => Self::Weekday,
            0x07 => Self::Day,
            0x08 => Self::Month,
            0x09 => Self::Year,
            0x0a => Self::StatusA,
            0x0b => Self::StatusB,
            0x0c => Self::StatusC,
            0x0d => Self::StatusD,
            0x32 => Self::Century,
            _ => Self::Memory,
        }
    }
}

impl Clock {
    /// A clock that tells the host's time.
    #[must_use]
    pub fn new() -> Self {
        Self::telling(SystemTime::now)
    }

    /// A clock that tells what `now` does.
    #[must_use]
    pub fn telling(now: impl Fn() -> SystemTime + Send + 'static) -> Self {
        let time = CivilTime::of(now());
        Self { now: Box::new(now), index: 0, memory: [0; REGISTERS], time }
    }

    fn read_data(&mut self) -> u8 {
        let register = Register::at(self.index);
        if matches!(register, Register::Seconds | Register::StatusA) {
            self.time = CivilTime::of((self.now)());
        }
        let time = self.time;
        match register {
            Register::Seconds => decimal(time.second),
            Register::Minutes => decimal(time.minute),
            Register::Hours => decimal(time.hour),
            Register::Weekday => decimal(time.weekday),
            Register::Day => decimal(time.day),
            Register::Month => decimal(time.month),
            Register::Year => decimal(time.year % 100),
            Register::Century => decimal(time.year / 100),
            Register::StatusA => STATUS_A,
            Register::StatusB => STATUS_B,
            Register::StatusC => 0,
            Register::StatusD => STATUS_D,
            Register::Memory => self.memory.get(usize::from(self.index)).copied().unwrap_or_default(),
        }
    }

    fn write_data(&mut self, value: u8) {
        if Register::at(self.index) == Register::Memory
            && let Some(byte) = self.memory.get_mut(usize::from(self.index))
        {
            *byte = value;
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl PortDevice for Clock {
    fn read(&mut self, offset: u16, out: &mut [u8]) {
        read_each(offset, out, |port| match port {
            DATA => self.read_data(),
            _ => self.index,
        });
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<MachineEvent> {
        write_each(offset, data, |port, value| {
            match port {
                INDEX => self.index = value & INDEX_BITS,
                DATA => self.write_data(value),
                _ => {}
            }
            None
        })
    }
}

/// Two decimal digits, one in each half of the byte.
fn decimal(value: u32) -> u8 {
    (((value / 10 % 10) << 4) | (value % 10)) as u8
}

/// A point in time by the Gregorian calendar, in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct CivilTime {
    pub(super) year: u32,
    /// From 1.
    pub(super) month: u32,
    /// From 1.
    pub(super) day: u32,
    /// 1 is Sunday.
    pub(super) weekday: u32,
    pub(super) hour: u32,
    pub(super) minute: u32,
    pub(super) second: u32,
}

impl CivilTime {
    /// Of a time between 1970 and 9999; others are told as the nearest of these.
    pub(super) fn of(time: SystemTime) -> Self {
        const LATEST: Duration = Duration::from_secs(253_402_300_799);
        let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().min(LATEST).as_secs();
        let (days, second) = ((seconds / 86_400) as u32, (seconds % 86_400) as u32);
        let (year, month, day) = date(days);
        // The first day was a Thursday.
        let weekday = (days + 4) % 7 + 1;
        Self { year, month, day, weekday, hour: second / 3600, minute: second / 60 % 60, second: second % 60 }
    }
}

/// Year, month and day, `days` after 1970-01-01.
///
/// Years begin in March here, so that the leap day is the last one, and months have lengths that a line of slope 153/5 gives.
fn date(days: u32) -> (u32, u32, u32) {
    const DAYS_TO_1970: u32 = 719_468;
    const DAYS_OF_400_YEARS: u32 = 146_097;
    let days = days + DAYS_TO_1970;
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + later, month, day)
}
