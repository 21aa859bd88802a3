//! Memory that the front-end shares.

use super::{Outcome, Session};
use crate::error::Refusal;
use crate::table::MemoryTable;
use std::sync::Arc;
use vioduct_virtio_device::{Backend, Host};

impl<B: Backend> Session<B> {
    /// Changes the table. No queue runs meanwhile: what a device reads through, it was given when its queue was started. Those
    /// that ran go on, at the same addresses of the front-end.
    pub(super) fn share(
        &mut self,
        change: impl FnOnce(&MemoryTable) -> Result<MemoryTable, Refusal>,
    ) -> Result<Outcome, Refusal> {
        let table = change(&self.table)?;
        self.with_rings_halted(|session| {
            session.memory = Arc::new(table.memory());
            session.table = table;
            let (memory, events) = (session.memory.clone(), session.events.clone());
            session.device.connect(Host { memory, events });
            Ok(())
        })?;
        Ok(Outcome::Done)
    }
}
