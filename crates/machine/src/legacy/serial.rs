//! The serial line: a 16550 whose wire is a stream of bytes.

use super::{MachineEvent, NOTHING, PortDevice, read_each, write_each};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;
use vioduct_virtio_device::Signal;
use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial};

/// A 16550 at eight ports: what the guest sends is written out at once; what it is to receive waits until its FIFO has room.
pub struct SerialLine {
    port: Serial<Interrupt, NoEvents, Box<dyn Write + Send>>,
    waiting: VecDeque<u8>,
}

struct Interrupt(Arc<dyn Signal>);

impl Trigger for Interrupt {
    type E = Infallible;
    fn trigger(&self) -> Result<(), Infallible> {
        self.0.signal();
        Ok(())
    }
}

/// Input that waits here at most, in bytes: a screen of text that is pasted.
const MOST_WAITING: usize = 4096;
const REGISTERS: u16 = 8;

impl SerialLine {
    /// A line that interrupts by `interrupt`, edge-triggered, and whose output goes to `out`, which is flushed after each byte.
    #[must_use]
    pub fn new(interrupt: Arc<dyn Signal>, out: Box<dyn Write + Send>) -> Self {
        Self { port: Serial::new(Interrupt(interrupt), out), waiting: VecDeque::new() }
    }

    /// Sends `input` to the guest; the answer is how many bytes are taken. The others are to be sent again after the guest has read.
    pub fn receive(&mut self, input: &[u8]) -> usize {
        let count = input.len().min(MOST_WAITING - self.waiting.len());
        self.waiting.extend(input.iter().take(count));
        self.fill();
        count
    }

    /// Passes on what the FIFO has room for.
    fn fill(&mut self) {
        let count = self.port.fifo_capacity().min(self.waiting.len());
        let next: Vec<u8> = self.waiting.iter().take(count).copied().collect();
        // In loopback mode nothing is taken from the line, and room was made sure of.
        let taken = self.port.enqueue_raw_bytes(&next).unwrap_or(0);
        self.waiting.drain(..taken);
    }
}

impl PortDevice for SerialLine {
    fn read(&mut self, offset: u16, out: &mut [u8]) {
        read_each(offset, out, |register| match register {
            0..REGISTERS => self.port.read(register as u8),
            _ => NOTHING,
        });
        if !self.waiting.is_empty() {
            self.fill();
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<MachineEvent> {
        write_each(offset, data, |register, value| {
            if register < REGISTERS {
                // A terminal that is gone is like a cable that is pulled: the guest goes on, and the byte is lost.
                let _ = self.port.write(register as u8, value);
            }
            None
        });
        // It may have left loopback mode.
        if !self.waiting.is_empty() {
            self.fill();
        }
        None
    }
}
