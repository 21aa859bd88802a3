//! [`Ring`]: a queue that the server serves, with all that a server which comes back must be told of it.

use super::options::SharedRegion;
use crate::vring;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use vioduct_spec::ring::split::{AVAIL_IDX, AVAIL_RING, USED_ELEMENT_SIZE, USED_IDX, USED_RING};
use vioduct_virtio_device::{BackendError, EventFd, QueueSetup, Signal};
use vioduct_virtqueue::{
    AreaSizes, IoAddr, Memory, MemoryFault, QueuePosition, RingFormat, RingIndex, RingLayout,
};

pub(super) struct Ring {
    pub(super) layout: RingLayout,
    /// Where it began this time.
    pub(super) position: QueuePosition,
    pub(super) kick: Arc<EventFd>,
    pub(super) call: Arc<dyn Signal>,
    /// What the server signals where the driver's own notification is no descriptor, or is one that is gone.
    pub(super) heard: Arc<EventFd>,
    pub(super) error: Arc<EventFd>,
}

impl Ring {
    pub(super) fn new(setup: QueueSetup) -> io::Result<Self> {
        let QueueSetup { layout, position, kick, call, in_flight: _ } = setup;
        let event = || EventFd::new().map(Arc::new);
        let kick = kick.map_or_else(event, Ok)?;
        Ok(Self { layout, position, kick, call, heard: event()?, error: event()? })
    }

    /// What the server is to signal: the driver's own descriptor, so that nothing is in between, or ours.
    pub(super) fn call_fd(&self) -> BorrowedFd<'_> {
        self.call.eventfd().unwrap_or_else(|| self.heard.as_fd())
    }

    /// Refuses areas that the server cannot see: it would have to end the connection for what a driver did.
    pub(super) fn check(&self, format: RingFormat, regions: &[SharedRegion]) -> Result<(), BackendError> {
        let RingLayout { size, descriptor_area, driver_area, device_area } = self.layout;
        let AreaSizes { descriptor_len, driver_len, device_len, .. } = AreaSizes::of(format, size);
        let areas = [(descriptor_area, descriptor_len), (driver_area, driver_len), (device_area, device_len)];
        let shared = |(at, len): &(_, usize)| regions.iter().any(|region| region.holds(*at, *len as u64));
        match areas.iter().all(shared) {
            true => Ok(()),
            false => Err(BackendError::Other("a ring is outside of the memory that is shared".into())),
        }
    }

    /// The base from which it starts.
    pub(super) fn vring_base(&self, format: RingFormat) -> u32 {
        vring::vring_base(format, self.position)
    }

    /// The base from which another server goes on where one was lost. With a record, that tells what is in flight, and what is
    /// not used yet is taken again. Without, a split ring says itself what is used, and the rest is done once more.
    pub(super) fn vring_base_after_loss(&self, format: RingFormat, memory: &dyn Memory) -> u32 {
        let mut index = [0; 2];
        let read = self.layout.device_area.checked_add(USED_IDX as u64).map(|at| memory.read(at, &mut index));
        match (format, read) {
            (RingFormat::Split, Some(Ok(()))) => u16::from_le_bytes(index).into(),
            // A record that was not begun leaves the ring where it began.
            _ => self.vring_base(format),
        }
    }

    /// Where the server says that it has stopped. All that it had taken is used then, so a split ring stands at one place.
    pub(super) fn stopped(&self, format: RingFormat, base: u32) -> Option<QueuePosition> {
        let within = |at: RingIndex| at.index < self.layout.size;
        match format {
            RingFormat::Split => {
                let index = RingIndex { index: u16::try_from(base).ok()?, ..RingIndex::START };
                Some(QueuePosition { available: index, used: index })
            }
            RingFormat::Packed => Some(vring::packed_position(base))
                .filter(|position| within(position.available) && within(position.used)),
        }
    }

    /// Whether the buffers that a lost server has used of a split ring are those that were made available first, as far as the
    /// ring still shows both. Only then are those from the used index on in flight: one that was used early would be used
    /// twice, and another never.
    pub(super) fn was_used_in_order(&self, memory: &dyn Memory) -> Result<bool, MemoryFault> {
        let size = self.layout.size;
        let word = |area: IoAddr, offset: usize| -> Result<u16, MemoryFault> {
            let mut bytes = [0; 2];
            let fault = MemoryFault { at: area, len: offset as u64 };
            memory.read(area.checked_add(offset as u64).ok_or(fault)?, &mut bytes)?;
            Ok(u16::from_le_bytes(bytes))
        };
        let (driver, device) = (self.layout.driver_area, self.layout.device_area);
        let index = word(device, USED_IDX)?;
        let (mut available, mut used) = (Vec::new(), Vec::new());
        for back in 1..=size {
            let place = usize::from(index.wrapping_sub(back) % size);
            available.push(word(driver, AVAIL_RING + place * size_of::<u16>())?);
            used.push(word(device, USED_RING + place * USED_ELEMENT_SIZE)?);
        }
        // Read last, for the driver goes on meanwhile: what it has made available since is in the place of older entries.
        let in_flight = word(driver, AVAIL_IDX)?.wrapping_sub(index);
        let comparable = usize::from(size.saturating_sub(in_flight));
        for heads in [&mut available, &mut used] {
            heads.truncate(comparable);
            heads.sort_unstable();
        }
        Ok(in_flight == 0 || available == used)
    }
}

#[cfg(test)]
mod tests;
