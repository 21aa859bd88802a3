//! [`Builder`] and [`Machine`]: devices are put in, then it is booted, then it runs to its end.

use crate::boot::{self, BootSources, Entry};
use crate::control::{Control, Outcome, Stopper};
use crate::cpu::{self, TscDeadline};
use crate::error::MachineError;
use crate::layout::{
    MAX_MMIO_WINDOWS, MMIO_GSI, MMIO_STRIDE, MMIO_WINDOWS, PCI_WINDOW_32, PCI_WINDOW_64, SERIAL_GSI,
};
use crate::plug::Plug;
use crate::ports::Ports;
use crate::processor::{Exits, Processor, take_signals};
use crate::ram::{self, Pages};
use crate::sandbox::Confinement;
use crate::space::{Mapped, Space};
use crate::vm::{Doorbell, EdgeLine, FunctionIrqs, LevelLine, Listener, Match, Routes, Vm, new_event};
use crate::{acpi, space};
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, Msrs};
use kvm_ioctls::{Cap, Kvm, VcpuFd};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use vioduct_pci::{Apertures, Bus, Counters, Hosted, PciFunction, SharedFunction, Slot, Traced};
use vioduct_vfio_user::RemoteFunction;
use vioduct_virtio_device::{Backend, MemoryMap, RateLimit};
use vioduct_virtio_mmio::Mmio;
use vioduct_virtio_pci::VirtioPci;
use vioduct_virtqueue::Memory;

/// Most processors of a machine.
pub const MAX_PROCESSORS: u8 = 16;
/// Where a host bridge would be, nothing is.
const FIRST_DEVICE: u8 = 1;
/// Inputs of the IOAPIC that PCI pins are wired to, in turn.
const PIN_GSIS: std::ops::Range<u32> = 16..24;

/// What a machine is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parts {
    /// Processors, 1 to [`MAX_PROCESSORS`].
    pub processors: u8,
    /// RAM, in bytes.
    pub ram_bytes: u64,
    /// Pages that hold the RAM.
    pub pages: Pages,
}

/// What a driver's notification does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Doorbells {
    /// KVM signals an eventfd that the device's thread waits for (ioeventfd), and the guest goes on.
    #[default]
    Direct,
    /// It leaves the guest for this process, as any other register does: to see what the other way saves.
    Trapped,
}

/// A machine that is being put together.
pub struct Builder {
    parts: Parts,
    doorbells: Doorbells,
    vm: Arc<Vm>,
    routes: Arc<Routes>,
    listener: Arc<Listener>,
    bus: Bus,
    apertures: Apertures,
    next_device: u8,
    plugs: BTreeMap<Slot, Plug>,
    windows: Vec<Mapped>,
    /// Doorbells of windows, which do not move.
    bells: Vec<Doorbell>,
}

impl Builder {
    /// A machine without devices.
    ///
    /// # Errors
    /// If KVM does not make one of these parts.
    pub fn new(parts: Parts) -> Result<Self, MachineError> {
        if !(1..=MAX_PROCESSORS).contains(&parts.processors) {
            return Err(MachineError::Processors(parts.processors, MAX_PROCESSORS));
        }
        let ram = ram::allocate(parts.ram_bytes, parts.pages)?;
        let vm = Arc::new(Vm::new(ram)?);
        Ok(Self {
            parts,
            doorbells: Doorbells::default(),
            routes: Arc::new(Routes::new(vm.clone())),
            vm,
            listener: Arc::new(Listener::new()?),
            bus: Bus::new(),
            apertures: Apertures { memory32: PCI_WINDOW_32, memory64: PCI_WINDOW_64, io: 0..0 },
            next_device: FIRST_DEVICE,
            plugs: BTreeMap::new(),
            windows: Vec::new(),
            bells: Vec::new(),
        })
    }

    /// The guest's RAM, for devices that use it.
    #[must_use]
    pub fn ram(&self) -> &Arc<MemoryMap> {
        self.vm.ram()
    }

    /// Says what notifications do of the virtio devices that are put in after this.
    pub fn set_doorbells(&mut self, doorbells: Doorbells) {
        self.doorbells = doorbells;
    }

    /// Puts a PCI function on the bus; `name` is for reports.
    ///
    /// # Errors
    /// If it is not as PCI demands, or there is no room.
    pub fn plug(
        &mut self,
        name: &'static str,
        function: impl PciFunction + 'static,
    ) -> Result<Slot, MachineError> {
        let plug = Plug::new(self.vm.clone(), name, Arc::default());
        self.host(plug, function)
    }

