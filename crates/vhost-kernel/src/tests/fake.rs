//! [`Fake`]: a kernel that notes what it is asked and does nothing; and a device with queues for it.

use crate::backend::KernelBackend;
use crate::kind::Kind;
use crate::node::Vhost;
use crate::request::{Areas, Request};
use crate::translation::Message;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use vioduct_spec::vhost::BACKEND_IOTLB_MSG_V2;
use vioduct_spec::{Features, Status};
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::rig::Rig;
use vioduct_virtio_device::{
    DeviceInfo, DeviceModel, EventFd, Fault, Handlers, Inline, Io, MemoryMap, QueueHandler, Signal, Wake,
};

/// What Linux's vhost offers of the reserved features, legacy bits and logging included.
pub(super) const KERNEL: Features = Features::bit(24)
    .with(Features::bit(26))
    .with(Features::bit(27))
    .with(Features::INDIRECT_DESC)
    .with(Features::EVENT_IDX)
    .with(Features::VERSION_1)
    .with(Features::ACCESS_PLATFORM);

/// Cheap to clone: all are one.
#[derive(Clone)]
pub(super) struct Fake(Arc<Mutex<State>>);

pub(super) struct State {
    /// What was asked, node by node in one list.
    pub(super) asked: Vec<String>,
    /// The beginnings of requests that fail.
    pub(super) refuses: Vec<&'static str>,
    pub(super) features: Features,
    /// Where each ring stands.
    pub(super) bases: [u64; 2],
    pub(super) value: u32,
    pub(super) log: u64,
    /// Of the rings that were given last.
    pub(super) errors: Vec<EventFd>,
    pub(super) calls: Vec<EventFd>,
    /// Of the ring that was given last.
    pub(super) areas: Areas,
    /// Features of the interface.
    pub(super) interface: u64,
    /// Addresses that have no translation, and what is signalled then.
    missed: Vec<u64>,
    bell: EventFd,
}

impl Fake {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            asked: Vec::new(),
            refuses: Vec::new(),
            features: KERNEL,
            bases: [0; 2],
            value: 0,
            log: 0,
            errors: Vec::new(),
            calls: Vec::new(),
            areas: Areas { descriptor: 0, driver: 0, device: 0, log: None },
            interface: BACKEND_IOTLB_MSG_V2,
            missed: Vec::new(),
            bell: EventFd::new().unwrap(),
        })))
    }

    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// What was asked since this was last called.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state().asked)
    }

    /// Fails what begins so from now on.
    pub(super) fn refuse(&self, requests: &[&'static str]) {
        self.state().refuses = requests.to_vec();
    }

    /// Has no translation for an address.
    pub(super) fn miss(&self, at: u64) {
        let mut state = self.state();
        state.missed.push(at);
        state.bell.signal();
    }

    pub(super) fn node(&self) -> Arc<dyn Vhost> {
        let bell = self.state().bell.as_fd().try_clone_to_owned().unwrap();
        Arc::new(FakeNode(self.clone(), bell))
    }
}

struct FakeNode(Fake, OwnedFd);

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.0.state().asked.push("close".to_owned());
    }
}

impl Vhost for FakeNode {
    fn ask(&self, request: Request<'_>) -> io::Result<u64> {
        let mut state = self.0.state();
        let words = describe(&request);
        let refused = state.refuses.iter().any(|refused| words.starts_with(refused));
        state.asked.push(words);
        if refused {
            return Err(io::Error::from_raw_os_error(libc::EFAULT));
        }
        Ok(match request {
            Request::GetFeatures => state.features.0,
            Request::NewWorker => 5,
            Request::GetVringBase { ring } => state.bases[ring as usize],
            Request::DemoGetValue => state.value.into(),
            Request::DemoSetValue(value) => {
                state.value = value;
                0
            }
            Request::SetLogBase(address) => {
                state.log = address;
                0
            }
            Request::SetVringAddr { areas, .. } => {
                state.areas = areas;
                0
            }
            Request::SetVringErr { event, .. } => {
                state.errors.push(same(event));
                0
            }
            Request::SetVringCall { event, .. } => {
                state.calls.push(same(event));
                0
            }
            Request::GetBackendFeatures => state.interface,
            _ => 0,
        })
    }

    fn tell(&self, message: Message) -> io::Result<()> {
        let mut state = self.0.state();
        let words = match message {
            Message::Update(slot) => format!("Update {:#x}+{:#x}", slot.guest, slot.len),
            Message::Invalidate(slot) => format!("Invalidate {:#x}+{:#x}", slot.guest, slot.len),
        };
        let refused = state.refuses.iter().any(|refused| words.starts_with(refused));
        state.asked.push(words);
        if refused { Err(io::Error::from_raw_os_error(libc::EFAULT)) } else { Ok(()) }
    }

