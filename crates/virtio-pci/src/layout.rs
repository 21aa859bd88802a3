//! Where the structures of virtio 1.3 §4.1.4 lie: in one BAR, a page or more each, so that a host can take doorbells to an
//! eventfd, or to a mapping, and trap the rest.

use std::ops::Range;

use vioduct_pci::{BarSpec, BarWindow, Capability, MsixSpec};
use vioduct_spec::pci::{cap, common_config};

/// The BAR. It has 32-bit addresses and is not prefetchable, because reading the ISR has a side effect; every host and
/// firmware finds room for it.
pub(crate) const BAR: u8 = 0;
/// The unit of placement, in bytes: hosts trap and map whole pages.
pub(crate) const PAGE: u64 = 0x1000;
/// Distance between the doorbells of two queues, in bytes: 32 bits each, as NOTIFICATION_DATA writes (virtio 1.3
/// §4.1.4.4.1: a power of two that is a multiple of 4).
pub(crate) const NOTIFY_OFF_MULTIPLIER: u32 = 4;
/// MSI-X has 2048 vectors (PCI 3.0 §6.8.2), one of them for the configuration.
pub(crate) const MAX_QUEUES: u16 = 2047;

const COMMON_CONFIG: u64 = 0;
const ISR: u64 = PAGE;
const DEVICE_CONFIG: u64 = 2 * PAGE;
const NOTIFY: u64 = 3 * PAGE;

/// A structure that a driver accesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Structure {
    CommonConfig,
    Notify,
    Isr,
    DeviceConfig,
}

/// Where a structure is, by the terms of its capability.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    structure: Structure,
    cfg_type: u8,
    at: Range<u64>,
}

/// The BAR of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    places: Vec<Place>,
    msix: MsixSpec,
}

/// Where a driver's notifications of one queue arrive (virtio 1.3 §4.1.5.2), for a host that turns them into an eventfd's
/// signals. Those that do not match the description are to be passed on as writes to the BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doorbell {
    /// The BAR.
    pub bar: u8,
    /// Offset in the BAR, in bytes.
    pub offset: u64,
    /// Width of the write, in bytes: 2, or 4 with NOTIFICATION_DATA.
    pub len: u8,
    /// The value written, if it is always the same.
    pub datamatch: Option<u64>,
}

impl Layout {
    /// For `queues` up to [`MAX_QUEUES`].
    pub(crate) fn new(queues: u16, config_len: usize) -> Self {
        let notify_len = u64::from(NOTIFY_OFF_MULTIPLIER) * u64::from(queues.max(1));
        let mut places = vec![
            Place::new(Structure::CommonConfig, cap::TYPE_COMMON, COMMON_CONFIG, common_config::LEN),
            Place::new(Structure::Notify, cap::TYPE_NOTIFY, NOTIFY, notify_len),
            Place::new(Structure::Isr, cap::TYPE_ISR, ISR, 1),
        ];
        // virtio 1.3 §4.1.4.6: for device types that have a configuration. The length includes padding: a driver that looks
        // for a field that this device lacks then reads a zero.
        if config_len > 0 {
            places.push(Place::new(Structure::DeviceConfig, cap::TYPE_DEVICE, DEVICE_CONFIG, PAGE));
        }
        // virtio 1.3 §4.1.5.1.2.1: at least 2. One for each event is what drivers like best.
        let vectors = queues.saturating_add(1).max(2);
        let msix_at = (NOTIFY + notify_len).next_multiple_of(PAGE);
        Self { places, msix: MsixSpec::in_bar(vectors, BAR, msix_at as u32) }
    }

    pub(crate) fn msix(&self) -> MsixSpec {
        self.msix.clone()
    }

    pub(crate) fn bar(&self) -> BarSpec {
        let end = u64::from(self.msix.pba_offset) + self.msix.pba_len();
        BarSpec::memory32(BAR, end.next_power_of_two())
    }