    /// Puts a virtio device on the bus, as a virtio-pci function.
    ///
    /// # Errors
    /// As for [`plug`](Self::plug).
    pub fn plug_virtio(
        &mut self,
        name: &'static str,
        backend: impl Backend + 'static,
    ) -> Result<Slot, MachineError> {
        let memory: Arc<dyn Memory> = self.ram().clone();
        let mut function = VirtioPci::new(backend, memory)?;
        let mut plug = Plug::new(self.vm.clone(), name, Arc::default());
        if self.doorbells == Doorbells::Direct {
            plug.take_bells(&mut function)?;
        }
        self.host(plug, function)
    }

    /// Puts a PCI function of another process on the bus, which has been shown [`ram`](Self::ram).
    ///
    /// # Errors
    /// As for [`plug`](Self::plug).
    pub fn plug_remote(
        &mut self,
        name: &'static str,
        function: RemoteFunction,
    ) -> Result<Slot, MachineError> {
        let mut plug = Plug::new(self.vm.clone(), name, Arc::default());
        plug.add_bells(function.doorbells());
        self.host(plug, function)
    }

    fn host(&mut self, plug: Plug, function: impl PciFunction + 'static) -> Result<Slot, MachineError> {
        let slot = Slot::new(self.next_device, 0)?;
        let vectors = function.spec().msix.map_or(0, |msix| msix.vectors);
        let irqs =
            FunctionIrqs::new(self.routes.clone(), self.listener.clone(), vectors, pin_gsi(slot.device()))?;
        let irqs = Arc::new(irqs);
        let hosted = Hosted::new(Traced::new(function, plug.counters.clone()), irqs.clone())?;
        irqs.listen(hosted.interrupts())?;
        let shared: SharedFunction = hosted.shared();
        self.bus.plug(slot, shared)?;
        self.bus.assign_bars_of(slot, &mut self.apertures)?;
        self.plugs.insert(slot, plug);
        self.next_device += 1;
        Ok(slot)
    }

    /// Puts a virtio device behind a virtio-mmio window.
    ///
    /// # Errors
    /// If there is no room for another window.
    pub fn add_window(
        &mut self,
        name: &'static str,
        backend: impl Backend + 'static,
    ) -> Result<(), MachineError> {
        let index = self.windows.len() as u32;
        if index >= MAX_MMIO_WINDOWS {
            return Err(MachineError::TooManyWindows(MAX_MMIO_WINDOWS));
        }
        let line = Box::new(LevelLine::new(self.vm.clone(), MMIO_GSI + index));
        let memory: Arc<dyn Memory> = self.ram().clone();
        let mut window = Mmio::with_matched_notifications(backend, memory, line);
        let notify = MMIO_WINDOWS + u64::from(index) * MMIO_STRIDE + vioduct_spec::mmio::QUEUE_NOTIFY;
        let direct = match self.doorbells {
            Doorbells::Direct => window.endpoint().queue_count(),
            Doorbells::Trapped => 0,
        };
        for q in 0..direct {
            let event = Arc::new(new_event()?);
            // The one address of all queues: the number that is written says which.
            let bell = Doorbell::hang(self.vm.clone(), &event, notify, Match::Word(q.into()))?;
            window.endpoint_mut().set_queue_kick(q, Some(event));
            self.bells.push(bell);
        }
        self.windows.push(Mapped::new(name, window));
        Ok(())
    }

    /// Loads a kernel; the serial line speaks to `output`.
    ///
    /// # Errors
    /// If the kernel, or what goes with it, cannot be booted.
    pub fn boot(self, sources: &BootSources, output: Box<dyn Write + Send>) -> Result<Machine, MachineError> {
        let Self { parts, vm, bus, plugs, windows, bells, routes: _, listener, .. } = self;
        let route =
            |slot: Slot| acpi::IntxRoute { device: slot.device(), pin: 0, gsi: pin_gsi(slot.device()) };
        let platform = acpi::Platform {
            cpus: parts.processors,
            mmio_windows: windows.len() as u32,
            intx: bus.slots().into_iter().map(route).collect(),
        };
        let acpi_rsdp = acpi::write(vm.ram(), &platform)?;
        let entry = boot::load(vm.ram(), sources, acpi_rsdp)?;
        let serial_line = Arc::new(EdgeLine::new(&vm, SERIAL_GSI)?);
        let space = Arc::new(Space {
            bus,
            plugs: Mutex::new(plugs),
            windows,
            ports: Mutex::new(Ports::new(output, serial_line)),
            log: RateLimit::default(),
        });
        let control = Control::default();
        let exits = Arc::new(Exits::default());
        let supported = Supported::of(&vm.kvm).map_err(MachineError::kvm("say what processors it has"))?;
        cpu::write_tables(vm.ram(), entry.mode).map_err(MachineError::NoRoom)?;
        let processors = (0..parts.processors).map(|index| {
            let fd = vm.fd.create_vcpu(index.into()).map_err(MachineError::kvm("make a processor"))?;
            set_up(&fd, &supported, (index, parts.processors), &entry)
                .map_err(MachineError::kvm("set a processor up"))?;
            Ok(Processor {
                fd,
                space: space.clone(),
                control: control.clone(),
                exits: exits.clone(),
                undelivered: 0,
                confinement: None,
            })
        });
        let processors = processors.collect::<Result<_, MachineError>>()?;
        Ok(Machine { processors, space, control, exits, _listener: listener, _bells: bells, _vm: vm })
    }
}

