//! [`Unit`]: one open device node and the queues that it has.

use crate::log::DirtyLog;
use crate::node::Vhost;
use crate::refusal::Refusal;
use crate::request::{Areas, Request, Running, Slot};
use crate::ring::{Progress, Ring};
use crate::table;
use crate::translation::Message;
use crate::watch::Questions;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use vioduct_spec::{Features, vhost};
use vioduct_virtio_device::{MemoryMap, Signal};
use vioduct_virtqueue::{Memory, RingLayout};

/// What is at the other end of the queues.
pub(crate) enum Source {
    Net(OwnedFd),
    Vsock { cid: u64 },
    Demo,
}

/// The kernel logs what it writes (`VHOST_F_LOG_ALL`).
const LOG_ALL: Features = Features::bit(26);

pub(crate) struct Unit {
    /// Closed before what it was told of is gone: fields are dropped in this order.
    node: Arc<dyn Vhost>,
    told: Option<Arc<MemoryMap>>,
    addresses: Addresses,
    /// Translations that the kernel has.
    translations: Vec<Slot>,
    log: Option<Arc<DirtyLog>>,
    source: Source,
    offered: Features,
    silently: Features,
    /// What was negotiated, as far as the kernel knows it.
    features: Features,
    logging: Logging,
    /// Of a device that starts all its queues at once.
    running: Running,
    pub(crate) rings: Vec<Option<Ring>>,
}

/// What the kernel takes the rings' addresses for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Addresses {
    /// Those of this process.
    Process,
    /// The driver's: from the first one with `ACCESS_PLATFORM` on the kernel asks for translations, whatever the next ones negotiate.
    Driver,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Logging {
    Off,
    On,
}

impl Unit {
    /// Takes a node into use: nothing else is answered before it has an owner.
    pub(crate) fn new(
        node: Arc<dyn Vhost>,
        source: Source,
        queues: u16,
        silently: Features,
    ) -> Result<Self, Refusal> {
        let mut unit = Self {
            node,
            told: None,
            addresses: Addresses::Process,
            translations: Vec::new(),
            log: None,
            source,
            offered: Features::NONE,
            silently,
            features: Features::NONE,
            logging: Logging::Off,
            running: Running::Stopped,
            rings: (0..queues).map(|_| None).collect(),
        };
        unit.ask(Request::SetOwner)?;
        unit.offered = Features(unit.ask(Request::GetFeatures)?);
        if !unit.offered.contains(Features::VERSION_1 | silently) {
            let missing = (Features::VERSION_1 | silently).without(unit.offered);
            return Err(Refusal::Unsuitable(format!("the kernel's vhost does not offer {missing}")));
        }
        if let Source::Vsock { cid } = unit.source {
            unit.ask(Request::VsockSetGuestCid(cid))?;
        }
        unit.spread(queues.into());
        Ok(unit)
    }

    /// A thread for every queue but the first, whose it is that all begin with. Kernels and devices that have one thread do with it: of
    /// Linux 7.2's own only vhost-scsi makes more (`examples/packets.rs` asks vhost-net).
    fn spread(&self, queues: u32) {
        for ring in 1..queues {
            let Ok(worker) = self.ask(Request::NewWorker) else { return };
            // It stays with the first thread if not.
            let _ = self.ask(Request::AttachVringWorker { ring, worker: worker as u32 });
        }
    }

    pub(crate) fn offered(&self) -> Features {
        self.offered
    }

    pub(crate) fn set_features(&mut self, negotiated: Features) -> Result<(), Refusal> {
        self.features = negotiated & self.offered | self.silently;
        if self.features.contains(Features::ACCESS_PLATFORM) && self.addresses == Addresses::Process {
            self.agree_on_messages()?;
            self.addresses = Addresses::Driver;
        }
        self.tell_features()
    }

    /// Messages of the first layout differ between programs of 32 and of 64 bits.
    fn agree_on_messages(&self) -> Result<(), Refusal> {
        let offered = self.ask(Request::GetBackendFeatures)?;
        if offered & vhost::BACKEND_IOTLB_MSG_V2 == 0 {
            return Err(Refusal::Unsuitable("the kernel's vhost lacks IOTLB_MSG_V2".to_owned()));
        }
        self.ask(Request::SetBackendFeatures(vhost::BACKEND_IOTLB_MSG_V2)).map(drop)
    }

