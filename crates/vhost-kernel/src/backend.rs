//! [`KernelBackend`]: a device whose queues the kernel serves.

use crate::kind::{Kind, nodes_in_use};
use crate::node::Vhost;
use crate::refusal::Refusal;
use crate::ring::{Progress, Ring};
use crate::table;
use crate::unit::Unit;
use crate::watch::{Health, Watcher};
use std::sync::Arc;
use vioduct_spec::Features;
use vioduct_virtio_device::{
    Backend, BackendError, DeviceInfo, Host, HostEvents, MemoryMap, QueueSetup, Signal,
};
use vioduct_virtqueue::QueuePosition;

/// A device that vhost in the kernel serves, as far as it can; the rest, and everything where it cannot, is served by `B`.
///
/// If the kernel does not do what it is asked, a warning says so once, the queues that it had go on with `B` from where they stand, and
/// the kernel is not asked again.
///
/// The kernel has no packed rings, so none are offered. A device that changes its configuration space by itself notifies nobody of that
/// while the kernel serves it.
pub struct KernelBackend<B> {
    inner: B,
    info: DeviceInfo,
    offered: Features,
    ram: Arc<MemoryMap>,
    events: Option<Arc<dyn HostEvents>>,
    kernel: Option<Kernel>,
}

/// Who serves the queues that the kernel can serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Service {
    /// The kernel.
    Kernel,
    /// This process.
    Process,
}

/// What the kernel has.
struct Kernel {
    /// Closed before nobody listens to them.
    units: Vec<Unit>,
    queues_per_unit: u16,
    /// How many of them have queues that the driver has.
    in_use: usize,
    watcher: Watcher,
}

impl Kernel {
    fn new(kind: Kind, nodes: Vec<Arc<dyn Vhost>>, device: &str) -> Result<Self, Refusal> {
        let queues_per_unit = kind.queues_per_node();
        let (watcher, units) = (Watcher::spawn(device)?, kind.units(nodes)?);
        Ok(Self { watcher, in_use: units.len(), units, queues_per_unit })
    }

    fn offered(&self) -> Features {
        self.units.iter().fold(Features(!0), |offered, unit| offered & unit.offered())
    }

    fn set_features(&mut self, negotiated: Features) -> Result<(), Refusal> {
        self.in_use = nodes_in_use(self.units.len(), negotiated);
        self.units.iter_mut().try_for_each(|unit| unit.set_features(negotiated))
    }

    /// Queue `q`'s unit, and its number there; `None` if it is none of the kernel's.
    fn place(&mut self, q: u16) -> Option<(&mut Unit, u32)> {
        let unit = self.units.get_mut(usize::from(q / self.queues_per_unit))?;
        Some((unit, u32::from(q % self.queues_per_unit)))
    }

    fn ring(&self, q: u16) -> Option<&Ring> {
        let unit = self.units.get(usize::from(q / self.queues_per_unit))?;
        unit.rings.get(usize::from(q % self.queues_per_unit))?.as_ref()
    }

    fn queues(&self) -> std::ops::Range<u16> {
        0..self.in_use as u16 * self.queues_per_unit
    }
}

impl<B: Backend> KernelBackend<B> {
    /// Has the kernel serve what it can of the device that `inner` is. `ram` is the guest's memory: the one that the device is
    /// [connected](Backend::connect) to.
    pub fn new(inner: B, kind: Kind, ram: Arc<MemoryMap>) -> Self {
        let nodes = kind.open();
        Self::over(inner, kind, nodes, ram)
    }

    /// The same where nothing but the kernel will do, to begin with.
    ///
    /// # Errors
    /// If the kernel does not serve it.
    pub fn of_the_kernels_alone(inner: B, kind: Kind, ram: Arc<MemoryMap>) -> Result<Self, Refusal> {
        let in_its_hands = kind.in_its_hands();
        let kernel = kind.open().and_then(|nodes| Kernel::new(kind, nodes, inner.info().name))?;
        Ok(Self::with(inner, in_its_hands, Some(kernel), ram))
    }

