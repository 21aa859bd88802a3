//! [`Attached`]: a device in the machine, as whoever runs the machine holds it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vioduct_pci::Slot;
use vioduct_spec::mmio;
use vioduct_virtio_device::{Backend, DeviceModel, Endpoint, Inline, Step, Workers};
use vioduct_virtio_driver::pci::{Function, PciTransport, functions};
use vioduct_virtio_driver::{FunctionAddress, MmioTransport, Transport};

use crate::delivered::Delivered;
use crate::inbox::Inbox;
use crate::machine::Machine;
use crate::place::Place;
use crate::verbs::Verbs;
use crate::{Depth, MachineError, Served};

/// A device that works when it is stepped.
pub type Stepped<M> = Attached<Served<Inline<M>>>;

/// A device with threads of its own.
pub type Threaded<M> = Attached<Served<Workers<M>>>;

/// How a driver has a PCI function interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PciInterrupts {
    /// By MSI-X messages, one for the configuration and one for each queue.
    Messages,
    /// By its line.
    Line,
}

/// A device in a machine. But at [`Depth::Verbs`] it stays in the machine when this is dropped.
pub struct Attached<B: Backend> {
    machine: Machine,
    depth: Depth,
    place: Place<B>,
    inbox: Arc<Inbox>,
}

impl<B: Backend + 'static> Attached<B> {
    pub(crate) fn new(machine: Machine, depth: Depth, place: Place<B>, inbox: Arc<Inbox>) -> Self {
        Self { machine, depth, place, inbox }
    }

    /// Where it is attached.
    #[must_use]
    pub fn depth(&self) -> Depth {
        self.depth
    }

    /// A driver's way to the device: the window is probed, or the function is looked for on the bus, as a guest would. Messages
    /// are delivered before [`Transport::take_interrupts`] looks. One driver at a time has use of it.
    ///
    /// # Errors
    /// If the driver's side refuses the device.
    pub fn transport(&self) -> Result<Box<dyn Transport + Send>, MachineError> {
        match &self.place {
            Place::Verbs(endpoint) => Ok(self.deliver(Verbs::new(endpoint.clone(), self.inbox.clone()))),
            Place::Mmio { address, .. } => {
                let window = self.machine.window(*address, mmio::WINDOW_LEN);
                let transport = MmioTransport::new(window);
                Ok(self.deliver(transport.map_err(|error| MachineError::Probe(error.to_string()))?))
            }
            Place::Pci { slot, .. } => self.pci_transport(*slot, PciInterrupts::Messages),
        }
    }

    /// The same at [`Depth::Pci`], with the interrupts that the driver chooses; elsewhere there is no choice.
    ///
    /// # Errors
    /// As for [`transport`](Self::transport).
    pub fn transport_with(
        &self,
        interrupts: PciInterrupts,
    ) -> Result<Box<dyn Transport + Send>, MachineError> {
        match self.place {
            Place::Pci { slot, .. } => self.pci_transport(slot, interrupts),
            Place::Verbs(_) | Place::Mmio { .. } => self.transport(),
        }
    }

    fn pci_transport(
        &self,
        slot: Slot,
        interrupts: PciInterrupts,
    ) -> Result<Box<dyn Transport + Send>, MachineError> {
        let config = self.machine.config_access();
        let here = |at: FunctionAddress| (at.device(), at.function()) == (slot.device(), slot.function());
        let found = functions(&config, 0).find(|identity| here(identity.at));
        let at = found.ok_or_else(|| MachineError::Probe(format!("nothing at {slot}")))?.at;
        let messages = match interrupts {
            PciInterrupts::Messages => {
                let queues = self.with_endpoint(|endpoint| endpoint.queue_count());
                self.machine.messages(queues.saturating_add(1))
            }
            PciInterrupts::Line => Vec::new(),
        };
        let transport = Function::open(&config, at)
            .and_then(|function| PciTransport::new(&function, &mut self.machine.clone(), &messages));
        Ok(self.deliver(transport.map_err(|error| MachineError::Probe(error.to_string()))?))
    }

    fn deliver<T: Transport + Send + 'static>(&self, transport: T) -> Box<dyn Transport + Send> {
        let (inbox, recorder) = (self.inbox.clone(), self.machine.recorder());
        Box::new(Delivered { transport, inbox, recorder })
    }

    /// The machine that it is in.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The first address of its virtio-mmio window, at [`Depth::Mmio`] and [`Depth::VhostUser`].
    #[must_use]
    pub fn window_address(&self) -> Option<u64> {
        match self.place {
            Place::Mmio { address, .. } => Some(address),
            Place::Verbs(_) | Place::Pci { .. } => None,
        }
    }

    /// Where it is on the bus, at [`Depth::Pci`].
    #[must_use]
    pub fn slot(&self) -> Option<Slot> {
        match self.place {
            Place::Pci { slot, .. } => Some(slot),
            Place::Verbs(_) | Place::Mmio { .. } => None,
        }
    }

    /// The device's state machine, past all registers. [`pause`](Self::pause) and [`resume`](Self::resume) are not to be called
    /// on it, but here.
    pub fn with_endpoint<R>(&self, f: impl FnOnce(&mut Endpoint<B>) -> R) -> R {
        self.place.with_endpoint(f)
    }

    /// Stops the device's queues, which keep their positions.
    pub fn pause(&self) {
        self.place.pause();
    }

    /// Starts them again.
    pub fn resume(&self) {
        self.place.resume();
    }

    /// Whether there is an interrupt that the driver has not taken.
    #[must_use]
    pub fn interrupt_pending(&self) -> bool {
        self.inbox.is_pending()
    }

    /// Whether the device's interrupt line is high.
    #[must_use]
    pub fn interrupt_line(&self) -> bool {
        self.inbox.line()
    }

    /// The MSI-X vectors that fired and no transport has taken, oldest first: for those who deliver them by themselves.
    #[must_use]
    pub fn take_messages(&self) -> Vec<u16> {
        self.inbox.take_messages()
    }

    /// Waits for an interrupt that no earlier wait has seen, but no longer than a millisecond, so that a driver that polls in
    /// between misses nothing; whether there was one.
    pub fn wait_for_interrupt(&self) -> bool {
        const LIMIT: Duration = Duration::from_millis(1);
        self.inbox.wait(LIMIT)
    }
}

