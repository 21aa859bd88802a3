//! BARs reached through configuration space, by the PCI configuration access capability (virtio 1.3 §4.1.4.9): for when they
//! are not mapped, as in firmware.

use super::bar::{Bar, BarAccess};
use super::capability::pci_config_capability;
use super::config_access::{ConfigAccess, FunctionAddress};
use super::error::PciError;
use super::function::Function;
use crate::register_window::{RegisterWindow, Width};
use vioduct_spec::pci::cap;

/// Makes windows onto BARs which need no mapping of them.
#[derive(Debug)]
pub struct ConfigWindows<'c, C: ConfigAccess + ?Sized> {
    config: &'c C,
    at: FunctionAddress,
    capability: u16,
}

impl<'c, C: ConfigAccess + ?Sized> ConfigWindows<'c, C> {
    /// The windows of a function that has the capability.
    ///
    /// # Errors
    /// [`PciError::Missing`] if it has not, [`PciError::Capability`] or [`PciError::List`] if it cannot be used.
    pub fn new(function: &Function<'c, C>) -> Result<Self, PciError> {
        let capability = pci_config_capability(function)?;
        Ok(Self { config: function.config(), at: function.identity().at, capability })
    }
}

impl<'c, C: ConfigAccess + ?Sized> BarAccess for ConfigWindows<'c, C> {
    type Window = ConfigWindow<'c, C>;

    fn map(&mut self, bar: &Bar, offset: u64, len: u64) -> Option<Self::Window> {
        let start = u32::try_from(offset).ok()?;
        u32::try_from(offset.checked_add(len)?).ok()?;
        let Self { config, at, capability } = *self;
        Some(ConfigWindow { config, at, capability, bar: bar.index, start, len })
    }
}

/// A part of a BAR, through configuration space.
#[derive(Debug)]
pub struct ConfigWindow<'c, C: ConfigAccess + ?Sized> {
    config: &'c C,
    at: FunctionAddress,
    capability: u16,
    bar: u8,
    start: u32,
    len: u64,
}

impl<C: ConfigAccess + ?Sized> ConfigWindow<'_, C> {
    /// virtio 1.3 §4.1.4.9.1: BAR, length (1, 2 or 4) and an offset aligned to it, all before the data is accessed. Returns where
    /// the data is then.
    fn aim(&self, offset: u64, width: Width) -> Option<u16> {
        let end = offset.checked_add(width.bytes() as u64)?;
        if end > self.len || !offset.is_multiple_of(width.bytes() as u64) {
            return None;
        }
        let field = |field: usize| self.capability + field as u16;
        self.config.write(self.at, field(cap::BAR), Width::U8, u32::from(self.bar));
        self.config.write_u32(self.at, field(cap::LENGTH), width.bytes() as u32);
        self.config.write_u32(self.at, field(cap::OFFSET), self.start + offset as u32);
        Some(field(cap::PCI_CFG_DATA))
    }
}

impl<C: ConfigAccess + ?Sized> RegisterWindow for ConfigWindow<'_, C> {
    fn window_len(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, width: Width) -> u64 {
        if width == Width::U64 {
            let low = self.read(offset, Width::U32);
            return low | self.read(offset.saturating_add(4), Width::U32) << 32;
        }
        self.aim(offset, width)
            .map_or(width.ones(), |data| u64::from(self.config.read(self.at, data, width)) & width.ones())
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        if width == Width::U64 {
            self.write(offset, Width::U32, value & 0xffff_ffff);
            self.write(offset.saturating_add(4), Width::U32, value >> 32);
        } else if let Some(data) = self.aim(offset, width) {
            self.config.write(self.at, data, width, value as u32);
        }
    }
}
