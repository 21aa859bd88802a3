//! Tests of the endpoint over a back-end that records what it is asked.

mod config;
mod queues;
mod saved;
mod state;
mod status;

use crate::backend::{Backend, BackendError, Host, QueueSetup};
use crate::model::{ConfigAccess, DeviceInfo};
use crate::rig::Rig;
use vioduct_spec::{Features, Status};
use vioduct_virtqueue::{QueuePosition, RingIndex, RingLayout, Wrap};

/// What the endpoint asked of its back-end.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Call {
    Features(Features),
    Start(u16, RingLayout, QueuePosition),
    Stop(u16),
    Kick(u16),
    Write(usize, Vec<u8>),
    Reset,
}

/// What the back-end refuses to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refusal {
    Nothing,
    Features,
    Start,
    Stop,
}

struct Recorder {
    info: DeviceInfo,
    config: Vec<u8>,
    calls: Vec<Call>,
    refusal: Refusal,
    host: Option<Host>,
}

/// Where a recorder says that each queue stopped.
const STOPPED_AT: QueuePosition = QueuePosition {
    available: RingIndex { index: 3, wrap: Wrap::Clear },
    used: RingIndex { index: 3, wrap: Wrap::Clear },
};

impl Recorder {
    fn new() -> Self {
        let info = DeviceInfo {
            features: Features::bit(0),
            config_len: 8,
            config_access: ConfigAccess::Writable,
            ..DeviceInfo::new(63, "recorder", vec![16, 8, 64])
        };
        let (calls, refusal) = (Vec::new(), Refusal::Nothing);
        Self { info, config: vec![1, 2, 3, 4, 5, 6, 7, 8], calls, refusal, host: None }
    }

    fn refusing(refusal: Refusal) -> Self {
        Self { refusal, ..Self::new() }
    }

    fn host(&self) -> Host {
        self.host.clone().unwrap()
    }

    fn answer(&self, refusal: Refusal) -> Result<(), BackendError> {
        if self.refusal == refusal {
            return Err(BackendError::Other(format!("told to refuse: {refusal:?}")));
        }
        Ok(())
    }
}

impl Backend for Recorder {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }
    fn features(&self) -> Features {
        self.info.features | Features::RING | Features::RING_RESET | Features::NOTIFICATION_DATA
    }
    fn read_config(&self, offset: usize, out: &mut [u8]) {
        out.copy_from_slice(&self.config[offset..offset + out.len()]);
    }
    fn write_config(&mut self, offset: usize, data: &[u8]) {
        self.calls.push(Call::Write(offset, data.to_vec()));
    }
    fn connect(&mut self, host: Host) {
        self.host = Some(host);
    }
    fn set_features(&mut self, negotiated: Features) -> Result<(), BackendError> {
        self.calls.push(Call::Features(negotiated));
        self.answer(Refusal::Features)
    }
    fn start_queue(&mut self, q: u16, setup: QueueSetup) -> Result<(), BackendError> {
        self.calls.push(Call::Start(q, setup.layout, setup.position));
        self.answer(Refusal::Start)
    }
    fn stop_queue(&mut self, q: u16) -> Result<Option<QueuePosition>, BackendError> {
        self.calls.push(Call::Stop(q));
        self.answer(Refusal::Stop).map(|()| Some(STOPPED_AT))
    }
    fn kick(&mut self, q: u16) {
        self.calls.push(Call::Kick(q));
    }
    fn reset(&mut self) -> Result<(), BackendError> {
        self.calls.push(Call::Reset);
        self.answer(Refusal::Stop)
    }
}

/// A device in reset.
fn in_reset() -> Rig<Recorder> {
    Rig::in_reset(Recorder::new()).unwrap()
}

/// A device that the driver has brought to `status`, without queues.
fn at(status: Status) -> Rig<Recorder> {
    let mut rig = in_reset();
    for bit in [Status::ACKNOWLEDGE, Status::DRIVER, Status::FEATURES_OK, Status::DRIVER_OK, Status::FAILED] {
        if bit == Status::FEATURES_OK {
            rig.endpoint.set_driver_features(1, Features::VERSION_1.word(1));
        }
        if status.contains(bit) {
            rig.write_status(bit).unwrap();
        }
    }
    assert_eq!(rig.endpoint.status(), status);
    rig
}

/// A device with `features` whose queues are set up but not running.
fn features_ok(features: Features) -> Rig<Recorder> {
    let mut rig = in_reset();
    rig.negotiate(features).unwrap();
    rig
}

/// A device with all queues running.
fn live(features: Features) -> Rig<Recorder> {
    Rig::new(Recorder::new(), features).unwrap()
}

/// What was asked of the back-end since this was last called.
fn calls(rig: &mut Rig<Recorder>) -> Vec<Call> {
    std::mem::take(&mut rig.endpoint.backend_mut().calls)
}
