//! [`Machine`]: guest memory, a PCI bus and register windows, without a processor.

use std::fmt;
use std::sync::{Arc, Mutex};

use vioduct_pci::{Apertures, Hosted, InterruptSink, NoInterrupts, PciFunction, Slot};
use vioduct_spec::Features;
use vioduct_virtio_device::{Backend, DeviceModel, Endpoint, Inline, MemoryMap, Workers};
use vioduct_virtio_driver::pci::{Bar, BarAccess, MsixMessage};
use vioduct_virtio_mmio::{InterruptLine, Level, Mmio};
use vioduct_virtio_pci::VirtioPci;

use crate::address_space::{APERTURES, AddressSpace, MMIO_WINDOWS};
use crate::attached::{Attached, Stepped, Threaded};
use crate::inbox::{Inbox, MESSAGE_ADDRESS};
use crate::place::{Place, lock};
use crate::served::{Elsewhere, Served};
use crate::traffic::Recorder;
use crate::{Crossing, GuestConfig, GuestDma, MachineError, Traffic, Window, verbs};

/// How much of a virtual machine lies between driver and device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Depth {
    /// Nothing: the driver's verbs are calls of the device's endpoint. No registers.
    Verbs,
    /// A virtio-mmio register window, which the driver probes, and an interrupt line.
    Mmio,
    /// A PCI function, which the driver finds on the bus: configuration space, BARs, MSI-X.
    Pci,
    /// A virtio-mmio register window, and behind it a vhost-user front-end, a socket, and a server that has the device.
    VhostUser,
}

impl Depth {
    /// Every depth.
    pub const ALL: [Self; 4] = [Self::Verbs, Self::Mmio, Self::Pci, Self::VhostUser];
}

impl fmt::Display for Depth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verbs => "verbs",
            Self::Mmio => "mmio",
            Self::Pci => "pci",
            Self::VhostUser => "vhost-user",
        })
    }
}

/// A handle to a machine; clones are handles to the same.
#[derive(Clone)]
pub struct Machine {
    shared: Arc<Shared>,
}

struct Shared {
    dma: GuestDma,
    space: Arc<AddressSpace>,
    recorder: Arc<Recorder>,
    bus: Mutex<BusPlan>,
}

/// What is left of the bus.
struct BusPlan {
    next_device: u8,
    apertures: Apertures,
}

impl BusPlan {
    /// Device 0 is where a host bridge would be.
    const FIRST_DEVICE: u8 = 1;
}

impl Machine {
    /// A machine with `memory_bytes` of guest memory, half of it below and half above 4 GiB.
    ///
    /// # Errors
    /// If there is not as much memory.
    pub fn new(memory_bytes: usize) -> Result<Self, MachineError> {
        let recorder = Arc::new(Recorder::default());
        let shared = Shared {
            dma: GuestDma::new(memory_bytes)?,
            space: Arc::new(AddressSpace::new(recorder.clone())),
            recorder,
            bus: Mutex::new(BusPlan { next_device: BusPlan::FIRST_DEVICE, apertures: APERTURES }),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Guest memory for drivers.
    #[must_use]
    pub fn dma(&self) -> GuestDma {
        self.shared.dma.clone()
    }

    /// Guest memory as devices see it.
    #[must_use]
    pub fn memory(&self) -> Arc<MemoryMap> {
        self.shared.dma.memory()
    }

    /// What has crossed so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.shared.recorder.traffic()
    }

    /// Counts from zero again.
    pub fn reset_traffic(&self) {
        self.shared.recorder.reset();
    }

    /// Begins to list what crosses, from now on; up to a million entries are kept.
    pub fn start_trace(&self) {
        self.shared.recorder.start_trace();
    }

    /// Ends the list, and gives it out.
    #[must_use]
    pub fn take_trace(&self) -> Vec<Crossing> {
        self.shared.recorder.take_trace()
    }

    /// Configuration space of the PCI bus.
    #[must_use]
    pub fn config_access(&self) -> GuestConfig {
        GuestConfig::new(self.shared.space.clone())
    }

    /// The `len` bytes of guest-physical addresses from `address` on, as a driver maps them: a BAR, or a virtio-mmio window.
    #[must_use]
    pub fn window(&self, address: u64, len: u64) -> Window {
        Window::new(self.shared.space.clone(), address, len)
    }

    /// Messages for the first `count` vectors of a function, as the machine's interrupt controller takes them: it tells vectors
    /// by the data, and a message to another address is lost.
    #[must_use]
    pub fn messages(&self, count: u16) -> Vec<MsixMessage> {
        (0..count).map(|vector| MsixMessage { address: MESSAGE_ADDRESS, data: u32::from(vector) }).collect()
    }

    /// Attaches a device that works when it is stepped. It offers what it can of `offer` and no more; `VERSION_1` is always on
    /// offer.
    ///
    /// # Errors
    /// If there is no room for it, or it cannot be shown at this depth.
    pub fn attach<M: DeviceModel + 'static>(
        &self,
        model: M,
        depth: Depth,
        offer: Features,
    ) -> Result<Stepped<M>, MachineError> {
        self.attach_backend(Inline::new(model).offering(offer | Features::VERSION_1), depth)
    }