/// What KVM's processors can be.
struct Supported {
    cpuid: CpuId,
    deadline: TscDeadline,
}

impl Supported {
    fn of(kvm: &Kvm) -> Result<Self, kvm_ioctls::Error> {
        let deadline = match kvm.check_extension(Cap::TscDeadlineTimer) {
            true => TscDeadline::Offered,
            false => TscDeadline::Absent,
        };
        Ok(Self { cpuid: kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?, deadline })
    }
}

/// Puts processor `index` of `count` to where the guest begins. All but the first wait for its signal to start.
fn set_up(
    fd: &VcpuFd,
    supported: &Supported,
    (index, count): (u8, u8),
    entry: &Entry,
) -> Result<(), kvm_ioctls::Error> {
    let out_of_memory = |_| kvm_ioctls::Error::new(libc::ENOMEM);
    let entries = cpu::cpuid(supported.cpuid.as_slice(), index, count, supported.deadline);
    fd.set_cpuid2(&CpuId::from_entries(&entries).map_err(out_of_memory)?)?;
    fd.set_msrs(&Msrs::from_entries(&cpu::model_specific()).map_err(out_of_memory)?)?;
    fd.set_fpu(&cpu::floating_point())?;
    if index == 0 {
        fd.set_sregs(&cpu::special(&fd.get_sregs()?, entry.mode))?;
        fd.set_regs(&cpu::general(entry))?;
    }
    Ok(())
}

/// The input of the IOAPIC that the pin of a device's function is wired to.
fn pin_gsi(device: u8) -> u32 {
    PIN_GSIS.start + u32::from(device) % PIN_GSIS.len() as u32
}

/// A machine with a kernel in it.
pub struct Machine {
    processors: Vec<Processor>,
    space: Arc<Space>,
    control: Control,
    exits: Arc<Exits>,
    _listener: Arc<Listener>,
    _bells: Vec<Doorbell>,
    _vm: Arc<Vm>,
}

/// What has left the guest for this process, by what it was about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Traps {
    /// Exits for addresses that are no memory, of all processors.
    pub memory: u64,
    /// Exits for ports.
    pub ports: u64,
    /// Of each device: its name, reads and writes of its registers.
    pub devices: Vec<(&'static str, u64, u64)>,
}

impl Machine {
    /// What stops it.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(self.control.clone())
    }

    /// What the serial line's input is given by.
    #[must_use]
    pub fn keyboard(&self) -> Keyboard {
        Keyboard(self.space.clone())
    }

    /// Has the threads that face the guest do no more than that needs.
    pub fn confine(&mut self, by: &Confinement) {
        self.processors.iter_mut().for_each(|processor| processor.confinement = Some(by.clone()));
    }

    /// Runs the guest to its end, in threads of its own.
    ///
    /// # Errors
    /// If there is no thread for a processor.
    pub fn run(&mut self) -> Result<Outcome, MachineError> {
        take_signals().map_err(MachineError::system("take signals"))?;
        let mut running = Vec::new();
        for (index, processor) in (0..).zip(self.processors.drain(..)) {
            match processor.start(index) {
                Ok(thread) => running.push(thread),
                Err(error) => {
                    self.control.end(Outcome::Stopped);
                    running.into_iter().for_each(super::processor::Running::join);
                    return Err(MachineError::system("start a thread for a processor")(error));
                }
            }
        }
        let outcome = self.control.wait();
        running.into_iter().for_each(super::processor::Running::join);
        Ok(outcome)
    }

    /// What has trapped so far.
    #[must_use]
    pub fn traps(&self) -> Traps {
        let count = |plug: &Plug| {
            let Counters { bar_reads, bar_writes, .. } = &*plug.counters;
            (plug.name, bar_reads.load(Ordering::Relaxed), bar_writes.load(Ordering::Relaxed))
        };
        let windows = self.space.windows.iter().map(|Mapped { name, reads, writes, .. }| {
            (*name, reads.load(Ordering::Relaxed), writes.load(Ordering::Relaxed))
        });
        Traps {
            memory: self.exits.memory.load(Ordering::Relaxed),
            ports: self.exits.ports.load(Ordering::Relaxed),
            devices: space::lock(&self.space.plugs).values().map(count).chain(windows).collect(),
        }
    }
}

/// The other end of the serial line.
pub struct Keyboard(Arc<Space>);

impl Keyboard {
    /// Hands bytes to the guest; how many there was room for.
    pub fn press(&self, bytes: &[u8]) -> usize {
        space::lock(&self.0.ports).press(bytes)
    }
}
