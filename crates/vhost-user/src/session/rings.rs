//! Rings: set-up, start and stop.
//!
//! A ring is started by its kick descriptor, or by the first in-band kick, and stopped when its base is asked for. It is enabled
//! and disabled besides. It runs while both are so; a ring that is started and not enabled is left alone. Its set-up is fixed
//! while it runs. Starting early is harmless, for a ring's memory is ready before the front-end speaks of it, and a queue that
//! starts looks into its ring by itself.

use super::{Outcome, Session};
use crate::error::Refusal;
use crate::features::PROTOCOL_FEATURES;
use crate::notify::{Kick, Signaller};
use crate::vring::{self, Areas, Vring};
use crate::wire::{ProtocolFeatures, Record, RingAddress, RingFd, RingState};
use vioduct_virtio_device::{Backend, QueueSetup};
use vioduct_virtqueue::{Memory, RingFormat, RingLayout};

impl<B: Backend> Session<B> {
    /// Ring `number`, and its number as queues have it. The number is compared in its full width.
    fn ring(&mut self, number: u32) -> Result<(u16, &mut Vring), Refusal> {
        let ring = u16::try_from(number).map_err(|_| Refusal::NoSuchRing(number))?;
        let state = self.rings.get_mut(usize::from(ring)).ok_or(Refusal::NoSuchRing(number))?;
        Ok((ring, state))
    }

    /// Ring `number`, for a change that it must not run for.
    fn idle_ring(&mut self, number: u32) -> Result<&mut Vring, Refusal> {
        match self.ring(number)? {
            (ring, Vring { running: true, .. }) => {
                Err(Refusal::Ring { ring, reason: "it runs: its set-up cannot change" })
            }
            (_, state) => Ok(state),
        }
    }

    pub(super) fn set_ring_size(&mut self, size: RingState) -> Result<Outcome, Refusal> {
        let ring = self.idle_ring(size.ring)?;
        ring.size = Some(vring::ring_size(size.value)?);
        self.follow_ring()
    }

    pub(super) fn set_ring_base(&mut self, base: RingState) -> Result<Outcome, Refusal> {
        self.idle_ring(base.ring)?.base = base.value;
        Ok(Outcome::Done)
    }

    /// The addresses of a ring that runs may be said again, to begin or end the log of its writes.
    pub(super) fn set_ring_address(&mut self, address: RingAddress) -> Result<Outcome, Refusal> {
        const LOG: u32 = 1;
        if address.flags & !LOG != 0 {
            return Err(Refusal::Rule("flags of a ring address that are not known"));
        }
        let RingAddress { descriptor, driver, device, log, .. } = address;
        let areas = Some(Areas { descriptor, driver, device });
        let log = (address.flags & LOG != 0).then_some(log);
        let (_, ring) = self.ring(address.ring)?;
        if ring.areas == areas {
            ring.log = log;
        } else {
            let ring = self.idle_ring(address.ring)?;
            (ring.areas, ring.log) = (areas, log);
        }
        self.follow_ring()
    }

    /// The memory knows which writes are a ring's, where writes are logged.
    fn follow_ring(&mut self) -> Result<Outcome, Refusal> {
        if self.is_logging() || self.memory.logs_writes() {
            self.renew_memory()?;
        }
        Ok(Outcome::Done)
    }

    /// A kick descriptor starts the ring; a ring that runs goes on with the new one.
    pub(super) fn set_kick(&mut self, command: RingFd) -> Result<Outcome, Refusal> {
        let kick = Kick::new(command.fd)?;
        let (ring, _) = self.ring(command.ring)?;
        self.halt(ring)?;
        let (ring, state) = self.ring(command.ring)?;
        state.kick = kick;
        state.started = true;
        self.run_if_due(ring)?;
        Ok(Outcome::Done)
    }

    /// An in-band kick starts the ring, too. A ring with a descriptor has its kicks from there.
    pub(super) fn kick(&mut self, number: u32) -> Result<Outcome, Refusal> {
        let (ring, state) = self.ring(number)?;
        state.started = true;
        let in_band = matches!(state.kick, Kick::InBand);
        self.run_if_due(ring)?;
        if in_band {
            self.device.kick(ring);
        }
        Ok(Outcome::Done)
    }

    /// Whether a ring is to be looked at without being asked to.
    pub(super) fn polls(&self) -> bool {
        self.rings.iter().any(Vring::is_polled)
    }

    /// Looks at the rings whose front-end sends no kicks.
    pub(super) fn poll_rings(&mut self) {
        for (ring, _) in (0..).zip(&self.rings).filter(|(_, state)| state.is_polled()) {
            self.device.kick(ring);
        }
    }

    pub(super) fn set_call(&mut self, command: RingFd) -> Result<Outcome, Refusal> {
        let fd = command.fd.map(Signaller::new).transpose()?;
        let (_, ring) = self.ring(command.ring)?;
        ring.call.set(fd);
        Ok(Outcome::Done)
    }

    pub(super) fn set_error(&mut self, command: RingFd) -> Result<Outcome, Refusal> {
        let fd = command.fd.map(Signaller::new).transpose()?;
        let (ring, _) = self.ring(command.ring)?;
        self.events.set_error(ring, fd);
        Ok(Outcome::Done)
    }