    fn tell_features(&mut self) -> Result<(), Refusal> {
        let log = if self.logging == Logging::On { LOG_ALL } else { Features::NONE };
        self.ask(Request::SetFeatures((self.features | log).0))?;
        if self.features.contains(Features::ACCESS_PLATFORM) {
            // It has begun a new list.
            self.translations.clear();
        }
        Ok(())
    }

    /// A queue is here from now on, whatever the kernel says to it.
    pub(crate) fn keep(&mut self, ring: u32, queue: Ring) {
        if let Some(place) = self.rings.get_mut(ring as usize) {
            *place = Some(queue);
        }
    }

    /// Gives a queue that is here to the kernel, which serves it from now on, or once it has them all.
    pub(crate) fn start(&mut self, ring: u32, areas: Areas, ram: &Arc<MemoryMap>) -> Result<(), Refusal> {
        self.tell_memory(ram)?;
        self.tell_log(ram)?;
        self.tell_translations(ram)?;
        self.tell_ring(ring, areas)?;
        self.run(ring)
    }

    /// The table, unless it is the one that the kernel has.
    fn tell_memory(&mut self, ram: &Arc<MemoryMap>) -> Result<(), Refusal> {
        if !self.told.as_ref().is_some_and(|told| Arc::ptr_eq(told, ram)) {
            self.ask(Request::SetMemTable(&table::slots(ram)?))?;
            self.told = Some(ram.clone());
        }
        Ok(())
    }

    /// Whether the memory wants to know what is written to it, which it may say anew for every start.
    fn tell_log(&mut self, ram: &MemoryMap) -> Result<(), Refusal> {
        let wanted = if ram.logs_writes() { Logging::On } else { Logging::Off };
        if wanted == self.logging {
            return Ok(());
        }
        if wanted == Logging::On {
            let log = match self.log.as_ref().filter(|log| log.suits(ram)) {
                Some(log) => log.clone(),
                None => Arc::new(DirtyLog::new(ram).map_err(Refusal::no_eventfd)?),
            };
            self.ask(Request::SetLogBase(log.address()))?;
            self.ask(Request::SetLogFd(log.event.as_fd()))?;
            // The one before, if any, was the kernel's until now.
            self.log = Some(log);
        }
        self.logging = wanted;
        self.tell_features()
    }

    /// All of the memory at once, before a ring runs: the kernel has no need to ask.
    fn tell_translations(&mut self, ram: &MemoryMap) -> Result<(), Refusal> {
        if self.addresses == Addresses::Driver && self.translations.is_empty() {
            for slot in table::slots(ram)? {
                self.tell(Message::Update(slot))?;
                self.translations.push(slot);
            }
        }
        Ok(())
    }

    /// No ring is the kernel's any more: it has no business with the memory.
    fn end_translations(&mut self) -> Result<(), Refusal> {
        let told = std::mem::take(&mut self.translations);
        told.into_iter().try_for_each(|slot| self.tell(Message::Invalidate(slot)))
    }

    fn tell_ring(&self, ring: u32, areas: Areas) -> Result<(), Refusal> {
        let Some(Some(queue)) = self.rings.get(ring as usize) else { return Ok(()) };
        let RingLayout { size, device_area, .. } = queue.layout;
        let areas = match self.addresses {
            Addresses::Process => areas,
            Addresses::Driver => table::areas_of_driver(queue.layout),
        };
        let log = (self.logging == Logging::On).then_some(device_area.0);
        self.ask(Request::SetVringNum { ring, size })?;
        self.ask(Request::SetVringBase { ring, base: queue.position.available.index })?;
        self.ask(Request::SetVringAddr { ring, areas: Areas { log, ..areas } })?;
        self.ask(Request::SetVringErr { ring, event: queue.error.as_fd() })?;
        self.ask(Request::SetVringCall { ring, event: queue.call_fd() })?;
        self.ask(Request::SetVringKick { ring, event: queue.kick.as_fd() })?;
        Ok(())
    }

    /// vhost-net starts queue by queue, the others once they have all of theirs.
    fn run(&mut self, ring: u32) -> Result<(), Refusal> {
        match &self.source {
            Source::Net(tap) => {
                self.ask(Request::NetSetBackend { ring, tap: Some(tap.as_fd()) })?;
                self.rings.iter_mut().skip(ring as usize).take(1).flatten().for_each(begin);
            }
            Source::Vsock { .. } | Source::Demo if self.rings.iter().all(Option::is_some) => {
                self.set_running(Running::Started)?;
                self.rings.iter_mut().flatten().for_each(begin);
            }
            Source::Vsock { .. } | Source::Demo => {}
        }
        Ok(())
    }

