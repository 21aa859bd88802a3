//! Guest memory as the kernel is told of it: by its addresses in this process.

use crate::refusal::Refusal;
use crate::request::{Areas, Slot};
use vioduct_virtio_device::MemoryMap;
use vioduct_virtqueue::{AreaSizes, IoAddr, Memory, MemoryFault, Region, RingFormat, RingLayout, SetupError};

const PAGE_LEN: u64 = 4096;

/// All regions. The kernel takes whole pages.
pub(crate) fn slots(ram: &MemoryMap) -> Result<Vec<Slot>, Refusal> {
    let slot = |region: Region| {
        let slot = slot_of(region);
        let whole = [slot.guest, slot.len, slot.user].iter().all(|number| number.is_multiple_of(PAGE_LEN));
        let unsuitable = || {
            let at = region.at;
            Refusal::Unsuitable(format!("the kernel takes whole pages, and the memory at {at} has others"))
        };
        whole.then_some(slot).ok_or_else(unsuitable)
    };
    ram.regions().map(|(region, _)| slot(region)).collect()
}

/// The region that has this address.
pub(crate) fn slot_at(ram: &MemoryMap, at: IoAddr) -> Option<Slot> {
    ram.region(at).map(slot_of)
}

fn slot_of(region: Region) -> Slot {
    Slot { guest: region.at.0, len: region.len, user: region.host.as_ptr() as u64 }
}

/// Where a split ring's areas are as the driver has them, which is how the kernel wants them where it asks for translations.
pub(crate) fn areas_of_driver(layout: RingLayout) -> Areas {
    let RingLayout { size: _, descriptor_area, driver_area, device_area } = layout;
    Areas { descriptor: descriptor_area.0, driver: driver_area.0, device: device_area.0, log: None }
}

/// Where a split ring's areas are, each of which must be in one region.
pub(crate) fn areas(ram: &MemoryMap, layout: RingLayout) -> Result<Areas, SetupError> {
    let RingLayout { size, descriptor_area, driver_area, device_area } = layout;
    let AreaSizes { descriptor_len, driver_len, device_len, .. } = AreaSizes::of(RingFormat::Split, size);
    let here = |at: IoAddr, len: usize| {
        let len = len as u64;
        let host = ram.region(at).and_then(|region| region.translate(at, len));
        host.map(|host| host.as_ptr() as u64).ok_or(SetupError::Memory(MemoryFault { at, len }))
    };
    Ok(Areas {
        descriptor: here(descriptor_area, descriptor_len)?,
        driver: here(driver_area, driver_len)?,
        device: here(device_area, device_len)?,
        log: None,
    })
}