impl<M: DeviceModel + 'static> Stepped<M> {
    /// Steps that one [`run`](Self::run) takes at most.
    const STEPS: usize = 1 << 16;

    /// Lets the device do one thing.
    pub fn step(&self) -> Step {
        self.with_endpoint(|endpoint| endpoint.backend_mut().with_backend(Inline::step))
    }

    /// Lets the device work until it has nothing to do; how many steps that took.
    pub fn run(&self) -> usize {
        self.with_endpoint(|endpoint| endpoint.backend_mut().with_backend(|device| device.run(Self::STEPS)))
    }

    /// What a driver's blocking calls take to wait with: steps the device, and gives up when it has nothing to do any more.
    pub fn wait(&self) -> impl FnMut() -> ControlFlow<()> + '_ {
        let mut idle = 0;
        move || {
            // The driver looks once more after the step that found nothing, for it may have looked before the one that worked.
            idle = if self.step() == Step::Worked { 0 } else { idle + 1 };
            if idle > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }

    /// The device model.
    pub fn with_model<R>(&self, f: impl FnOnce(&mut M) -> R) -> R {
        self.with_endpoint(|endpoint| endpoint.backend_mut().with_backend(|device| f(device.model_mut())))
    }
}

impl<M: DeviceModel + 'static> Threaded<M> {
    /// What a driver's blocking calls take to wait with: waits for interrupts, and gives up after ten seconds without one.
    pub fn wait(&self) -> impl FnMut() -> ControlFlow<()> + '_ {
        const PATIENCE: Duration = Duration::from_secs(10);
        let mut quiet_since = Instant::now();
        move || {
            if self.wait_for_interrupt() {
                quiet_since = Instant::now();
            }
            if quiet_since.elapsed() > PATIENCE { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }

    /// The device model's side of the control path.
    pub fn with_model<R>(&self, f: impl FnOnce(&M) -> R) -> R {
        self.with_endpoint(|endpoint| endpoint.backend_mut().with_backend(|device| f(device.model())))
    }
}
