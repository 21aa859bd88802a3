//! The driver of `pci-demo`: a PCI function with one trapped register. Not virtio.

use crate::pci::{BarAccess, ConfigAccess, Function, FunctionAddress, PciError, functions};
use crate::register_window::RegisterWindow;
use vioduct_spec::pci_demo::{BAR0_LEN, DEVICE_ID, REG_VALUE, VENDOR_ID};

/// The function, with its register mapped.
#[derive(Debug)]
pub struct PciDemo<W: RegisterWindow> {
    bar0: W,
}

/// The first `pci-demo` function on a bus.
pub fn find<C: ConfigAccess + ?Sized>(config: &C, bus: u8) -> Option<FunctionAddress> {
    let mut functions = functions(config, bus);
    functions.find(|found| (found.vendor, found.device) == (VENDOR_ID, DEVICE_ID)).map(|found| found.at)
}

impl<W: RegisterWindow> PciDemo<W> {
    /// Enables a function whose BAR has an address, and maps it.
    ///
    /// # Errors
    /// [`PciError::Foreign`] for another function, [`PciError::Unmapped`] if BAR0 is not what it should be.
    pub fn new<C: ConfigAccess + ?Sized>(
        function: &Function<'_, C>,
        access: &mut dyn BarAccess<Window = W>,
    ) -> Result<Self, PciError> {
        let identity = function.identity();
        if (identity.vendor, identity.device) != (VENDOR_ID, DEVICE_ID) {
            return Err(PciError::Foreign { vendor: identity.vendor, device: identity.device });
        }
        let bar = function.bar(0).filter(|bar| bar.len == BAR0_LEN).ok_or(PciError::Unmapped(0))?;
        function.enable_memory();
        let bar0 = access.map(bar, 0, BAR0_LEN).ok_or(PciError::Unmapped(0))?;
        Ok(Self { bar0 })
    }

    /// Stores a value.
    pub fn store(&self, value: u32) {
        self.bar0.write_u32(REG_VALUE, value);
    }

    /// The value that was stored last.
    pub fn load(&self) -> u32 {
        self.bar0.read_u32(REG_VALUE)
    }
}
