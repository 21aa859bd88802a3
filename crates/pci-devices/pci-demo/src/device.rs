//! The function: a register, and nothing else.

use vioduct_pci::{BarSpec, FunctionHost, FunctionSpec, PciFunction, StateError};
use vioduct_spec::pci_demo::{BAR0_LEN, CLASS, DEVICE_ID, REG_VALUE, VENDOR_ID};

/// The device. Its register is 0 at first and after a reset.
#[derive(Debug, Default)]
pub struct PciDemo {
    value: [u8; 4],
}

impl PciDemo {
    /// A device whose register is 0.
    pub fn new() -> Self {
        Self::default()
    }
}

impl PciFunction for PciDemo {
    fn spec(&self) -> FunctionSpec {
        FunctionSpec::new(VENDOR_ID, DEVICE_ID, CLASS).with_bar(BarSpec::memory32(0, BAR0_LEN))
    }

    fn attach(&mut self, _host: FunctionHost) {}

    /// The register for 4 bytes at its offset; anything else leaves the ones that `out` comes filled with.
    fn bar_read(&mut self, bar: u8, offset: u64, out: &mut [u8]) {
        if let (0, REG_VALUE, Ok(out)) = (bar, offset, <&mut [u8; 4]>::try_from(out)) {
            *out = self.value;
        }
    }

    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) {
        if let (0, REG_VALUE, Ok(data)) = (bar, offset, data.try_into()) {
            self.value = data;
        }
    }

    fn reset(&mut self) {
        let Self { value } = self;
        *value = [0; 4];
    }

    fn is_saveable(&self) -> bool {
        true
    }

    /// The register, little-endian.
    fn save(&mut self) -> Result<Vec<u8>, StateError> {
        let Self { value } = self;
        Ok(value.to_vec())
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        self.value = state.try_into().map_err(|_| {
            let len = state.len();
            StateError::Refused(format!("the saved register has 4 bytes, not {len}: use one of a pci-demo"))
        })?;
        Ok(())
    }
}
