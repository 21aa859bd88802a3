//! The capability list, and the structures that virtio's capabilities locate (virtio 1.3 §4.1.4). A device may put anything
//! there; what comes out of here lies within a memory BAR.

use super::bar::{Bar, BarKind};
use super::config_access::ConfigAccess;
use super::error::{CapabilityFault, ListFault, PciError};
use super::function::Function;
use super::registers::*;
use alloc::vec::Vec;
use core::fmt;
use vioduct_spec::pci::{CAP_VENDOR_SPECIFIC, cap, common_config};

/// What a capability locates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Structure {
    /// Common configuration.
    CommonConfig,
    /// Notifications.
    Notify,
    /// ISR status.
    Isr,
    /// The device's own configuration.
    DeviceConfig,
    /// Access to BARs through configuration space.
    PciConfig,
    /// The MSI-X table.
    MsixTable,
    /// The MSI-X pending bits.
    MsixPending,
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CommonConfig => "common configuration",
            Self::Notify => "notification",
            Self::Isr => "ISR status",
            Self::DeviceConfig => "device configuration",
            Self::PciConfig => "PCI configuration access",
            Self::MsixTable => "MSI-X table",
            Self::MsixPending => "MSI-X pending bits",
        })
    }
}

/// Least length and alignment, in bytes, of a structure. `RING_RESET` and its like lengthen the common configuration; a device
/// without them may leave that part out.
const fn demands(structure: Structure) -> (u32, u32) {
    match structure {
        Structure::CommonConfig => (common_config::QUEUE_NOTIF_CONFIG_DATA as u32, 4),
        Structure::Notify => (2, 2),
        Structure::Isr => (1, 1),
        Structure::DeviceConfig => (1, 4),
        Structure::PciConfig => (0, 1),
        Structure::MsixTable => (ENTRY_LEN as u32, 8),
        Structure::MsixPending => (8, 8),
    }
}

/// A part of a memory BAR, checked to be one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) bar: Bar,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// Checks that `len` bytes at `offset` of BAR `bar` are there, and can hold the structure.
pub(crate) fn place<C: ConfigAccess + ?Sized>(
    function: &Function<'_, C>,
    structure: Structure,
    bar: u8,
    (offset, len): (u32, u32),
) -> Result<Place, CapabilityFault> {
    let (least, alignment) = demands(structure);
    if bar > 5 {
        return Err(CapabilityFault::ReservedBar(bar));
    }
    let bar = match function.bar(bar) {
        Some(found) if found.kind != BarKind::Io => *found,
        _ => return Err(CapabilityFault::NoMemoryBar(bar)),
    };
    if u64::from(offset) + u64::from(len) > bar.len {
        return Err(CapabilityFault::BeyondBar { offset, len, bar_len: bar.len });
    }
    if len < least {
        return Err(CapabilityFault::TooShort(len));
    }
    if !offset.is_multiple_of(alignment) {
        return Err(CapabilityFault::Misaligned(offset));
    }
    Ok(Place { bar, offset: u64::from(offset), len: u64::from(len) })
}

/// Offsets and ids of a function's capabilities. The list ends at 0; each place is visited once (PCI 3.0 §6.7).
pub(crate) fn list<C: ConfigAccess + ?Sized>(function: &Function<'_, C>) -> Result<Vec<(u16, u8)>, PciError> {
    let (config, function_at) = (function.config(), function.identity().at);
    let mut found: Vec<(u16, u8)> = Vec::new();
    if config.read_u16(function_at, STATUS) & STATUS_CAPABILITIES == 0 {
        return Ok(found);
    }
    let pointer = |offset| u16::from(config.read_u8(function_at, offset)) & LAST_CAPABILITY;
    let mut at = pointer(CAPABILITIES);
    while at != 0 {
        if at < FIRST_CAPABILITY {
            return Err(PciError::List { at, fault: ListFault::IntoHeader });
        }
        if found.iter().any(|(seen, _)| *seen == at) {
            return Err(PciError::List { at, fault: ListFault::Loop });
        }
        found.push((at, config.read_u8(function_at, at)));
        at = pointer(at + cap::NEXT as u16);
    }
    Ok(found)
}

/// Where the structures of a virtio function are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct VirtioPlaces {
    pub(crate) common_config: Place,
    pub(crate) notify: Place,
    pub(crate) notify_multiplier: u32,
    pub(crate) isr: Place,
    pub(crate) device_config: Option<Place>,
}

/// What was read of a capability, once.
struct Found {
    place: Place,
    multiplier: u32,
}

