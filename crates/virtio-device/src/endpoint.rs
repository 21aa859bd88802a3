//! [`Endpoint`]: the one state machine of status, features, configuration space and queues (virtio 1.3 §2.1, §2.2, §2.5,
//! §3.1). Transports are decoders over it: they hold selectors and interrupt state, and nothing else.
//!
//! | module | part |
//! |---|---|
//! | `status` | what a write to the status field does |
//! | `queues` | set-up, start, stop and reset of queues; notifications |
//! | `events` | what the back-end reports, from any thread |
//! | `state` | pause, save and restore |
//! | `saved` | the same as bytes, with the state of the model |

mod events;
mod queues;
mod saved;
mod state;
mod status;
#[cfg(test)]
mod tests;

pub use events::TransportInterrupts;
pub use queues::{Area, Half};
pub use state::{EndpointState, QueueState, RestoreError};
pub use status::StatusWrite;

use crate::backend::{Backend, Host};
use crate::model::{ConfigAccess, DeviceInfo};
use crate::rate_limit::RateLimit;
use events::Events;
use queues::EndpointQueue;
use std::fmt::Display;
use std::sync::Arc;
use vioduct_spec::{Features, Status};
use vioduct_virtqueue::Memory;

/// The reserved feature bits that a transport must implement, not the queues: [`Endpoint`] offers them only where the
/// transport says that it does.
const TRANSPORT_FEATURES: Features = Features::NOTIFICATION_DATA
    .with(Features::NOTIF_CONFIG_DATA)
    .with(Features::RING_RESET)
    .with(Features::SR_IOV);

/// One virtio device as a transport shows it to a driver. Every method survives every argument.
pub struct Endpoint<B> {
    backend: B,
    info: DeviceInfo,
    offered: Features,
    driver_features: Features,
    queues: Vec<EndpointQueue>,
    /// The configuration space as the driver last saw it.
    config_seen: Vec<u8>,
    activity: Activity,
    events: Arc<Events>,
    log: RateLimit,
}

/// Whether queues run when the driver says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Activity {
    Running,
    Paused,
}

impl<B: Backend> Endpoint<B> {
    /// An endpoint in reset over `backend`, whose rings and buffers lie in `memory`. `transport` names the features that the
    /// transport implements, of `NOTIFICATION_DATA`, `NOTIF_CONFIG_DATA` and `RING_RESET`.
    pub fn new(
        mut backend: B,
        memory: Arc<dyn Memory>,
        interrupts: Arc<dyn TransportInterrupts>,
        transport: Features,
    ) -> Self {
        let info = backend.info().clone();
        let offered = backend.features().without(TRANSPORT_FEATURES.without(transport));
        let events = Arc::new(Events::new(info.name, interrupts));
        backend.connect(Host { memory, events: events.clone() });
        let queues =
            (0..).zip(&info.queue_sizes).map(|(q, &max)| EndpointQueue::new(q, max, &events)).collect();
        let config_seen = vec![0; info.config_len];
        Self {
            backend,
            info,
            offered,
            driver_features: Features::NONE,
            queues,
            config_seen,
            activity: Activity::Running,
            events,
            log: RateLimit::default(),
        }
    }

    /// The back-end, for its own controls.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The back-end, for its own controls: the queues are the endpoint's to start and stop.
    pub fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// What the device is.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// The features on offer (virtio 1.3 §2.2).
    pub fn offered(&self) -> Features {
        self.offered
    }

    /// What the driver has written as its features so far.
    pub fn driver_features(&self) -> Features {
        self.driver_features
    }

    /// The features in force: none until the device has accepted FEATURES_OK.
    pub fn negotiated(&self) -> Features {
        if self.status().contains(Status::FEATURES_OK) { self.driver_features } else { Features::NONE }
    }

    /// The driver writes 32 of its feature bits. Ignored outside of negotiation: virtio 1.3 §3.1.1 has features chosen after
    /// DRIVER and before FEATURES_OK, and nothing may change them later (§2.2.1).
    pub fn set_driver_features(&mut self, select: u32, word: u32) {
        if self.status() == Status::ACKNOWLEDGE | Status::DRIVER {
            self.driver_features = self.driver_features.with_word(select, word);
        } else {
            self.refuse(&"features written outside of negotiation");
        }
    }

    /// The status field as the driver reads it.
    pub fn status(&self) -> Status {
        self.events.status()
    }

    /// The configuration generation (virtio 1.3 §2.5): differs from an earlier value if what the driver reads may differ.
    pub fn generation(&self) -> u32 {
        self.events.generation()
    }

    /// Reads the configuration space. Bytes beyond it are zero.
    pub fn read_config(&mut self, offset: u64, out: &mut [u8]) {
        out.fill(0);
        if self.config_seen.is_empty() {
            return;
        }
        // virtio 1.3 §4.1.4.3.1: the generation must differ once the driver has read a value that changed since it last read
        // any. Comparing with what it saw needs no help from the device model, and no lock around its fields.
        let mut now = vec![0; self.config_seen.len()];
        self.backend.read_config(0, &mut now);
        if now != self.config_seen {
            self.config_seen = now;
            self.events.advance_generation();
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (to, from) in out.iter_mut().zip(self.config_seen.iter().skip(start)) {
            *to = *from;
        }
    }

    /// Writes the configuration space: ignored unless it is writable at this time ([`ConfigAccess`]) and all of `data` is within.
    pub fn write_config(&mut self, offset: u64, data: &[u8]) {
        let status = self.status();
        let writable = match self.info.config_access {
            ConfigAccess::ReadOnly => false,
            ConfigAccess::Writable => status.contains(Status::DRIVER) && !status.contains(Status::FAILED),
            ConfigAccess::AlwaysWritable => true,
        };
        let within = usize::try_from(offset)
            .ok()
            .filter(|start| start.checked_add(data.len()).is_some_and(|end| end <= self.info.config_len));
        match within {
            Some(start) if writable => self.backend.write_config(start, data),
            _ => self.refuse(&"configuration space written where or when it may not be"),
        }
    }

    /// Says in the log, sparingly, that an access of the driver was ignored.
    fn refuse(&self, what: &dyn Display) {
        if let Some(suppressed) = self.log.admit() {
            tracing::warn!(device = self.info.name, suppressed, "ignored: {what}");
        }
    }
}