    pub(crate) fn over(
        inner: B,
        kind: Kind,
        nodes: Result<Vec<Arc<dyn Vhost>>, Refusal>,
        ram: Arc<MemoryMap>,
    ) -> Self {
        let in_its_hands = kind.in_its_hands();
        let name = inner.info().name;
        let kernel = nodes.and_then(|nodes| Kernel::new(kind, nodes, name));
        let kernel = kernel.inspect_err(|refusal| say(name, refusal)).ok();
        Self::with(inner, in_its_hands, kernel, ram)
    }

    fn with(inner: B, in_its_hands: Features, kernel: Option<Kernel>, ram: Arc<MemoryMap>) -> Self {
        let (mut info, mut offered) = (inner.info().clone(), inner.features());
        if let Some(kernel) = &kernel {
            offered = offered.without(in_its_hands.without(kernel.offered()));
        }
        info.features = offered & Features::DEVICE_TYPE;
        Self { inner, info, offered, ram, events: None, kernel }
    }

    /// Offers no features but these.
    #[must_use]
    pub fn offering(mut self, allowed: Features) -> Self {
        self.offered = self.offered & (allowed | Features::VERSION_1);
        self.info.features = self.offered & Features::DEVICE_TYPE;
        self
    }

    /// Who serves the device: not the kernel once it has refused anything.
    pub fn service(&self) -> Service {
        if self.kernel.is_some() { Service::Kernel } else { Service::Process }
    }

    /// The guest has this memory from now on: before the endpoint's memory is replaced. No queue is running.
    pub fn share(&mut self, ram: Arc<MemoryMap>) {
        self.ram = ram;
    }

    #[cfg(test)]
    pub(crate) fn inner_mut(&mut self) -> &mut B {
        &mut self.inner
    }

    /// Takes the kicks that the kernel would see.
    #[cfg(test)]
    pub(crate) fn kernel_kick(&self, q: u16) -> u64 {
        self.kernel.as_ref().and_then(|kernel| kernel.ring(q)).map_or(0, |ring| ring.kick.take())
    }

    /// The kernel has refused something: it has nothing from now on, and what it had goes on in this process.
    fn fall_back(&mut self, refusal: &Refusal) -> Result<(), BackendError> {
        say(self.info.name, refusal);
        let queues = self.kernel.as_ref().map_or(0..0, Kernel::queues);
        let mut stopped = Vec::new();
        let mut outcome = Ok(());
        for q in queues {
            match self.take_back(q) {
                Ok(Some((ring, Health::Good))) => stopped.push((q, ring)),
                Ok(_) => {}
                Err(error) => outcome = Err(error),
            }
        }
        // A node that is closed serves nothing, whatever was refused.
        self.kernel = None;
        outcome?;
        stopped.into_iter().try_for_each(|(q, ring)| self.inner.start_queue(q, ring.into_setup()))
    }

    /// Stops queue `q` in the kernel, and the device's state comes with it.
    fn take_back(&mut self, q: u16) -> Result<Option<(Ring, Health)>, BackendError> {
        let Some(kernel) = &mut self.kernel else { return Ok(None) };
        let Some((unit, ring)) = kernel.place(q) else { return Ok(None) };
        let Some(ring) = unit.stop(ring)? else { return Ok(None) };
        let state = match ring.progress {
            Progress::Served => unit.state(),
            Progress::Given => Ok(None),
        };
        let health = kernel.watcher.remove(q);
        if let Some(state) = state? {
            self.inner.restore_state(&state)?;
        }
        Ok(Some((ring, health)))
    }

    /// Gives queue `q` to the kernel, and the device's state with it.
    fn hand_over(&mut self, q: u16, setup: QueueSetup) -> Result<(), BackendError> {
        let areas = table::areas(&self.ram, setup.layout)
            .map_err(|source| BackendError::Setup { queue: q, source })?;
        let ring = Ring::new(setup).map_err(Refusal::no_eventfd)?;
        let state = self.inner.save_state()?;
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        if let Some(events) = &self.events {
            kernel.watcher.report_to(events.clone());
        }
        kernel.watcher.add(q, &ring);
        let Some((unit, place)) = kernel.place(q) else { return Ok(()) };
        unit.keep(place, ring);
        let outcome = unit.set_state(&state).and_then(|()| unit.start(place, areas, &self.ram));
        if let Err(refusal) = outcome {
            return self.fall_back(&refusal);
        }
        let (log, questions) = (unit.log(), unit.questions());
        if let Some((log, ram)) = log {
            kernel.watcher.add_log(q, log, ram);
        }
        if let Some(questions) = questions {
            kernel.watcher.add_questions(q, questions);
        }
        Ok(())
    }