/// Finds the structures of a virtio function.
///
/// virtio 1.3 §4.1.4.1: of each type the first that can be used is; unknown types are passed over. If none can be, the first one's
/// fault is the error.
pub(crate) fn virtio_places<C: ConfigAccess + ?Sized>(
    function: &Function<'_, C>,
    capabilities: &[(u16, u8)],
) -> Result<VirtioPlaces, PciError> {
    let required = |structure| first(function, capabilities, structure)?.ok_or(PciError::Missing(structure));
    let notify = required(Structure::Notify)?;
    Ok(VirtioPlaces {
        common_config: required(Structure::CommonConfig)?.place,
        notify: notify.place,
        notify_multiplier: notify.multiplier,
        isr: required(Structure::Isr)?.place,
        // virtio 1.3 §4.1.4.6: a device type without configuration has none.
        device_config: first(function, capabilities, Structure::DeviceConfig)?.map(|found| found.place),
    })
}

/// The offset of the PCI configuration access capability, if there is one of full length (virtio 1.3 §4.1.4.9).
pub(crate) fn pci_config_capability<C: ConfigAccess + ?Sized>(
    function: &Function<'_, C>,
) -> Result<u16, PciError> {
    let structure = Structure::PciConfig;
    for (at, id) in list(function)? {
        if id != CAP_VENDOR_SPECIFIC || type_of(function, at) != Some(structure) {
            continue;
        }
        check_len(function, at, cap::PCI_CFG_SIZE).map_err(|fault| PciError::Capability {
            structure,
            at,
            fault,
        })?;
        return Ok(at);
    }
    Err(PciError::Missing(structure))
}

fn first<C: ConfigAccess + ?Sized>(
    function: &Function<'_, C>,
    capabilities: &[(u16, u8)],
    structure: Structure,
) -> Result<Option<Found>, PciError> {
    let mut unusable = None;
    let vendor = capabilities.iter().filter(|(_, id)| *id == CAP_VENDOR_SPECIFIC).map(|(at, _)| *at);
    for at in vendor.filter(|at| type_of(function, *at) == Some(structure)) {
        match read(function, at, structure) {
            Ok(found) => return Ok(Some(found)),
            Err(fault) => {
                unusable.get_or_insert(PciError::Capability { structure, at, fault });
            }
        }
    }
    unusable.map_or(Ok(None), Err)
}

fn type_of<C: ConfigAccess + ?Sized>(function: &Function<'_, C>, at: u16) -> Option<Structure> {
    // The smallest capability may end before this byte; then it is some other capability's, and reading it does no harm.
    match function.config().read_u8(function.identity().at, at + cap::CFG_TYPE as u16) {
        cap::TYPE_COMMON => Some(Structure::CommonConfig),
        cap::TYPE_NOTIFY => Some(Structure::Notify),
        cap::TYPE_ISR => Some(Structure::Isr),
        cap::TYPE_DEVICE => Some(Structure::DeviceConfig),
        cap::TYPE_PCI_CFG => Some(Structure::PciConfig),
        _ => None,
    }
}

/// virtio 1.3 §4.1.4.1: a capability may be longer than the driver knows, and not shorter.
fn check_len<C: ConfigAccess + ?Sized>(
    function: &Function<'_, C>,
    at: u16,
    least: u8,
) -> Result<(), CapabilityFault> {
    let len = function.config().read_u8(function.identity().at, at + cap::LEN as u16);
    if len < least || at + u16::from(len) > CONFIG_LEN {
        return Err(CapabilityFault::Truncated(len));
    }
    Ok(())
}

fn read<C: ConfigAccess + ?Sized>(
    function: &Function<'_, C>,
    at: u16,
    structure: Structure,
) -> Result<Found, CapabilityFault> {
    let (config, function_at) = (function.config(), function.identity().at);
    check_len(function, at, if structure == Structure::Notify { cap::NOTIFY_SIZE } else { cap::SIZE })?;
    let bar = config.read_u8(function_at, at + cap::BAR as u16);
    let offset = config.read_u32(function_at, at + cap::OFFSET as u16);
    let len = config.read_u32(function_at, at + cap::LENGTH as u16);
    let place = place(function, structure, bar, (offset, len))?;
    let multiplier = match structure {
        Structure::Notify => config.read_u32(function_at, at + cap::NOTIFY_OFF_MULTIPLIER as u16),
        _ => 0,
    };
    // virtio 1.3 §4.1.4.4.1: an even power of 2, or 0.
    if multiplier != 0 && (multiplier == 1 || !multiplier.is_power_of_two()) {
        return Err(CapabilityFault::Multiplier(multiplier));
    }
    Ok(Found { place, multiplier })
}
