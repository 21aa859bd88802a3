//! What the arcs of a migration do to the device.

use super::{Reply, Session};
use crate::migration::{Incoming, MigrationState, Outgoing, Phase};
use crate::wire::{Capabilities, MigrationRead, Payload, Refusal};
use vioduct_pci::StateError;

impl Session<'_> {
    /// Goes to a state by the arcs that lead there. Where one is refused the device stays, unless it has failed.
    pub(super) fn go_to(&mut self, wanted: MigrationState) -> Result<(), Refusal> {
        while self.phase.state() != wanted {
            self.phase = match (self.phase.state(), self.phase.state().toward(wanted)?) {
                (MigrationState::Running, _) => self.stop(),
                (MigrationState::Resuming, _) => self.end_resuming()?,
                (_, MigrationState::Running) => self.start(),
                (_, MigrationState::StopCopy) => self.begin_copy()?,
                (_, MigrationState::Resuming) => Phase::Resuming(Incoming::default()),
                (_, MigrationState::Stop | MigrationState::Error) => Phase::Stop,
            };
        }
        Ok(())
    }

    /// From here on the device reaches for no memory and interrupts nobody. Whatever its queues had in hand is complete, and told.
    fn stop(&mut self) -> Phase {
        self.device.function().pause();
        self.device.irqs().hold();
        Phase::Stop
    }

    /// The client says that the device is to run, so all is mapped that it wanted to map at first.
    fn start(&mut self) -> Phase {
        self.phase = Phase::Running;
        self.device.irqs().release();
        self.settle();
        self.resume();
        Phase::Running
    }

    fn begin_copy(&mut self) -> Result<Phase, Refusal> {
        let state = self.device.save().map_err(|error| {
            self.explain(&error);
            Refusal::Failed
        })?;
        Ok(Phase::StopCopy(Outgoing::new(state)))
    }

    /// VFIO: the state is complete now, or the arc fails and may lead to ERROR. It does: a device that is half another is none.
    fn end_resuming(&mut self) -> Result<Phase, Refusal> {
        let Phase::Resuming(incoming) = std::mem::replace(&mut self.phase, Phase::Error) else {
            return Err(Refusal::Invalid);
        };
        self.device.restore(incoming.bytes()).map_err(|error| {
            self.explain(&error);
            Refusal::Invalid
        })?;
        Ok(Phase::Stop)
    }

    pub(super) fn migration_read(
        &mut self,
        request: MigrationRead,
        client: Capabilities,
    ) -> Result<Reply, Refusal> {
        let MigrationRead { argsz, size } = request;
        let Phase::StopCopy(outgoing) = &mut self.phase else { return Err(Refusal::Invalid) };
        if u64::from(size) > client.max_data_xfer_size || argsz.checked_sub(8).is_none_or(|room| room < size)
        {
            return Err(Refusal::Invalid);
        }
        let piece = outgoing.take(size as usize);
        let len = u32::try_from(piece.len()).unwrap_or(size);
        Ok(Payload::default().u32(len + 8).u32(len).bytes(piece).into())
    }

    pub(super) fn migration_write(&mut self, piece: &[u8]) -> Result<Reply, Refusal> {
        let Phase::Resuming(incoming) = &mut self.phase else { return Err(Refusal::Invalid) };
        incoming.put(piece)?;
        Ok(Reply::default())
    }

    /// Says in the log, sparingly, why a state was refused.
    fn explain(&self, error: &StateError) {
        if let Some(suppressed) = self.refusals.admit() {
            tracing::warn!(suppressed, "vfio-user migration: {error}");
        }
    }
}
