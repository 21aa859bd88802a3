//! Interrupts: numbers and what they mean to KVM, and events that raise them without a detour.
//!
//! Every MSI-X vector has a number (GSI) and an eventfd of its own. While the guest lets it through, KVM turns the eventfd's signals into
//! the vector's message (irqfd). While it is masked or off, the listener's thread takes them, and the function's pending bit is set.

use super::Vm;
use super::events::new_event_pair;
use super::listener::Listener;
use crate::error::MachineError;
use crate::layout::IOAPIC_INPUTS;
use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KvmIrqRouting, kvm_irq_routing_entry,
};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use vioduct_pci::{InterruptSink, Interrupts, Level, MsiMessage, VectorState};
use vioduct_virtio_device::{EventFd, RateLimit, Signal};
use vioduct_virtio_mmio as mmio;
use vmm_sys_util::eventfd::EventFd as KvmEvent;

/// Inputs of one of a PC's two older interrupt controllers.
const PIC_INPUTS: u32 = 8;

/// What every interrupt number means: KVM takes all of them at once.
pub(crate) struct Routes {
    vm: Arc<Vm>,
    /// Of the numbers that mean messages.
    messages: Mutex<Messages>,
}

#[derive(Default)]
struct Messages {
    next: u32,
    meanings: BTreeMap<u32, MsiMessage>,
}

impl Routes {
    pub(crate) fn new(vm: Arc<Vm>) -> Self {
        let messages = Messages { next: IOAPIC_INPUTS, meanings: BTreeMap::new() };
        Self { vm, messages: Mutex::new(messages) }
    }

    /// A number of its own, which means nothing yet.
    fn number(&self) -> u32 {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let number = messages.next;
        messages.next += 1;
        number
    }

    fn set(&self, number: u32, message: MsiMessage) -> Result<(), MachineError> {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        if messages.meanings.insert(number, message) == Some(message) {
            return Ok(());
        }
        let entries: Vec<_> = wired()
            .chain(messages.meanings.iter().map(|(number, message)| message_entry(*number, *message)))
            .collect();
        let action = "route interrupts";
        let table = KvmIrqRouting::from_entries(&entries)
            .map_err(|_| MachineError::Kvm { action, source: std::io::ErrorKind::OutOfMemory.into() })?;
        self.vm.fd.set_gsi_routing(&table).map_err(MachineError::kvm(action))
    }
}

/// Numbers of wires: to the IOAPIC, and the first sixteen to the older controllers, too.
fn wired() -> impl Iterator<Item = kvm_irq_routing_entry> {
    let entry = |gsi: u32, chip: u32, pin: u32| {
        let mut entry = kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_IRQCHIP, ..Default::default() };
        entry.u.irqchip = kvm_bindings::kvm_irq_routing_irqchip { irqchip: chip, pin };
        entry
    };
    let older = (0..2 * PIC_INPUTS).map(move |gsi| match gsi < PIC_INPUTS {
        true => entry(gsi, KVM_IRQCHIP_PIC_MASTER, gsi),
        false => entry(gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - PIC_INPUTS),
    });
    older.chain((0..IOAPIC_INPUTS).map(move |gsi| entry(gsi, KVM_IRQCHIP_IOAPIC, gsi)))
}

fn message_entry(gsi: u32, message: MsiMessage) -> kvm_irq_routing_entry {
    let mut entry = kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_MSI, ..Default::default() };
    entry.u.msi = kvm_bindings::kvm_irq_routing_msi {
        address_lo: message.address as u32,
        address_hi: (message.address >> 32) as u32,
        data: message.data,
        ..Default::default()
    };
    entry
}

/// Where the interrupts of one PCI function go.
pub(crate) struct FunctionIrqs {
    routes: Arc<Routes>,
    listener: Arc<Listener>,
    vectors: Vec<Vector>,
    /// What the function's pin is wired to.
    pin: u32,
    log: RateLimit,
}

struct Vector {
    number: u32,
    event: Arc<EventFd>,
    /// The same, for KVM's calls.
    kvm_event: KvmEvent,
    /// Whether KVM listens to the event; if not, the listener does.
    direct: Mutex<bool>,
}

impl FunctionIrqs {
    /// For a function with so many vectors, whose pin is wired to input `pin` of the IOAPIC.
    pub(crate) fn new(
        routes: Arc<Routes>,
        listener: Arc<Listener>,
        vectors: u16,
        pin: u32,
    ) -> Result<Self, MachineError> {
        let vectors = (0..vectors).map(|_| {
            let (event, kvm_event) = new_event_pair()?;
            Ok(Vector {
                number: routes.number(),
                event: Arc::new(event),
                kvm_event,
                direct: Mutex::new(false),
            })
        });
        let vectors = vectors.collect::<Result<_, MachineError>>()?;
        Ok(Self { routes, listener, vectors, pin, log: RateLimit::default() })
    }

