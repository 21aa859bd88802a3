//! Virtio devices as virtio-pci in the tunnel: our PCI drivers reach them through our driver's end of the tunnel, which is itself a
//! virtio device at any depth.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use vioduct_loopback::{Depth, GuestDma, Machine};
use vioduct_pci_demo::PciDemo;
use vioduct_spec::demo::{INITIAL_VALUE, LAB_VALUES};
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::{Backend, Features, Workers};
use vioduct_virtio_driver::device::Running;
use vioduct_virtio_driver::pci::{Aperture, Bar, Function, PciTransport};
use vioduct_virtio_driver::pci_demo::{self, find};
use vioduct_virtio_driver::{
    ConfigAccess, Demo, Device, FunctionAddress, Options, RegisterWindow, RequestQueue, SlotShape, Taken,
    Ticket, Transport, Wanted, Width,
};
use vioduct_virtio_pcidev::protocol::{
    COMMAND_QUEUE, HEADER_LEN, Header, INTERRUPT_LEN, INTERRUPT_QUEUE, op,
};
use vioduct_virtio_pcidev::{PciDev, Tunnel};

const PATIENCE: Duration = Duration::from_secs(20);
const RINGS: [Features; 2] = [Features::EVENT_IDX, Features::RING_PACKED];

fn options(features: Features) -> Options {
    Options { features, ..Options::default() }
}

/// The driver's end: what Linux's `virtio_pcidev` does.
struct Bus {
    end: RefCell<End>,
}

struct End {
    device: Device<Box<dyn Transport + Send>, Running>,
    commands: RequestQueue<GuestDma>,
    interrupts: RequestQueue<GuestDma>,
    offered: Vec<Ticket>,
    messages: Vec<(u64, u32)>,
}

impl Bus {
    fn new(transport: Box<dyn Transport + Send>, machine: &Machine, features: Features) -> Self {
        const COMMANDS: SlotShape = SlotShape { readable_len: HEADER_LEN as u32 + 8, writable_len: 8 };
        const INTERRUPTS: SlotShape = SlotShape { readable_len: 0, writable_len: INTERRUPT_LEN as u32 };
        let (dma, options) = (machine.dma(), options(features));
        let wanted = Wanted { required: features, optional: Features::NONE };
        let device = Device::new(transport).unwrap();
        let mut device = device.negotiate(PciDev::DEVICE_TYPE, wanted).unwrap();
        let commands = RequestQueue::set_up(&mut device, COMMAND_QUEUE, COMMANDS, &options, &dma).unwrap();
        let interrupts =
            RequestQueue::set_up(&mut device, INTERRUPT_QUEUE, INTERRUPTS, &options, &dma).unwrap();
        let device = device.driver_ok().unwrap();
        let mut end = End { device, commands, interrupts, offered: Vec::new(), messages: Vec::new() };
        (0..10).for_each(|_| end.offer());
        Self { end: RefCell::new(end) }
    }

    fn command(&self, header: Header, data: &[u8], reply: &mut [u8]) {
        let message = [&header.encode()[..], data].concat();
        let deadline = Instant::now() + PATIENCE;
        let End { device, commands, .. } = &mut *self.end.borrow_mut();
        let mut wait = || {
            std::thread::yield_now();
            if Instant::now() < deadline { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let written = commands.call(device, &message, reply, &mut wait).unwrap();
        assert_eq!(written as usize, reply.len());
    }

    /// Waits for a message, but no longer than a driver wants that polls in between.
    fn wait(&self) -> impl FnMut() -> ControlFlow<()> + '_ {
        let deadline = Instant::now() + PATIENCE;
        move || {
            let look_until = Instant::now() + Duration::from_millis(1);
            while self.end.borrow_mut().take_messages() == 0 && Instant::now() < look_until {
                std::thread::yield_now();
            }
            if Instant::now() < deadline { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        }
    }

    fn open(&self) -> Function<'_, Self> {
        let mut function = Function::open(self, FunctionAddress::new(0, 0, 0).unwrap()).unwrap();
        function.assign_bars(&mut Aperture::new(0xf000_0000, 0xffff_ffff)).unwrap();
        function
    }

    fn window<'b>(&'b self) -> impl FnMut(&Bar, u64, u64) -> Option<Window<'b>> {
        move |bar, offset, len| Some(Window { bus: self, bar: bar.index, offset, len })
    }
}

impl End {
    fn offer(&mut self) {
        self.offered.push(self.interrupts.submit(&[], INTERRUPT_LEN as u32).unwrap());
        self.interrupts.kick(&mut self.device).unwrap();
    }