    /// The capabilities in the order of the list: those that locate structures, then the one for configuration access.
    pub(crate) fn capabilities(&self) -> Vec<Capability> {
        let structures = self.places.iter().map(Place::capability);
        structures.chain([configuration_capability()]).collect()
    }

    /// The structure that all of an access is in, and where it begins there; an access of no bytes is in none.
    pub(crate) fn find(&self, offset: u64, len: usize) -> Option<(Structure, u64)> {
        let end = offset.checked_add(len as u64).filter(|end| *end > offset)?;
        let place = self.places.iter().find(|place| place.at.start <= offset && end <= place.at.end)?;
        Some((place.structure, offset - place.at.start))
    }

    /// Where the doorbell of queue `q` is in the BAR.
    pub(crate) fn doorbell_at(q: u16) -> u64 {
        NOTIFY + u64::from(NOTIFY_OFF_MULTIPLIER) * u64::from(q)
    }

    /// The queue whose doorbell is at `offset` in the notification structure.
    pub(crate) fn queue_of(offset: u64) -> Option<u16> {
        let multiplier = u64::from(NOTIFY_OFF_MULTIPLIER);
        offset.is_multiple_of(multiplier).then_some(offset / multiplier)?.try_into().ok()
    }
}

impl Place {
    fn new(structure: Structure, cfg_type: u8, start: u64, len: u64) -> Self {
        Self { structure, cfg_type, at: start..start + len }
    }

    fn capability(&self) -> Capability {
        let len = self.at.end - self.at.start;
        let mut body = capability_body(self.cfg_type, self.at.start as u32, len as u32);
        if self.structure == Structure::Notify {
            body.extend(NOTIFY_OFF_MULTIPLIER.to_le_bytes());
        }
        Capability::vendor(body)
    }
}

/// `struct virtio_pci_cap` (virtio 1.3 §4.1.4) from `cfg_type` on; what precedes it is filled in for us.
fn capability_body(cfg_type: u8, offset: u32, len: u32) -> Vec<u8> {
    const ID_AND_PADDING: [u8; 3] = [0; 3];
    let mut body = vec![cfg_type, BAR];
    body.extend(ID_AND_PADDING);
    body.extend(offset.to_le_bytes());
    body.extend(len.to_le_bytes());
    body
}

/// The capability that gives access to BARs by configuration space. virtio 1.3 §4.1.4.9: `bar`, `offset`, `length` and
/// `pci_cfg_data` are the driver's to write.
#[must_use]
pub fn configuration_capability() -> Capability {
    let mut body = capability_body(cap::TYPE_PCI_CFG, 0, 0);
    body.extend([0; cap::PCI_CFG_SIZE as usize - cap::PCI_CFG_DATA]);
    let mut writable = vec![0; body.len()];
    let bar = cap::BAR..cap::BAR + 1;
    let rest = cap::OFFSET..usize::from(cap::PCI_CFG_SIZE);
    for at in bar.chain(rest) {
        if let Some(mask) = writable.get_mut(at - cap::CFG_TYPE) {
            *mask = 0xff;
        }
    }
    Capability::Vendor { body, writable }
}

/// What `pci_cfg_data` stands for, by the capability's bytes (virtio 1.3 §4.1.4.9); `None` for a capability of another
/// type, and for a length that is not one of an access.
pub(crate) fn configuration_window(capability: &[u8]) -> Option<BarWindow> {
    let long = |at: usize| capability.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    if *capability.get(cap::CFG_TYPE)? != cap::TYPE_PCI_CFG {
        return None;
    }
    let len @ (1 | 2 | 4) = long(cap::LENGTH)? else { return None };
    Some(BarWindow {
        bar: *capability.get(cap::BAR)?,
        offset: long(cap::OFFSET)?.into(),
        len: len as usize,
        data_at: cap::PCI_CFG_DATA,
    })
}
