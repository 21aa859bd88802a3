//! [`Ports`]: which device is at which port.

use crate::layout::{I8042_COMMAND, I8042_DATA, RTC_DATA, RTC_INDEX, SERIAL_PORTS};
use crate::legacy::{Clock, KeyboardController, MachineEvent, PortDevice, SerialLine};
use std::io::Write;
use std::sync::Arc;
use vioduct_virtio_device::Signal;

/// The devices at ports.
pub(crate) struct Ports {
    serial: SerialLine,
    keyboard: KeyboardController,
    clock: Clock,
}

impl Ports {
    /// A serial line that speaks to `output` and interrupts by `interrupt`; the others interrupt nobody.
    pub(crate) fn new(output: Box<dyn Write + Send>, interrupt: Arc<dyn Signal>) -> Self {
        Self {
            serial: SerialLine::new(interrupt, output),
            keyboard: KeyboardController::new(),
            clock: Clock::new(),
        }
    }

    /// Reads from `port`; where no device is, `out` stays as it came.
    pub(crate) fn read(&mut self, port: u16, out: &mut [u8]) {
        if let Some((device, offset)) = self.at(port) {
            device.read(offset, out);
        }
    }

    /// Writes to `port`; what the guest asks for by it.
    pub(crate) fn write(&mut self, port: u16, data: &[u8]) -> Option<MachineEvent> {
        let (device, offset) = self.at(port)?;
        device.write(offset, data)
    }

    /// Types on the serial line; how many bytes there was room for.
    pub(crate) fn press(&mut self, bytes: &[u8]) -> usize {
        self.serial.receive(bytes)
    }

    fn at(&mut self, port: u16) -> Option<(&mut dyn PortDevice, u16)> {
        match port {
            _ if SERIAL_PORTS.contains(&port) => Some((&mut self.serial, port - SERIAL_PORTS.start)),
            I8042_DATA | I8042_COMMAND => Some((&mut self.keyboard, port - I8042_DATA)),
            RTC_INDEX | RTC_DATA => Some((&mut self.clock, port - RTC_INDEX)),
            _ => None,
        }
    }
}