    /// Takes the messages that have come, recycling their buffers; how many there were.
    fn take_messages(&mut self) -> usize {
        let _ = self.interrupts.poll().unwrap();
        let before = self.messages.len();
        for ticket in std::mem::take(&mut self.offered) {
            match self.interrupts.take_reply::<INTERRUPT_LEN>(ticket).unwrap() {
                Taken::Pending(ticket) => self.offered.push(ticket),
                Taken::Done(bytes) => {
                    let header = Header::decode(*bytes.first_chunk().unwrap());
                    assert_eq!((header.op, header.size), (op::MSI, 4));
                    self.messages.push((header.addr, u32::from_le_bytes(*bytes.last_chunk().unwrap())));
                    self.offer();
                }
            }
        }
        self.messages.len() - before
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

impl ConfigAccess for Bus {
    fn read(&self, at: FunctionAddress, offset: u16, width: Width) -> u32 {
        if at != FunctionAddress::new(0, 0, 0).unwrap() {
            return width.ones() as u32;
        }
        let mut bytes = vec![0; width.bytes()];
        let size = width.bytes() as u32;
        self.command(Header { op: op::CONFIG_READ, bar: 0, size, addr: offset.into() }, &[], &mut bytes);
        number(&bytes) as u32
    }

    fn write(&self, _at: FunctionAddress, offset: u16, width: Width, value: u32) {
        let header = Header { op: op::CONFIG_WRITE, bar: 0, size: width.bytes() as u32, addr: offset.into() };
        self.command(header, &u64::from(value).to_le_bytes(), &mut []);
    }
}

/// Part of a BAR.
struct Window<'b> {
    bus: &'b Bus,
    bar: u8,
    offset: u64,
    len: u64,
}

impl RegisterWindow for Window<'_> {
    fn window_len(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, width: Width) -> u64 {
        let mut bytes = vec![0; width.bytes()];
        let (size, addr) = (width.bytes() as u32, self.offset + offset);
        self.bus.command(Header { op: op::BAR_READ, bar: self.bar, size, addr }, &[], &mut bytes);
        number(&bytes)
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        let (size, addr) = (width.bytes() as u32, self.offset + offset);
        let header = Header { op: op::BAR_WRITE, bar: self.bar, size, addr };
        self.bus.command(header, value.to_le_bytes().get(..width.bytes()).unwrap(), &mut []);
    }
}

/// A tunnel with virtio-demo in it, by threads in both.
fn demo_tunnel() -> impl Backend {
    Tunnel::new(PciDev::virtio(Workers::new(VirtioDemo::default())).unwrap(), Workers::new)
}

#[test]
fn a_virtio_device_is_driven_through_the_tunnel_with_either_ring_inside_and_outside() {
    for depth in [Depth::Verbs, Depth::Mmio, Depth::Pci, Depth::VhostUser] {
        for (outside, inside) in RINGS.into_iter().flat_map(|outside| RINGS.map(|inside| (outside, inside))) {
            let what = format!("{depth:?}, {outside} with {inside} inside");
            let machine = Machine::new(1 << 20).unwrap();
            let attached = machine.attach_backend(demo_tunnel(), depth).unwrap();
            let bus = Bus::new(attached.transport().unwrap(), &machine, outside);
            let messages = machine.messages(2);
            let transport = PciTransport::new(&bus.open(), &mut bus.window(), &messages).unwrap();
            let mut driver = Demo::new(transport, machine.dma(), &options(inside)).unwrap();
            assert_eq!(driver.read(&mut bus.wait()), Ok(INITIAL_VALUE), "{what}");
            for value in LAB_VALUES {
                assert_eq!(driver.write(value, &mut bus.wait()), Ok(value), "{what}");
                assert_eq!(driver.read(&mut bus.wait()), Ok(value), "{what}");
                assert_eq!(driver.config_value(), Ok(value), "{what}");
            }
            let _late = bus.wait()();
            let sent: Vec<_> = messages.iter().map(|message| (message.address, message.data)).collect();
            let came = bus.end.borrow().messages.clone();
            assert!(
                !came.is_empty() && came.iter().all(|message| sent.contains(message)),
                "{what}: {came:x?}"
            );
        }
    }
}

/// Queues of the tunnel stop and start with the device at work in it, as when a front-end changes the memory table.
#[test]
fn a_device_goes_on_after_the_tunnel_has_paused() {
    for inside in RINGS {
        let machine = Machine::new(1 << 20).unwrap();
        let attached = machine.attach_backend(demo_tunnel(), Depth::Mmio).unwrap();
        let bus = Bus::new(attached.transport().unwrap(), &machine, Features::EVENT_IDX);
        let transport = PciTransport::new(&bus.open(), &mut bus.window(), &machine.messages(2)).unwrap();
        let mut driver = Demo::new(transport, machine.dma(), &options(inside)).unwrap();
        for value in 0..50 {
            attached.pause();
            attached.with_endpoint(|endpoint| endpoint.replace_memory(machine.memory()));
            attached.resume();
            assert_eq!(driver.write(value, &mut bus.wait()), Ok(value));
        }
    }
}

/// A driver that resets the tunnel finds the device in it as it was at first.
#[test]
fn a_reset_of_the_tunnel_resets_what_is_in_it() {
    let machine = Machine::new(1 << 20).unwrap();
    let attached = machine.attach_backend(demo_tunnel(), Depth::Mmio).unwrap();
    for round in 0..5 {
        let bus = Bus::new(attached.transport().unwrap(), &machine, Features::EVENT_IDX);
        let transport = PciTransport::new(&bus.open(), &mut bus.window(), &machine.messages(2)).unwrap();
        let mut driver = Demo::new(transport, machine.dma(), &options(Features::NONE)).unwrap();
        assert_eq!(driver.read(&mut bus.wait()), Ok(INITIAL_VALUE), "round {round}");
        assert_eq!(driver.write(0x2333, &mut bus.wait()), Ok(0x2333));
        // The tunnel goes first: what is in it is out of reach then, and its driver's reset reads as ones.
        std::mem::forget(driver);
    }
}

#[test]
fn a_plain_function_is_driven_through_the_tunnel() {
    let machine = Machine::new(1 << 20).unwrap();
    let tunnel = Tunnel::new(PciDev::registers(PciDemo::new()).unwrap(), Workers::new);
    let attached = machine.attach_backend(tunnel, Depth::VhostUser).unwrap();
    let bus = Bus::new(attached.transport().unwrap(), &machine, Features::RING_PACKED);
    assert!(find(&bus, 0).is_some());
    let driver = pci_demo::PciDemo::new(&bus.open(), &mut bus.window()).unwrap();
    for value in LAB_VALUES {
        driver.store(value);
        assert_eq!(driver.load(), value);
    }
}