    /// The function's interrupts are there: what comes for vectors that KVM does not listen to goes to them.
    pub(crate) fn listen(&self, interrupts: &Interrupts) -> Result<(), MachineError> {
        for (index, vector) in (0..).zip(&self.vectors) {
            self.listener.add(vector.event.clone(), interrupts.vector(index))?;
        }
        Ok(())
    }

    fn change(&self, vector: &Vector, state: VectorState) -> Result<(), MachineError> {
        let mut direct = vector.direct.lock().unwrap_or_else(PoisonError::into_inner);
        let vm = &self.routes.vm.fd;
        match (state, *direct) {
            (VectorState::Unmasked(message), true) => self.routes.set(vector.number, message)?,
            (VectorState::Unmasked(message), false) => {
                self.routes.set(vector.number, message)?;
                self.listener.leave(&vector.event)?;
                // What was signalled before this counts: KVM looks.
                vm.register_irqfd(&vector.kvm_event, vector.number)
                    .map_err(MachineError::kvm("listen to an interrupt's event"))?;
                *direct = true;
            }
            (VectorState::Masked | VectorState::Disabled, true) => {
                vm.unregister_irqfd(&vector.kvm_event, vector.number)
                    .map_err(MachineError::kvm("leave an interrupt's event"))?;
                *direct = false;
                self.listener.take_up(&vector.event)?;
            }
            (VectorState::Masked | VectorState::Disabled, false) => {}
        }
        Ok(())
    }

    fn report(&self, error: &MachineError) {
        if let Some(suppressed) = self.log.admit() {
            tracing::warn!(suppressed, "an interrupt of the guest's is lost: {error}");
        }
    }
}

impl InterruptSink for FunctionIrqs {
    /// The event's signal is the message: KVM has its route.
    fn msi(&self, vector: u16, _message: MsiMessage) {
        if let Some(vector) = self.vectors.get(usize::from(vector)) {
            vector.event.signal();
        }
    }

    fn intx(&self, level: Level) {
        let asserted = level == Level::Asserted;
        let outcome = self.routes.vm.fd.set_irq_line(self.pin, asserted);
        if let Err(error) = outcome.map_err(MachineError::kvm("drive an interrupt line")) {
            self.report(&error);
        }
    }

    fn vector_changed(&self, vector: u16, state: VectorState) {
        let Some(vector) = self.vectors.get(usize::from(vector)) else { return };
        if let Err(error) = self.change(vector, state) {
            self.report(&error);
        }
    }

    fn eventfd(&self, vector: u16) -> Option<BorrowedFd<'_>> {
        self.vectors.get(usize::from(vector)).map(|vector| vector.event.as_fd())
    }
}

/// A wire to the IOAPIC whose rising edge is the interrupt: of the serial line.
pub(crate) struct EdgeLine(EventFd);

impl EdgeLine {
    /// A wire to input `gsi`.
    pub(crate) fn new(vm: &Vm, gsi: u32) -> Result<Self, MachineError> {
        let (event, kvm_event) = new_event_pair()?;
        vm.fd.register_irqfd(&kvm_event, gsi).map_err(MachineError::kvm("listen to an interrupt's event"))?;
        Ok(Self(event))
    }
}

impl Signal for EdgeLine {
    /// One edge.
    fn signal(&self) {
        self.0.signal();
    }
}

/// A wire to the IOAPIC that interrupts as long as it is high: of a virtio-mmio window. The driver lowers it by an acknowledgement
/// that is trapped anyway, so there is nothing to gain by an event.
pub(crate) struct LevelLine {
    vm: Arc<Vm>,
    gsi: u32,
    log: RateLimit,
}

impl LevelLine {
    /// A wire to input `gsi`.
    pub(crate) fn new(vm: Arc<Vm>, gsi: u32) -> Self {
        Self { vm, gsi, log: RateLimit::default() }
    }
}

impl mmio::InterruptLine for LevelLine {
    fn set(&self, level: mmio::Level) {
        let outcome = self.vm.fd.set_irq_line(self.gsi, level == mmio::Level::High);
        if let Err(error) = outcome.map_err(MachineError::kvm("drive an interrupt line"))
            && let Some(suppressed) = self.log.admit()
        {
            tracing::warn!(suppressed, "an interrupt of the guest's is lost: {error}");
        }
    }
}
