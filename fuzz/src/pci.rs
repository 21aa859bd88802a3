//! Three functions on a bus and a driver that accesses their configuration spaces, their BARs and the bus's address spaces
//! anyhow: virtio-demo over PCI, pci-demo, and one that has every kind of BAR and capability there is.
//!
//! The bytes: a count of steps in two bytes, the steps, and then what lies in memory from its start. A step is a function, a code,
//! each modulo their number, and the code's arguments.

use crate::input::Input;
use crate::memory::{FuzzMemory, MAPPED_START, PIECE_LEN};
use std::sync::Arc;
use vioduct_pci::{
    Apertures, BarSpec, BarWindow, Bus, Capability, CapabilityAction, CapabilityTouch, FunctionHost,
    FunctionSpec, Hosted, InterruptPin, InterruptSink, Level, MsiMessage, MsixSpec, PciFunction,
    SharedFunction, Slot, VectorState,
};
use vioduct_pci_demo::PciDemo;
use vioduct_spec::pci_demo;
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::Inline;
use vioduct_virtio_pci::VirtioPci;
use vioduct_virtqueue::IoAddr;

/// Bytes of a step: function, code, and eight of arguments.
pub const STEP_LEN: usize = 10;

enum Step {
    ConfigRead {
        offset: u16,
        len: usize,
    },
    /// At most four bytes, all different.
    ConfigWrite {
        offset: u16,
        len: usize,
        value: [u8; 4],
    },
    ConfigFill {
        offset: u16,
        len: usize,
        byte: u8,
    },
    BarRead {
        bar: u8,
        offset: u16,
        len: usize,
    },
    BarWrite {
        bar: u8,
        offset: u16,
        value: u32,
        len: usize,
    },
    /// At a BAR's address on the bus.
    Mapped {
        bar: u8,
        offset: u16,
        len: usize,
    },
    Unmapped {
        address: u64,
        len: usize,
    },
    Ecam {
        offset: u32,
        len: usize,
    },
    Ports {
        port: u16,
        len: usize,
    },
    Raise {
        vector: u16,
    },
    Pin(Level),
    Poke {
        at: u16,
        value: u16,
    },
    Assign,
    Reset,
}

impl Step {
    fn decode(step: &mut Input<'_>) -> Self {
        match step.below(20) {
            0 => Self::ConfigRead { offset: step.u16(), len: step.access_len() },
            1..=4 => {
                let (offset, len) = (step.u16(), 1 + step.below(4));
                Self::ConfigWrite { offset, len, value: step.u32().to_le_bytes() }
            }
            5 => Self::ConfigFill { offset: step.u16(), len: step.access_len(), byte: step.u8() },
            6 => Self::BarRead { bar: step.u8(), offset: step.u16(), len: step.access_len() },
            7..=10 => {
                let (bar, offset, len) = (step.u8(), step.u16(), step.access_len());
                Self::BarWrite { bar, offset, value: step.u32(), len }
            }
            11 => Self::Mapped { bar: step.u8(), offset: step.u16(), len: step.access_len() },
            12 => Self::Unmapped { len: step.access_len(), address: step.u64() },
            13 => Self::Ecam { offset: step.u32(), len: step.access_len() },
            14 => Self::Ports { port: step.u16(), len: step.access_len() },
            15 => Self::Raise { vector: step.u16() },
            16 => Self::Pin(if step.u8() & 1 == 0 { Level::Deasserted } else { Level::Asserted }),
            17 => Self::Poke { at: step.u16(), value: step.u16() },
            18 => Self::Assign,
            _ => Self::Reset,
        }
    }
}

const VECTORS: u16 = 70;

/// A function with everything: its vendor-specific capability is a window onto its first BAR.
struct Everything {
    registers: [u8; 0x100],
}

impl PciFunction for Everything {
    fn spec(&self) -> FunctionSpec {
        let window = Capability::Vendor { body: vec![0; 17], writable: vec![0xff; 17] };
        FunctionSpec::new(0x1af4, 0x1fff, 0xff_0000)
            .with_interrupt_pin(InterruptPin::B)
            .with_bar(BarSpec::memory32(0, 0x1000))
            .with_bar(BarSpec::io(1, 0x40))
            .with_bar(BarSpec::memory64(2, 0x1000).prefetchable())
            .with_capability(window)
            .with_capability(Capability::PciExpress)
            .with_msix(MsixSpec::in_bar(VECTORS, 2, 0x100))
    }