    /// The same with a thread for each of the device's handlers.
    ///
    /// # Errors
    /// As for [`attach`](Self::attach).
    pub fn attach_workers<M: DeviceModel + 'static>(
        &self,
        model: M,
        depth: Depth,
        offer: Features,
    ) -> Result<Threaded<M>, MachineError> {
        self.attach_backend(Workers::new(model).offering(offer | Features::VERSION_1), depth)
    }

    /// Attaches anything that serves virtqueues.
    ///
    /// # Errors
    /// As for [`attach`](Self::attach).
    pub fn attach_backend<B: Backend + 'static>(
        &self,
        backend: B,
        depth: Depth,
    ) -> Result<Attached<Served<B>>, MachineError> {
        let inbox = Arc::new(Inbox::new(self.shared.recorder.clone()));
        let memory = self.memory();
        let backend = match depth {
            Depth::VhostUser => Served::Elsewhere(Elsewhere::new(backend, memory.clone())?),
            Depth::Verbs | Depth::Mmio | Depth::Pci => Served::Here(backend),
        };
        let place = match depth {
            Depth::Verbs => {
                let endpoint = Endpoint::new(backend, memory, inbox.clone(), verbs::FEATURES);
                Place::Verbs(Arc::new(Mutex::new(endpoint)))
            }
            Depth::Mmio | Depth::VhostUser => {
                let line = Box::new(Line(inbox.clone()));
                let window = Arc::new(Mutex::new(Mmio::new(backend, memory, line)));
                let address = self.shared.space.add_mmio(window.clone());
                Place::Mmio { window, address: address.ok_or(MachineError::MmioFull(MMIO_WINDOWS))? }
            }
            Depth::Pci => {
                let function = VirtioPci::new(backend, memory).map_err(MachineError::VirtioPci)?;
                let function = Hosted::new(function, inbox.clone())?.shared();
                let slot = self.plug_shared(function.clone())?;
                Place::Pci { function, slot }
            }
        };
        Ok(Attached::new(self.clone(), depth, place, inbox))
    }

    /// Puts a PCI function that needs no interrupts on the bus and gives its BARs addresses.
    ///
    /// # Errors
    /// If it is not as PCI demands, or there is no room.
    pub fn plug(&self, function: impl PciFunction + 'static) -> Result<Slot, MachineError> {
        self.plug_with(function, Arc::new(NoInterrupts))
    }

    /// The same for a function that interrupts, by `sink`. MSI-X messages of [`messages`](Self::messages) arrive there by their
    /// vectors.
    ///
    /// # Errors
    /// As for [`plug`](Self::plug).
    pub fn plug_with(
        &self,
        function: impl PciFunction + 'static,
        sink: Arc<dyn InterruptSink>,
    ) -> Result<Slot, MachineError> {
        self.plug_shared(Hosted::new(function, sink)?.shared())
    }

    fn plug_shared(&self, function: vioduct_pci::SharedFunction) -> Result<Slot, MachineError> {
        let mut plan = lock(&self.shared.bus);
        let slot = Slot::new(plan.next_device, 0)?;
        self.shared.space.bus.plug(slot, function)?;
        plan.next_device += 1;
        self.shared.space.bus.assign_bars_of(slot, &mut plan.apertures)?;
        Ok(slot)
    }

    pub(crate) fn recorder(&self) -> Arc<Recorder> {
        self.shared.recorder.clone()
    }
}

/// Drivers map BARs where the bus decodes them.
impl BarAccess for Machine {
    type Window = Window;

    fn map(&mut self, bar: &Bar, offset: u64, len: u64) -> Option<Window> {
        Some(self.window(bar.address.checked_add(offset)?, len))
    }
}

/// The line of a virtio-mmio window.
struct Line(Arc<Inbox>);

impl InterruptLine for Line {
    fn set(&self, level: Level) {
        self.0.set_line(match level {
            Level::Low => vioduct_pci::Level::Deasserted,
            Level::High => vioduct_pci::Level::Asserted,
        });
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("traffic", &self.traffic()).finish_non_exhaustive()
    }
}
