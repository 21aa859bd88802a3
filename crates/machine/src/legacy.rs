//! The devices that a PC has always had, as far as a guest of today still wants them: at ports, and at the machine's own registers.
//!
//! | device | what it is |
//! |---|---|
//! | [`SerialLine`] | a 16550, the guest's console |
//! | [`KeyboardController`] | an i8042 that knows one command, reset |
//! | [`Clock`] | the time of day in CMOS registers |
//! | [`PowerRegisters`] | ACPI's reset and sleep registers |

mod clock;
mod keyboard;
mod power;
mod serial;
#[cfg(test)]
mod tests;

pub use self::clock::Clock;
pub use self::keyboard::KeyboardController;
pub use self::power::PowerRegisters;
pub use self::serial::SerialLine;

/// What a guest asks of the machine as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MachineEvent {
    /// Switch off.
    PowerOff,
    /// Begin again.
    Reset,
}

/// A device of a few registers of a byte each, at ports or at addresses.
///
/// An access of several bytes is one of several registers, as it is on a bus of 8 bits. Nothing that a guest does here is an error:
/// registers that do not exist read as the bus does with nothing on it, and what is written to them is lost.
pub trait PortDevice: Send {
    /// Reads `out.len()` registers from `offset` on, in bytes from the device's first.
    fn read(&mut self, offset: u16, out: &mut [u8]);

    /// Writes registers from `offset` on; the answer is what the guest asks for by it.
    fn write(&mut self, offset: u16, data: &[u8]) -> Option<MachineEvent>;
}

/// What is read where no device answers.
const NOTHING: u8 = 0xff;

/// Reads one register after the other.
fn read_each(offset: u16, out: &mut [u8], mut read: impl FnMut(u16) -> u8) {
    for (place, byte) in (0u16..).zip(out) {
        *byte = read(offset.saturating_add(place));
    }
}

/// Writes one register after the other; the answer is the first event.
fn write_each(
    offset: u16,
    data: &[u8],
    mut write: impl FnMut(u16, u8) -> Option<MachineEvent>,
) -> Option<MachineEvent> {
    let events = (0u16..).zip(data).map(|(place, byte)| write(offset.saturating_add(place), *byte));
    events.fold(None, Option::or)
}
