//! MSI-X: the table of messages that a function sends instead of raising a line (PCI 3.0 §6.8.2).

use super::bar::{BarAccess, map_part};
use super::capability::{Place, Structure, place};
use super::config_access::ConfigAccess;
use super::error::{CapabilityFault, PciError};
use super::function::Function;
use super::registers::*;
use crate::register_window::RegisterWindow;
use vioduct_spec::pci::CAP_MSIX;

/// What a vector writes where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MsixMessage {
    /// Address of the write.
    pub address: u64,
    /// The four bytes written.
    pub data: u32,
}

/// Programs a vector for each message, as far as the table goes, and turns MSI-X on. Returns how many vectors there are.
///
/// Everything is masked until all of it is written, so that no half-written message is ever sent.
pub(crate) fn set_up<C: ConfigAccess + ?Sized, A: BarAccess + ?Sized>(
    function: &Function<'_, C>,
    capabilities: &[(u16, u8)],
    access: &mut A,
    messages: &[MsixMessage],
) -> Result<u16, PciError> {
    let structure = Structure::MsixTable;
    let found = capabilities.iter().find(|(_, id)| *id == CAP_MSIX);
    let (at, _) = *found.ok_or(PciError::Missing(structure))?;
    if at + MSIX_CAPABILITY_LEN > CONFIG_LEN {
        let fault = CapabilityFault::Truncated((CONFIG_LEN - at) as u8);
        return Err(PciError::Capability { structure, at, fault });
    }
    let (config, function_at) = (function.config(), function.identity().at);
    let control = config.read_u16(function_at, at + MSIX_CONTROL) & !(MSIX_ENABLE | MSIX_FUNCTION_MASK);
    let entries = (control & MSIX_SIZE) + 1;
    let part = |structure, register, len| part(function, (at, register), structure, len);
    let table = part(Structure::MsixTable, MSIX_TABLE, u32::from(entries) * ENTRY_LEN as u32)?;
    part(Structure::MsixPending, MSIX_PENDING, u32::from(entries).div_ceil(64) * 8)?;
    let window = map_part(access, &table.bar, table.offset, table.len)?;
    config.write_u16(function_at, at + MSIX_CONTROL, control | MSIX_ENABLE | MSIX_FUNCTION_MASK);
    let mut used = 0;
    for (entry, message) in (0..entries).zip(messages) {
        write_entry(&window, u64::from(entry) * ENTRY_LEN, *message);
        used = entry + 1;
    }
    config.write_u16(function_at, at + MSIX_CONTROL, control | MSIX_ENABLE);
    Ok(used)
}

fn write_entry<W: RegisterWindow>(window: &W, at: u64, message: MsixMessage) {
    window.write_u32(at + ENTRY_CONTROL, ENTRY_MASKED);
    window.write_u32(at + ENTRY_ADDRESS_LOW, message.address as u32);
    window.write_u32(at + ENTRY_ADDRESS_HIGH, (message.address >> 32) as u32);
    window.write_u32(at + ENTRY_DATA, message.data);
    window.write_u32(at + ENTRY_CONTROL, 0);
}

/// Where the table or the pending bits are.
fn part<C: ConfigAccess + ?Sized>(
    function: &Function<'_, C>,
    (at, register): (u16, u16),
    structure: Structure,
    len: u32,
) -> Result<Place, PciError> {
    let word = function.config().read_u32(function.identity().at, at + register);
    place(function, structure, (word & MSIX_BAR) as u8, (word & !MSIX_BAR, len))
        .map_err(|fault| PciError::Capability { structure, at, fault })
}