    /// Whether the kernel is to serve queue `q`.
    fn is_kernels(&self, q: u16) -> bool {
        self.kernel.as_ref().is_some_and(|kernel| kernel.queues().contains(&q))
    }

    fn stop_kernel(&mut self) -> Result<(), BackendError> {
        let queues = self.kernel.as_ref().map_or(0..0, Kernel::queues);
        queues.into_iter().try_for_each(|q| self.take_back(q).map(drop))
    }
}

/// For whoever wonders why this process is busy.
fn say(device: &str, refusal: &Refusal) {
    tracing::warn!(device, "vhost in the kernel does not serve it, this process does: {refusal}");
}

impl<B: Backend> Backend for KernelBackend<B> {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn features(&self) -> Features {
        self.offered
    }

    fn read_config(&self, offset: usize, out: &mut [u8]) {
        self.inner.read_config(offset, out);
        // What the kernel has of it while it runs is newer.
        let serving = self.kernel.as_ref().and_then(|kernel| kernel.units.first());
        let serving = serving.filter(|unit| unit.rings.iter().any(Option::is_some));
        if let Some(Ok(Some(state))) = serving.map(Unit::state) {
            out.iter_mut().zip(state.iter().skip(offset)).for_each(|(to, from)| *to = *from);
        }
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        self.inner.write_config(offset, data);
    }

    fn connect(&mut self, host: Host) {
        self.events = Some(host.events.clone());
        self.inner.connect(host);
    }

    fn set_features(&mut self, negotiated: Features) -> Result<(), BackendError> {
        let extra = negotiated.without(self.offered);
        if !extra.is_empty() {
            return Err(BackendError::NotOffered(extra));
        }
        self.stop_kernel()?;
        self.inner.set_features(negotiated)?;
        match self.kernel.as_mut().map_or(Ok(()), |kernel| kernel.set_features(negotiated)) {
            Ok(()) => Ok(()),
            Err(refusal) => self.fall_back(&refusal),
        }
    }

    fn start_queue(&mut self, q: u16, setup: QueueSetup) -> Result<(), BackendError> {
        if !self.is_kernels(q) {
            return self.inner.start_queue(q, setup);
        }
        if self.kernel.as_ref().is_some_and(|kernel| kernel.ring(q).is_some()) {
            return Err(BackendError::Running { queue: q });
        }
        self.hand_over(q, setup)
    }

    fn stop_queue(&mut self, q: u16) -> Result<Option<QueuePosition>, BackendError> {
        if !self.is_kernels(q) {
            return self.inner.stop_queue(q);
        }
        let stopped = self.take_back(q)?;
        Ok(stopped.filter(|(_, health)| *health == Health::Good).map(|(ring, _)| ring.position))
    }

    fn kick(&mut self, q: u16) {
        match self.kernel.as_ref().and_then(|kernel| kernel.ring(q)) {
            Some(ring) => ring.kick.signal(),
            None => self.inner.kick(q),
        }
    }

    /// A kernel that does not let go of a queue is left alone from then on: a node that is closed has no queues.
    fn reset(&mut self) -> Result<(), BackendError> {
        if let Err(error) = self.stop_kernel() {
            say(self.info.name, &Refusal::Unsuitable(error.to_string()));
            self.kernel = None;
        }
        self.inner.reset()
    }

    fn save_state(&mut self) -> Result<Vec<u8>, BackendError> {
        self.inner.save_state()
    }

    fn restore_state(&mut self, state: &[u8]) -> Result<(), BackendError> {
        self.inner.restore_state(state)
    }
}

impl<B> std::fmt::Debug for KernelBackend<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelBackend").field("info", &self.info).finish_non_exhaustive()
    }
}