    fn attach(&mut self, _host: FunctionHost) {}

    fn bar_read(&mut self, _bar: u8, offset: u64, out: &mut [u8]) {
        let start = self.registers.len().min(offset as usize);
        out.iter_mut().zip(&self.registers[start..]).for_each(|(to, from)| *to = *from);
    }

    fn bar_write(&mut self, _bar: u8, offset: u64, data: &[u8]) {
        let start = self.registers.len().min(offset as usize);
        self.registers[start..].iter_mut().zip(data).for_each(|(to, from)| *to = *from);
    }

    fn reset(&mut self) {
        self.registers.fill(0);
    }

    fn capability_read(&mut self, touch: CapabilityTouch<'_>) -> CapabilityAction {
        window(touch)
    }

    fn capability_write(&mut self, touch: CapabilityTouch<'_>) -> CapabilityAction {
        window(touch)
    }
}

/// The guest's bytes say which BAR, where in it, how many bytes, and where in the capability they are.
fn window(touch: CapabilityTouch<'_>) -> CapabilityAction {
    let byte = |at: usize| touch.bytes.get(at).copied().unwrap_or_default();
    CapabilityAction::Bar(BarWindow {
        bar: byte(3),
        offset: u64::from(byte(4)) | u64::from(byte(5)) << 8,
        len: usize::from(byte(6)),
        data_at: usize::from(byte(7)),
    })
}

/// A sink that judges what it is given.
struct Judge;

impl InterruptSink for Judge {
    fn msi(&self, _vector: u16, message: MsiMessage) {
        assert_eq!(message.address % 4, 0, "a message that no guest can have asked for");
    }

    fn intx(&self, _level: Level) {}

    fn vector_changed(&self, _vector: u16, _state: VectorState) {}
}

struct Machine {
    bus: Bus,
    slots: [Slot; 3],
    memory: Arc<FuzzMemory>,
    /// The first 256 bytes of each configuration space after a reset.
    at_reset: Vec<Vec<u8>>,
}

/// One run.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let steps = usize::from(input.u16());
    let mut steps = Input(input.bytes(steps * STEP_LEN));
    let mut machine = Machine::new();
    machine.memory.put(IoAddr(MAPPED_START), input.bytes(PIECE_LEN));
    while !steps.is_empty() {
        let mut step = Input(steps.bytes(STEP_LEN));
        let slot = machine.slots[step.below(3)];
        machine.step(slot, Step::decode(&mut step));
        machine.check();
    }
    machine.reset();
}

impl Machine {
    fn new() -> Self {
        let memory = FuzzMemory::new(Box::default());
        let virtio = VirtioPci::new(Inline::auto(VirtioDemo::default()), memory.clone()).expect("fits PCI");
        let functions: [SharedFunction; 3] = [
            Hosted::new(virtio, Arc::new(Judge)).expect("valid").shared(),
            Hosted::new(Everything { registers: [0; 0x100] }, Arc::new(Judge)).expect("valid").shared(),
            Hosted::new(PciDemo::new(), Arc::new(Judge)).expect("valid").shared(),
        ];
        let bus = Bus::new();
        let slots =
            [(0, 0), (3, 0), (3, 1)].map(|(device, function)| Slot::new(device, function).expect("on a bus"));
        for (slot, function) in slots.into_iter().zip(functions) {
            bus.plug(slot, function).expect("a free slot");
        }
        let mut machine = Self { bus, slots, memory, at_reset: Vec::new() };
        machine.at_reset = machine.slots.map(|slot| machine.config(slot)).to_vec();
        machine
    }

    fn config(&self, slot: Slot) -> Vec<u8> {
        let mut out = vec![0; 256];
        self.bus.ecam_read(slot.ecam_offset(), &mut out);
        out
    }

    fn with<R>(&self, slot: Slot, access: impl FnOnce(&mut Hosted<dyn PciFunction>) -> R) -> R {
        let function = self.bus.function(slot).expect("plugged");
        let mut hosted = function.lock().expect("nothing panicked");
        access(&mut hosted)
    }

