//! A function with one register, on a bus, found and used as a machine would.

use std::sync::Arc;
use vioduct_pci::*;

struct Scratch(u8);

impl PciFunction for Scratch {
    fn spec(&self) -> FunctionSpec {
        FunctionSpec::new(0x1234, 0x0001, 0xff_0000).with_bar(BarSpec::memory32(0, 16))
    }
    fn attach(&mut self, _host: FunctionHost) {}
    fn bar_read(&mut self, _bar: u8, _offset: u64, out: &mut [u8]) {
        out.fill(self.0);
    }
    fn bar_write(&mut self, _bar: u8, _offset: u64, data: &[u8]) {
        self.0 = data.first().copied().unwrap_or(self.0);
    }
    fn reset(&mut self) {
        self.0 = 0;
    }
}

fn main() -> Result<(), SetupError> {
    let bus = Bus::new();
    let slot = Slot::new(3, 0)?;
    bus.plug(slot, Hosted::new(Scratch(0), Arc::new(NoInterrupts))?.shared())?;
    bus.assign_bars(Apertures { memory32: 0xc000_0000..0xd000_0000, memory64: 0..0, io: 0..0 })?;
    bus.ecam_write(slot.ecam_offset() + registers::COMMAND, &registers::COMMAND_MEMORY.to_le_bytes());
    let mut byte = [0];
    assert_eq!(bus.mmio_write(0xc000_0000, &[42]), Claim::Claimed);
    assert_eq!(bus.mmio_read(0xc000_0000, &mut byte), Claim::Claimed);
    println!("{slot} holds {}", byte[0]);
    Ok(())
}