    pub(super) fn enable_ring(&mut self, state: RingState) -> Result<Outcome, Refusal> {
        if self.features.is_some_and(|features| !features.contains(PROTOCOL_FEATURES)) {
            return Err(Refusal::Rule("rings are always enabled where PROTOCOL_FEATURES is not set"));
        }
        let (ring, vring) = self.ring(state.ring)?;
        match state.value {
            0 => {
                vring.enabled = false;
                self.halt(ring)?;
            }
            1 => {
                vring.enabled = true;
                self.run_if_due(ring)?;
            }
            _ => return Err(Refusal::Rule("a ring can be enabled (1) or disabled (0)")),
        }
        Ok(Outcome::Done)
    }

    /// Without `PROTOCOL_FEATURES` there is no message to enable a ring.
    pub(super) fn enable_all_rings(&mut self) -> Result<(), Refusal> {
        self.rings.iter_mut().for_each(|ring| ring.enabled = true);
        self.each_ring(Self::run_if_due)
    }

    /// What `RESET_OWNER` was for, when it was of use.
    pub(super) fn disable_rings(&mut self) -> Result<Outcome, Refusal> {
        self.each_ring(Self::halt)?;
        for ring in &mut self.rings {
            (ring.started, ring.enabled) = (false, false);
        }
        Ok(Outcome::Done)
    }

    /// Stops the ring and says where it stood. It needs a kick to start again.
    pub(super) fn stop_ring(&mut self, number: u32) -> Result<Outcome, Refusal> {
        let (ring, _) = self.ring(number)?;
        self.halt(ring)?;
        let (_, state) = self.ring(number)?;
        (state.started, state.kick) = (false, Kick::InBand);
        Ok(Outcome::Reply(Record::new().u32(number).u32(state.base).done()))
    }

    /// Stops all rings for a change, and starts again those that ran.
    pub(super) fn with_rings_halted(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let changed = self.each_ring(Self::halt).and_then(|()| change(self));
        let resumed = self.each_ring(Self::run_if_ready);
        changed.and(resumed)
    }

    pub(super) fn halt_all(&mut self) -> Result<(), Refusal> {
        self.each_ring(Self::halt)
    }

    fn each_ring(&mut self, one: impl Fn(&mut Self, u16) -> Result<(), Refusal>) -> Result<(), Refusal> {
        (0..self.rings.len() as u16).try_for_each(|ring| one(self, ring))
    }

    /// Stops ring `ring` if it runs, and keeps its position. If it met a fault it has none; it keeps its last.
    fn halt(&mut self, ring: u16) -> Result<(), Refusal> {
        let format = self.format();
        let Some(state) = self.rings.get_mut(usize::from(ring)).filter(|state| state.running) else {
            return Ok(());
        };
        let position = self.device.stop_queue(ring)?;
        state.running = false;
        if let (Some(position), Some(format)) = (position, format) {
            state.base = vring::vring_base(format, position);
        }
        Ok(())
    }

    /// Starts ring `ring` if it is due to run and does not; it must be set up then.
    fn run_if_due(&mut self, ring: u16) -> Result<(), Refusal> {
        let due = |state: &&Vring| state.started && state.enabled && !state.running;
        match self.rings.get(usize::from(ring)).filter(due) {
            Some(_) => self.run(ring),
            None => Ok(()),
        }
    }

    /// The same, where a ring that is not set up is left alone: it is none that ran before.
    fn run_if_ready(&mut self, ring: u16) -> Result<(), Refusal> {
        let ready = |state: &Vring| state.areas.is_some() && state.size.is_some();
        match self.rings.get(usize::from(ring)).is_some_and(ready) {
            true => self.run_if_due(ring),
            false => Ok(()),
        }
    }

    fn run(&mut self, ring: u16) -> Result<(), Refusal> {
        let incomplete = |reason| Refusal::Ring { ring, reason };
        let format = self.format().ok_or(incomplete("features are not set"))?;
        let state = self.rings.get(usize::from(ring)).ok_or(Refusal::NoSuchRing(ring.into()))?;
        let size = state.size.ok_or(incomplete("its size is not set"))?;
        let areas = state.areas.ok_or(incomplete("its addresses are not set"))?;
        let layout = RingLayout {
            size,
            descriptor_area: self.table.guest_address(areas.descriptor)?,
            driver_area: self.table.guest_address(areas.driver)?,
            device_area: self.table.guest_address(areas.device)?,
        };
        let position = vring::position(format, state.base, &layout, &*self.memory)?;
        let in_flight = match &self.records {
            Some(records) => records.area(ring, size)?,
            None => None,
        };
        let (kick, call) = (state.kick.descriptor(), state.call.clone());
        let setup = QueueSetup { layout, position, kick, call, in_flight };
        self.device.start_queue(ring, setup)?;
        if let Some(state) = self.rings.get_mut(usize::from(ring)) {
            state.running = true;
        }
        Ok(())
    }

    fn format(&self) -> Option<RingFormat> {
        self.features.map(RingFormat::of)
    }

    /// Whether no ring is started: the device then neither changes memory nor speaks.
    pub(super) fn is_suspended(&self) -> bool {
        !self.rings.iter().any(|ring| ring.started)
    }

    /// What the protocol feature `feature` allows is asked for.
    pub(super) fn check_agreed(&self, feature: ProtocolFeatures) -> Result<(), Refusal> {
        match self.has_agreed_on(feature) {
            true => Ok(()),
            false => Err(Refusal::Rule("a request of a protocol feature that is not agreed on")),
        }
    }
}