    fn step(&mut self, slot: Slot, step: Step) {
        let at = |offset: u16| slot.ecam_offset() + u64::from(offset % 0x1000);
        match step {
            Step::ConfigRead { offset, len } => self.bus.ecam_read(at(offset), &mut vec![0; len]),
            Step::ConfigWrite { offset, len, value } => drop(self.bus.ecam_write(at(offset), &value[..len])),
            Step::ConfigFill { offset, len, byte } => drop(self.bus.ecam_write(at(offset), &vec![byte; len])),
            Step::BarRead { bar, offset, len } => self.bar_read(slot, bar, offset, len),
            Step::BarWrite { bar, offset, value, len } => self.bar_write(slot, bar, offset, value, len),
            Step::Mapped { bar, offset, len } => self.mapped(slot, bar, offset, len),
            Step::Unmapped { address, len } => self.memory_access(address, len),
            Step::Ecam { offset, len } => self.ecam(offset, len),
            Step::Ports { port, len } => self.ports(port, len),
            Step::Raise { vector } => self.with(slot, |hosted| hosted.interrupts().msix(vector)),
            Step::Pin(level) => self.with(slot, |hosted| hosted.interrupts().intx(level)),
            Step::Poke { at, value } => {
                self.memory.put(IoAddr(MAPPED_START + u64::from(at)), &value.to_le_bytes());
            }
            Step::Assign => self.assign(),
            Step::Reset => self.reset(),
        }
    }

    fn bar_read(&self, slot: Slot, bar: u8, offset: u16, len: usize) {
        let mut out = vec![0xa5; len];
        self.with(slot, |hosted| hosted.bar_read(bar % 8, u64::from(offset), &mut out));
        if slot == self.slots[2] && (offset, len) != (pci_demo::REG_VALUE as u16, 4) {
            assert!(out.iter().all(|byte| *byte == 0xff), "pci-demo has one register of four bytes");
        }
    }

    fn bar_write(&self, slot: Slot, bar: u8, offset: u16, value: u32, len: usize) {
        let mut data = vec![0; len];
        data.iter_mut().zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
        self.with(slot, |hosted| hosted.bar_write(bar % 8, u64::from(offset), &data));
    }

    fn mapped(&self, slot: Slot, bar: u8, offset: u16, len: usize) {
        if let Some(address) = self.with(slot, |hosted| hosted.bar_address(bar % 8)) {
            self.memory_access(address.wrapping_add(u64::from(offset)), len);
        }
    }

    fn memory_access(&self, address: u64, len: usize) {
        let mut data = vec![0; len];
        let read = self.bus.mmio_read(address, &mut data);
        assert_eq!(self.bus.mmio_write(address, &data), read, "claimed by one of reading and writing");
    }

    fn ecam(&self, offset: u32, len: usize) {
        let mut data = vec![0; len];
        self.bus.ecam_read(u64::from(offset), &mut data);
        drop(self.bus.ecam_write(u64::from(offset), &data));
    }

    fn ports(&self, port: u16, len: usize) {
        let mut data = vec![0; len];
        let read = self.bus.io_read(port, &mut data);
        assert_eq!(self.bus.io_write(port, &data), read, "claimed by one of reading and writing");
    }

    fn assign(&self) {
        let apertures =
            Apertures { memory32: 0xc000_0000..0xd000_0000, memory64: 1 << 40..1 << 41, io: 0x1000..0x2000 };
        self.bus.assign_bars(apertures).expect("room for all");
    }

    fn reset(&self) {
        self.bus.reset();
        for (slot, at_reset) in self.slots.iter().zip(&self.at_reset) {
            assert_eq!(&self.config(*slot), at_reset, "{slot} after a reset");
        }
    }

    /// What a driver can never change, and what always holds.
    fn check(&self) {
        for (slot, at_reset) in self.slots.iter().zip(&self.at_reset) {
            let mut identity = [0; 4];
            self.bus.ecam_read(slot.ecam_offset(), &mut identity);
            assert_eq!(identity, at_reset[..4], "{slot} is another device");
            self.with(*slot, |hosted| {
                for bar in &hosted.spec().bars {
                    let address = hosted.bar_address(bar.index);
                    assert!(
                        address.is_none_or(|address| address.is_multiple_of(bar.len)),
                        "{bar:?} is not aligned"
                    );
                }
            });
        }
    }
}
