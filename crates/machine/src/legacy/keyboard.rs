//! The keyboard controller: guests reset a PC by it when nothing else works.

use super::{MachineEvent, NOTHING, PortDevice, read_each, write_each};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use vm_superio::{I8042Device, Trigger};

/// An i8042 with nothing connected, that knows the command 0xfe, which resets the processor. Its first register is at port 0x60.
pub struct KeyboardController(I8042Device<Asked>);

/// Whether a reset was asked for, since it was last looked.
struct Asked(AtomicBool);

impl Trigger for Asked {
    type E = Infallible;
    fn trigger(&self) -> Result<(), Infallible> {
        self.0.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl KeyboardController {
    /// A controller in reset.
    #[must_use]
    pub fn new() -> Self {
        Self(I8042Device::new(Asked(AtomicBool::new(false))))
    }
}

impl Default for KeyboardController {
    fn default() -> Self {
        Self::new()
    }
}

impl PortDevice for KeyboardController {
    fn read(&mut self, offset: u16, out: &mut [u8]) {
        read_each(offset, out, |register| match u8::try_from(register) {
            Ok(register) => self.0.read(register),
            Err(_) => NOTHING,
        });
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<MachineEvent> {
        write_each(offset, data, |register, value| {
            let Ok(()) = self.0.write(u8::try_from(register).ok()?, value);
            self.0.reset_evt().0.swap(false, Ordering::Relaxed).then_some(MachineEvent::Reset)
        })
    }
}
