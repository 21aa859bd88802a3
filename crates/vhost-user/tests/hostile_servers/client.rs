//! What a machine does with a front-end.

use crate::rig::behind::Reports;
use crate::rig::front::{GUEST_START, guest_memory};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use vioduct_vhost_user::{Frontend, Patience, SharedRegion};
use vioduct_virtio_device::{Backend, DeviceInfo, EventFd, Features, Host, MemoryMap, QueueSetup, Signal};
use vioduct_virtqueue::{IoAddr, QueuePosition, RingLayout};

pub(crate) const PATIENCE: Patience = Patience {
    request: Duration::from_secs(5),
    call: Duration::from_secs(5),
    first_pause: Duration::from_millis(2),
    longest_pause: Duration::from_millis(20),
    absence: Duration::from_secs(3600),
};

pub(crate) struct Client {
    pub(crate) frontend: Frontend,
    pub(crate) reports: Arc<Reports>,
    pub(crate) call: Arc<dyn Signal>,
    _memory: Arc<MemoryMap>,
}

pub(crate) fn info() -> DeviceInfo {
    DeviceInfo { config_len: 16, ..DeviceInfo::new(63, "client", vec![16]) }
}

impl Client {
    pub(crate) fn connect(path: &Path) -> Result<Self, String> {
        Self::patient(path, PATIENCE)
    }

    pub(crate) fn patient(path: &Path, patience: Patience) -> Result<Self, String> {
        let memory = Arc::new(guest_memory());
        let regions = SharedRegion::all_of(&memory).unwrap();
        let mut frontend =
            Frontend::connect(path, info(), regions, patience).map_err(|error| error.to_string())?;
        let reports = Arc::new(Reports::default());
        frontend.connect(Host { memory: memory.clone(), events: reports.clone() });
        Ok(Self { frontend, reports, call: Arc::new(EventFd::new().unwrap()), _memory: memory })
    }

    pub(crate) fn start(&mut self, features: Features) -> Result<(), String> {
        let words = |error: vioduct_virtio_device::BackendError| error.to_string();
        self.frontend.set_features(Features::VERSION_1 | features).map_err(words)?;
        let at = |offset| IoAddr(GUEST_START + offset);
        let layout =
            RingLayout { size: 16, descriptor_area: at(0), driver_area: at(0x1000), device_area: at(0x2000) };
        let setup = QueueSetup {
            layout,
            position: QueuePosition::START,
            kick: None,
            call: self.call.clone(),
            in_flight: None,
        };
        self.frontend.start_queue(0, setup).map_err(words)
    }

    /// Everything that there is to do, up to the first failure.
    pub(crate) fn live(&mut self, features: Features) -> Result<(), String> {
        let words = |error: vioduct_virtio_device::BackendError| error.to_string();
        self.start(features)?;
        let mut config = [0; 16];
        self.frontend.read_config(0, &mut config);
        self.frontend.write_config(0, &[1; 4]);
        self.frontend.stop_queue(0).map_err(words)?;
        let state = self.frontend.save_state().map_err(words)?;
        self.frontend.restore_state(&state).map_err(words)?;
        self.frontend.reset().map_err(words)
    }
}
