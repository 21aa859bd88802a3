//! Memory that the front-end shares, and the log of what is written to it.

use super::{Outcome, Session};
use crate::dirty_log::{DirtyLog, Log, RingLog};
use crate::error::Refusal;
use crate::table::MemoryTable;
use crate::vring::{Areas, Vring};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use vioduct_virtio_device::{Backend, Host};
use vioduct_virtqueue::{AreaSizes, RingFormat};

impl<B: Backend> Session<B> {
    pub(super) fn share(
        &mut self,
        change: impl FnOnce(&MemoryTable) -> Result<MemoryTable, Refusal>,
    ) -> Result<Outcome, Refusal> {
        let table = change(&self.table)?;
        self.with_rings_halted(|session| {
            session.table = table;
            session.connect_memory();
            Ok(())
        })?;
        Ok(Outcome::Done)
    }

    pub(super) fn set_log(&mut self, len: u64, offset: u64, file: OwnedFd) -> Result<Outcome, Refusal> {
        self.log = Some(Arc::new(DirtyLog::new(len, offset, file, self.table.limits())?));
        self.renew_memory()?;
        Ok(Outcome::number(0))
    }

    /// After a change of what is logged, and where.
    pub(super) fn renew_memory(&mut self) -> Result<(), Refusal> {
        self.with_rings_halted(|session| {
            session.connect_memory();
            Ok(())
        })
    }

    /// Gives the device the memory as it is now. No queue runs meanwhile: what a device reads through, it was given when its queue
    /// was started.
    fn connect_memory(&mut self) {
        self.memory = Arc::new(self.table.memory(self.current_log()));
        self.device.connect(Host { memory: self.memory.clone(), events: self.events.clone() });
    }

    /// Whether anything is logged.
    pub(super) fn is_logging(&self) -> bool {
        self.log.is_some() && (self.logs_data() || self.rings.iter().any(|ring| ring.log.is_some()))
    }

    fn current_log(&self) -> Option<Log> {
        let pages = self.log.clone().filter(|_| self.is_logging())?;
        let format = RingFormat::of(self.features.unwrap_or_default());
        let rings = self.rings.iter().flat_map(|ring| self.ring_logs(ring, format)).collect();
        Some(Log { pages, data: self.logs_data(), rings })
    }

    /// The areas of a ring that the device writes. The address for the log is the device area's; the descriptors of a packed ring,
    /// which the protocol forgets, are logged where they are.
    fn ring_logs(&self, ring: &Vring, format: RingFormat) -> Vec<RingLog> {
        let (Some(size), Some(Areas { descriptor, device, .. })) = (ring.size, ring.areas) else {
            return Vec::new();
        };
        let sizes = AreaSizes::of(format, size);
        let mut logs = Vec::new();
        if let Ok(at) = self.table.guest_address(device) {
            logs.push(RingLog { at, len: sizes.device_len as u64, log: ring.log });
        }
        if let (RingFormat::Packed, Ok(at)) = (format, self.table.guest_address(descriptor)) {
            logs.push(RingLog { at, len: sizes.descriptor_len as u64, log: ring.log.map(|_| at.0) });
        }
        logs
    }
}
