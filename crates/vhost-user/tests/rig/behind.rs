//! Our front-end with the rings of a driver, and what it reports.

use crate::rig::front::{Front, Plan, guest_memory};
use crate::rig::peer::Peer;
use std::fmt::Display;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vioduct_vhost_user::{Frontend, FrontendError, Patience, SharedRegion};
use vioduct_virtio_device::{
    Backend, BackendError, DeviceInfo, EventFd, Features, Host, HostEvents, QueueSetup,
};
use vioduct_virtqueue::QueuePosition;

/// What a front-end has reported.
#[derive(Default)]
pub(crate) struct Reports {
    pub(crate) changes: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Reports {
    pub(crate) fn changes(&self) -> usize {
        self.changes.load(Ordering::SeqCst)
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().clone()
    }
}

impl HostEvents for Reports {
    fn config_changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }
    fn needs_reset(&self, reason: &dyn Display) {
        self.failures.lock().unwrap().push(reason.to_string());
    }
}

/// Short pauses, for servers that are back soon.
pub(crate) fn quick() -> Patience {
    Patience {
        first_pause: Duration::from_micros(500),
        longest_pause: Duration::from_millis(4),
        ..Patience::default()
    }
}

/// A driver's rings, and a front-end that has been given its memory.
pub(crate) struct Behind {
    /// Its peer is nobody: the front-end speaks.
    pub(crate) front: Front,
    pub(crate) frontend: Frontend,
    pub(crate) reports: Arc<Reports>,
}

/// Rings in memory, with nobody to serve them.
pub(crate) fn rings(plan: Plan) -> Front {
    let (unconnected, _) = UnixStream::pair().unwrap();
    Front::in_reset(Peer::over(unconnected), plan, Arc::new(guest_memory()))
}

impl Behind {
    /// Negotiates, and starts every ring.
    pub(crate) fn start(path: &Path, info: DeviceInfo, plan: Plan, patience: Patience) -> Self {
        let mut behind =
            Self::connect(rings(plan), |regions| Frontend::connect(path, info, regions, patience));
        behind.negotiate();
        (0..plan.queues).for_each(|q| behind.start_queue(q, QueuePosition::START).unwrap());
        behind
    }

    pub(crate) fn connect(
        front: Front,
        connect: impl FnOnce(Vec<SharedRegion>) -> Result<Frontend, FrontendError>,
    ) -> Self {
        let mut frontend = connect(SharedRegion::all_of(&front.memory).unwrap()).unwrap();
        let reports = Arc::new(Reports::default());
        frontend.connect(Host { memory: front.memory.clone(), events: reports.clone() });
        Self { front, frontend, reports }
    }

    pub(crate) fn negotiate(&mut self) {
        let features = self.front.plan.features.without(crate::rig::front::PROTOCOL_FEATURES);
        assert!(features.contains(Features::VERSION_1));
        self.frontend.set_features(features).unwrap();
    }

    pub(crate) fn start_queue(&mut self, q: u16, position: QueuePosition) -> Result<(), BackendError> {
        let ring = &self.front.rings[usize::from(q)];
        let event = |event: &EventFd| Arc::new(EventFd::from(event.as_fd().try_clone_to_owned().unwrap()));
        let setup = QueueSetup {
            layout: ring.driver.layout(),
            position,
            kick: Some(event(&ring.kick)),
            call: event(&ring.call),
            in_flight: None,
        };
        self.frontend.start_queue(q, setup)
    }
}
