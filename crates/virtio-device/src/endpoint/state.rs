//! Pausing an endpoint, and its state as plain data to save and restore.
//!
//! Restored state comes from a file or a network peer: it is checked as a driver's writes are.

use super::queues::{EndpointQueue, Registers, Run};
use super::status::is_reachable;
use super::{Activity, Endpoint};
use crate::backend::{Backend, Host, HostEvents};
use std::sync::Arc;
use vioduct_spec::{Features, Status};
use vioduct_state::LoadError;
use vioduct_virtqueue::{Memory, QueuePosition, RingFormat, RingIndex};

/// All that an endpoint knows and its back-end does not; the device model's own state is not in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointState {
    /// The status field (virtio 1.3 §2.1).
    pub status: u8,
    /// The driver's features.
    pub driver_features: u64,
    /// The configuration generation.
    pub generation: u32,
    /// Every queue of the device.
    pub queues: Vec<QueueState>,
}

/// The state of one queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueState {
    /// Size in descriptors.
    pub size: u16,
    /// Address of the descriptor area.
    pub descriptor_area: u64,
    /// Address of the driver area.
    pub driver_area: u64,
    /// Address of the device area.
    pub device_area: u64,
    /// Where an enabled queue stands, wrap counters included; `None` if the queue is not enabled.
    pub position: Option<QueuePosition>,
}

/// Why a saved state is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The endpoint has been used.
    #[error("state can be restored only into a device that has just been created or reset")]
    InUse,
    /// The status bits cannot occur together.
    #[error("a device is never in status {0:#x}: the saved state is damaged")]
    Status(u8),
    /// The features do not suit this device.
    #[error("the saved features do not suit this device ({0}): restore on one that offers at least as much")]
    Features(String),
    /// The queues are not those of this device.
    #[error("{saved} queues saved, the device has {count}: restore on the same kind of device")]
    QueueCount {
        /// In the state.
        saved: usize,
        /// In the device.
        count: usize,
    },
    /// Another device was saved.
    #[error(
        "a device of type {saved} was saved, this one is of type {device}: restore on the same kind of device"
    )]
    DeviceType {
        /// In the state.
        saved: u32,
        /// What this device is.
        device: u32,
    },
    /// Its configuration space is another.
    #[error(
        "{saved} bytes of configuration space saved, the device has {device}: restore on the same kind of device"
    )]
    ConfigLen {
        /// In the state.
        saved: u64,
        /// In the device.
        device: u64,
    },
    /// The model does not take its state.
    #[error("{0}")]
    Model(String),
    /// The state is not in its form.
    #[error(transparent)]
    Form(#[from] LoadError),
    /// A queue's set-up is not valid.
    #[error("queue {queue}: {reason}: the saved state is damaged")]
    Queue {
        /// Which queue.
        queue: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

impl<B: Backend> Endpoint<B> {
    /// Stops all queues, keeping their positions, until [`resume`](Self::resume). Does nothing if paused. A queue that cannot
    /// be stopped leaves the device needing a reset.
    pub fn pause(&mut self) {
        self.activity = Activity::Paused;
        self.halt_queues();
    }

    /// Starts the queues that [`pause`](Self::pause) stopped.
    pub fn resume(&mut self) {
        self.activity = Activity::Running;
        self.start_enabled_queues();
    }

    /// Changes the memory that the device sees: its queues stop, so that nothing uses the old one, and start again.
    pub fn replace_memory(&mut self, memory: Arc<dyn Memory>) {
        let before = self.activity;
        self.pause();
        self.backend.connect(Host { memory, events: self.events.clone() });
        if before == Activity::Running {
            self.resume();
        }
    }

    /// Pauses, and returns the state. [`resume`](Self::resume) goes on here; [`restore`](Self::restore) and `resume` go on
    /// elsewhere.
    pub fn save(&mut self) -> EndpointState {
        self.pause();
        let Self {
            backend: _,
            info: _,
            offered: _,
            driver_features,
            queues,
            config_seen: _,
            activity: _,
            events,
            log: _,
        } = self;
        EndpointState {
            status: events.status().0,
            driver_features: driver_features.0,
            generation: events.generation(),
            queues: queues.iter().map(QueueState::of).collect(),
        }
    }

    /// Takes over a saved state and stays paused.
    ///
    /// # Errors
    /// If the state does not fit this device, or is damaged. The endpoint is then in reset.
    pub fn restore(&mut self, state: &EndpointState) -> Result<(), RestoreError> {
        if self.status() != Status::RESET {
            return Err(RestoreError::InUse);
        }
        self.activity = Activity::Paused;
        let outcome = self.take_over(state);
        if outcome.is_err() {
            self.reset();
        }
        outcome
    }

    pub(super) fn take_over(&mut self, state: &EndpointState) -> Result<(), RestoreError> {
        let EndpointState { status, driver_features, generation, queues } = state;
        let (status, features) = (Status(*status), Features(*driver_features));
        if !is_reachable(status) {
            return Err(RestoreError::Status(status.0));
        }
        let negotiated = status.contains(Status::FEATURES_OK);
        if negotiated {
            self.check_features(features).map_err(RestoreError::Features)?;
        }
        let count = self.queues.len();
        if queues.len() != count {
            return Err(RestoreError::QueueCount { saved: queues.len(), count });
        }
        for (number, (queue, saved)) in self.queues.iter_mut().zip(queues).enumerate() {
            let format = negotiated.then(|| RingFormat::of(features));
            saved
                .restore_into(queue, format)
                .map_err(|reason| RestoreError::Queue { queue: number, reason })?;
        }
        self.driver_features = features;
        // The first read of the configuration must look like a change: what the driver saw was another device's.
        self.events.replace_generation(generation.wrapping_add(1));
        self.events.replace_status(status.without(Status::NEEDS_RESET));
        if status.contains(Status::NEEDS_RESET) {
            self.events.needs_reset(&"it did when it was saved");
        }
        Ok(())
    }
}

impl QueueState {
    fn of(queue: &EndpointQueue) -> Self {
        let Registers { size, descriptor_area, driver_area, device_area } = queue.registers;
        let position = match queue.run {
            Run::Disabled | Run::Resetting => None,
            Run::Enabled(position) => Some(position),
            // Paused queues do not run, unless they could not stop; the status then tells.
            Run::Running => Some(QueuePosition::START),
        };
        Self { size, descriptor_area, driver_area, device_area, position }
    }

    fn restore_into(
        &self,
        queue: &mut EndpointQueue,
        format: Option<RingFormat>,
    ) -> Result<(), &'static str> {
        let Self { size, descriptor_area, driver_area, device_area, position } = *self;
        let registers = Registers { size, descriptor_area, driver_area, device_area };
        if let Some(position) = position {
            let format = format.ok_or("it is enabled before features are negotiated")?;
            registers.check(queue.max, format)?;
            if format == RingFormat::Packed && !(fits(position.available, size) && fits(position.used, size))
            {
                return Err("its position is outside of the ring");
            }
        }
        queue.registers = registers;
        queue.run = position.map_or(Run::Disabled, Run::Enabled);
        Ok(())
    }
}

fn fits(at: RingIndex, size: u16) -> bool {
    at.index < size
}
