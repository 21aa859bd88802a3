//! ACPI's registers of a hardware-reduced machine: reset, sleep control and sleep status (ACPI 6.5 §4.8.3.6, §4.8.3.7).

use super::{MachineEvent, NOTHING, PortDevice, read_each, write_each};
use crate::acpi::{RESET_VALUE, SLEEP_TYPE_OFF};
use crate::layout::{ACPI_RESET, ACPI_SLEEP_CONTROL, ACPI_SLEEP_STATUS};

/// Sleep control: the type in bits 4:2, and bit 5 begins it.
const SLEEP_TYPE_AT: u8 = 2;
const SLEEP_TYPE_BITS: u8 = 7;
const SLEEP_ENABLE: u8 = 1 << 5;

/// The registers at [`ACPI_REGISTERS`](crate::layout::ACPI_REGISTERS). They hold nothing: all but "off" and "reset" is ignored, and
/// nothing ever wakes, so the wake bit of the status is 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct PowerRegisters;

enum Register {
    Reset,
    SleepControl,
    SleepStatus,
    None,
}

impl Register {
    fn at(offset: u16) -> Self {
        match u64::from(offset) {
            ACPI_RESET => Self::Reset,
            ACPI_SLEEP_CONTROL => Self::SleepControl,
            ACPI_SLEEP_STATUS => Self::SleepStatus,
            _ => Self::None,
        }
    }
}

impl PortDevice for PowerRegisters {
    fn read(&mut self, offset: u16, out: &mut [u8]) {
        read_each(offset, out, |register| match Register::at(register) {
            Register::Reset | Register::SleepControl | Register::SleepStatus => 0,
            Register::None => NOTHING,
        });
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<MachineEvent> {
        write_each(offset, data, |register, value| match Register::at(register) {
            Register::Reset => (value == RESET_VALUE).then_some(MachineEvent::Reset),
            Register::SleepControl => sleep(value),
            Register::SleepStatus | Register::None => None,
        })
    }
}

fn sleep(control: u8) -> Option<MachineEvent> {
    let kind = control >> SLEEP_TYPE_AT & SLEEP_TYPE_BITS;
    (control & SLEEP_ENABLE != 0 && kind == SLEEP_TYPE_OFF).then_some(MachineEvent::PowerOff)
}