    fn missed(&self) -> io::Result<Option<u64>> {
        let mut state = self.0.state();
        let _ = state.bell.take();
        Ok(state.missed.pop())
    }

    fn misses(&self) -> BorrowedFd<'_> {
        self.1.as_fd()
    }
}

fn same(event: BorrowedFd<'_>) -> EventFd {
    event.try_clone_to_owned().unwrap().into()
}

/// Without what differs from run to run.
fn describe(request: &Request<'_>) -> String {
    match request {
        Request::SetFeatures(features) => format!("SetFeatures {features:#x}"),
        Request::SetMemTable(slots) => {
            format!("SetMemTable {:#x}", slots.iter().map(|slot| slot.len).sum::<u64>())
        }
        Request::SetLogBase(_) => "SetLogBase".to_owned(),
        Request::SetLogFd(_) => "SetLogFd".to_owned(),
        Request::SetVringAddr { ring, areas: Areas { log, .. } } => {
            let log = if log.is_some() { " logged" } else { "" };
            format!("SetVringAddr {ring}{log}")
        }
        Request::SetVringKick { ring, .. } => format!("SetVringKick {ring}"),
        Request::SetVringCall { ring, .. } => format!("SetVringCall {ring}"),
        Request::SetVringErr { ring, .. } => format!("SetVringErr {ring}"),
        Request::NetSetBackend { ring, tap } => {
            format!("NetSetBackend {ring} {}", if tap.is_some() { "TAP" } else { "-1" })
        }
        Request::SetVringNum { ring, size } => format!("SetVringNum {ring} {size}"),
        Request::SetVringBase { ring, base } => format!("SetVringBase {ring} {base}"),
        Request::GetVringBase { ring } => format!("GetVringBase {ring}"),
        other => format!("{other:?}"),
    }
}

pub(super) type Device<M> = Rig<KernelBackend<Inline<M>>>;

/// A device in reset with `fake` in the kernel's place, at as many nodes.
pub(super) fn in_reset<M: DeviceModel>(model: M, kind: Kind, fake: &Fake, nodes: usize) -> Device<M> {
    let nodes = Ok((0..nodes).map(|_| fake.node()).collect());
    with_memory(KernelBackend::over(Inline::new(model), kind, nodes, no_memory()))
}

/// The memory is the rig's.
pub(super) fn with_memory<M: DeviceModel>(backend: KernelBackend<Inline<M>>) -> Device<M> {
    let mut rig = Rig::in_reset(backend).unwrap();
    let memory = rig.memory.clone();
    rig.endpoint.backend_mut().share(memory);
    rig
}

pub(super) fn no_memory() -> Arc<MemoryMap> {
    Arc::new(MemoryMap::anonymous(4096).unwrap())
}

/// Brings a device up as a driver does.
pub(super) fn bring_up<M: DeviceModel>(rig: &mut Device<M>) {
    rig.negotiate(Features::NONE).unwrap();
    for q in 0..rig.endpoint.queue_count() {
        rig.enable_queue(q).unwrap();
    }
    rig.write_status(Status::DRIVER_OK).unwrap();
}

/// A demo device that is up.
pub(super) fn demo(fake: &Fake) -> Device<VirtioDemo> {
    let mut rig = in_reset(VirtioDemo::default(), Kind::Demo, fake, 1);
    bring_up(&mut rig);
    rig
}

/// A device whose handlers do nothing.
pub(super) struct Idle {
    pub(super) queues: u16,
    pub(super) features: Features,
}

impl DeviceModel for Idle {
    fn info(&self) -> DeviceInfo {
        let sizes = vec![16; self.queues.into()];
        DeviceInfo { features: self.features, ..DeviceInfo::new(1, "idle", sizes) }
    }
    fn handlers(&mut self, _negotiated: Features) -> Handlers {
        let handler = || Box::new(Idle { queues: 1, features: Features::NONE }) as Box<dyn QueueHandler>;
        (0..self.queues).map(|q| (q..q + 1, handler())).collect()
    }
}

impl QueueHandler for Idle {
    fn wake(&mut self, _why: Wake, _io: &mut Io<'_>) -> Result<(), Fault> {
        Ok(())
    }
}

/// As good a TAP as any.
pub(super) fn taps(count: usize) -> Vec<OwnedFd> {
    (0..count).map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect()
}
