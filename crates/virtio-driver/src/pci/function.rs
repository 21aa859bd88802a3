//! Functions on a bus: finding them, and getting one ready to be driven.

use super::bar::{BARS, Bar, BarAllocator, BarKind, assign, read_bars};
use super::config_access::{ConfigAccess, FunctionAddress};
use super::error::PciError;
use super::registers::*;

/// What a function says it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Where it is.
    pub at: FunctionAddress,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Class code, 24 bits.
    pub class: u32,
    /// Revision.
    pub revision: u8,
}

impl Identity {
    fn read<C: ConfigAccess + ?Sized>(config: &C, at: FunctionAddress) -> Option<Self> {
        let ids = config.read_u32(at, VENDOR_ID);
        let (vendor, device) = (ids as u16, (ids >> 16) as u16);
        if vendor == NO_FUNCTION {
            return None;
        }
        let class_revision = config.read_u32(at, CLASS_REVISION);
        Some(Self { at, vendor, device, class: class_revision >> 8, revision: class_revision as u8 })
    }
}

/// The functions on a bus, by device and function number. Functions above 0 are looked for where function 0 says that there may
/// be some (PCI 3.0 §6.2.1).
pub fn functions<C: ConfigAccess + ?Sized>(config: &C, bus: u8) -> impl Iterator<Item = Identity> {
    (0..32).flat_map(move |device| {
        let multifunction = FunctionAddress::new(bus, device, 0)
            .filter(|first| config.read_u16(*first, VENDOR_ID) != NO_FUNCTION)
            .map(|first| config.read_u8(first, HEADER_TYPE) & HEADER_MULTIFUNCTION != 0);
        let count = match multifunction {
            None => 0,
            Some(false) => 1,
            Some(true) => 8,
        };
        (0..count)
            .filter_map(move |function| Identity::read(config, FunctionAddress::new(bus, device, function)?))
    })
}

/// A function that a driver has taken: its BARs are known, and it decodes no addresses until it is told to.
#[derive(Debug)]
pub struct Function<'c, C: ConfigAccess + ?Sized> {
    config: &'c C,
    identity: Identity,
    bars: [Option<Bar>; BARS],
}

impl<'c, C: ConfigAccess + ?Sized> Function<'c, C> {
    /// Takes the function at an address: turns decoding and DMA off, and reads the BARs.
    ///
    /// # Errors
    /// [`PciError::Absent`], [`PciError::HeaderType`], or of a BAR.
    pub fn open(config: &'c C, at: FunctionAddress) -> Result<Self, PciError> {
        let identity = Identity::read(config, at).ok_or(PciError::Absent(at))?;
        let header_type = config.read_u8(at, HEADER_TYPE) & !HEADER_MULTIFUNCTION;
        if header_type != 0 {
            return Err(PciError::HeaderType(header_type));
        }
        let command = config.read_u16(at, COMMAND);
        config.write_u16(at, COMMAND, command & !(COMMAND_IO | COMMAND_MEMORY | COMMAND_BUS_MASTER));
        let bars = read_bars(config, at)?;
        Ok(Self { config, identity, bars })
    }

    /// Gives addresses to the memory BARs that have none.
    ///
    /// # Errors
    /// [`PciError::NoAddresses`].
    pub fn assign_bars(&mut self, allocator: &mut dyn BarAllocator) -> Result<(), PciError> {
        let bars = self.bars.iter_mut().flatten();
        for bar in bars.filter(|bar| bar.kind != BarKind::Io && bar.address == 0) {
            assign(self.config, self.identity.at, bar, allocator)?;
        }
        Ok(())
    }

    /// Lets the function respond to accesses to its memory BARs.
    pub fn enable_memory(&self) {
        self.set_command(COMMAND_MEMORY);
    }

    /// Lets the function access memory, and send messages.
    pub fn enable_bus_master(&self) {
        self.set_command(COMMAND_BUS_MASTER);
    }

    fn set_command(&self, bits: u16) {
        let command = self.config.read_u16(self.identity.at, COMMAND);
        self.config.write_u16(self.identity.at, COMMAND, command | bits);
    }

    /// What it is.
    #[must_use]
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// A BAR, if the function has it.
    #[must_use]
    pub fn bar(&self, index: u8) -> Option<&Bar> {
        self.bars.get(usize::from(index))?.as_ref()
    }

    /// The configuration space it was found in.
    #[must_use]
    pub const fn config(&self) -> &'c C {
        self.config
    }
}