    /// Takes a queue back, with where it stands; `None` if the kernel does not have it. After this the kernel does not touch it.
    pub(crate) fn stop(&mut self, ring: u32) -> Result<Option<Ring>, Refusal> {
        let Some(Some(queue)) = self.rings.get(ring as usize) else { return Ok(None) };
        let base = match queue.progress {
            Progress::Given => None,
            Progress::Served => {
                self.halt(ring)?;
                Some(self.ask(Request::GetVringBase { ring })?)
            }
        };
        self.collect_log();
        let mut queue = self.rings.get_mut(ring as usize).and_then(Option::take);
        if let (Some(queue), Some(base)) = (&mut queue, base) {
            queue.stopped_at(base);
        }
        if self.rings.iter().all(Option::is_none) {
            self.end_translations()?;
        }
        Ok(queue)
    }

    /// What the kernel has written by now is in the memory's log when this returns, if that is on.
    fn collect_log(&self) {
        let (Some(log), Some(ram), Logging::On) = (&self.log, &self.told, self.logging) else { return };
        log.collect(ram);
        // Linux's vhost-vsock logs what it writes to rings, and not to buffers: it may have written everything.
        if let Source::Vsock { .. } = self.source {
            ram.regions().for_each(|(region, _)| ram.written(region.at, region.len));
        }
    }

    fn halt(&mut self, ring: u32) -> Result<(), Refusal> {
        match (&self.source, self.running) {
            (Source::Net(_), _) => self.ask(Request::NetSetBackend { ring, tap: None }).map(drop),
            (Source::Vsock { .. } | Source::Demo, Running::Started) => self.set_running(Running::Stopped),
            (Source::Vsock { .. } | Source::Demo, Running::Stopped) => Ok(()),
        }
    }

    fn set_running(&mut self, running: Running) -> Result<(), Refusal> {
        match self.source {
            Source::Net(_) => {}
            Source::Vsock { .. } => drop(self.ask(Request::VsockSetRunning(running))?),
            Source::Demo => drop(self.ask(Request::DemoSetRunning(running))?),
        }
        self.running = running;
        Ok(())
    }

    /// The device's own state as the kernel has it, in the form in which models of that device save theirs, which is also that of its
    /// configuration space; `None` where the kernel has none.
    pub(crate) fn state(&self) -> Result<Option<Vec<u8>>, Refusal> {
        match self.source {
            Source::Net(_) | Source::Vsock { .. } => Ok(None),
            Source::Demo => {
                let value = self.ask(Request::DemoGetValue)? as u32;
                Ok(Some(value.to_le_bytes().to_vec()))
            }
        }
    }

    /// Hands a state over to the kernel, if it takes one.
    pub(crate) fn set_state(&self, state: &[u8]) -> Result<(), Refusal> {
        match (&self.source, state.first_chunk()) {
            (Source::Demo, Some(value)) => {
                self.ask(Request::DemoSetValue(u32::from_le_bytes(*value))).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// What the kernel logs to, and of which memory.
    pub(crate) fn log(&self) -> Option<(Arc<DirtyLog>, Arc<MemoryMap>)> {
        self.log.clone().zip(self.told.clone())
    }

    /// The kernel's questions for translations; `None` if it has none.
    pub(crate) fn questions(&self) -> Option<Questions> {
        let told = self.told.clone().filter(|_| self.addresses == Addresses::Driver);
        told.map(|ram| Questions { node: self.node.clone(), ram, log: self.log.clone() })
    }

    fn tell(&self, message: Message) -> Result<(), Refusal> {
        let action = "take translations of the driver's addresses";
        self.node.tell(message).map_err(|source| Refusal::Request { action, source })
    }

    fn ask(&self, request: Request<'_>) -> Result<u64, Refusal> {
        self.node.ask(request).map_err(|source| Refusal::Request { action: request.action(), source })
    }
}

/// The kernel looks at a queue when it is kicked: there may be buffers that were kicked for before it had the queue.
fn begin(queue: &mut Ring) {
    queue.progress = Progress::Served;
    queue.kick.signal();
}
