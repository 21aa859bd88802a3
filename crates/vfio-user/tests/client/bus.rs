//! The client's device as a driver reaches it: configuration space and BARs by messages.

use super::{CONFIG, Client};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cell::RefCell;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};
use vioduct_loopback::{GuestDma, Machine};
use vioduct_virtio_device::{EventFd, Signal};
use vioduct_virtio_driver::pci::{Aperture, Bar, Function, PciTransport};
use vioduct_virtio_driver::{ConfigAccess, Demo, FunctionAddress, Options, RegisterWindow, Width};

/// A handle to the client, which may be exchanged for another while drivers use it.
#[derive(Clone)]
pub(crate) struct Bus {
    pub(crate) client: Rc<RefCell<Client>>,
    pub(crate) doorbells: Rc<RefCell<Vec<Doorbell>>>,
}

/// A place whose writes go to an eventfd, as KVM has it.
pub(crate) struct Doorbell {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) datamatch: Option<u64>,
    pub(crate) event: EventFd,
    pub(crate) rung: usize,
}

/// Part of a BAR.
pub(crate) struct Window {
    bus: Bus,
    bar: u32,
    offset: u64,
    len: u64,
}

pub(crate) type Driver = Demo<PciTransport<Window>, GuestDma>;

impl Bus {
    pub(crate) fn new(client: Client) -> Self {
        Self { client: Rc::new(RefCell::new(client)), doorbells: Rc::default() }
    }

    /// A driver of the virtio-demo that is there, with MSI-X vectors or its pin.
    pub(crate) fn driver(&self, machine: &Machine, vectors: u16, options: &Options) -> Driver {
        let mut function = Function::open(self, FunctionAddress::new(0, 0, 0).unwrap()).unwrap();
        function.assign_bars(&mut Aperture::new(0xe000_0000, 0xf000_0000)).unwrap();
        let mut access = |bar: &Bar, offset, len| {
            Some(Window { bus: self.clone(), bar: u32::from(bar.index), offset, len })
        };
        let transport = PciTransport::new(&function, &mut access, &machine.messages(vectors)).unwrap();
        Demo::new(transport, machine.dma(), options).unwrap()
    }

    /// Waits for an interrupt or a call of the server's, which is answered; a millisecond at a time, as a driver that polls in
    /// between may have found what an interrupt is yet to tell. Gives up after twenty seconds.
    pub(crate) fn wait<'a>(&'a self, interrupt: &'a EventFd) -> impl FnMut() -> ControlFlow<()> + 'a {
        let deadline = Instant::now() + Duration::from_secs(20);
        move || {
            let mut client = self.client.borrow_mut();
            let patience = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
            let called = {
                let (socket, event) = (client.socket.as_fd(), interrupt.as_fd());
                let mut fds = [PollFd::new(&socket, PollFlags::IN), PollFd::new(&event, PollFlags::IN)];
                poll(&mut fds, Some(&patience)).unwrap();
                !fds[0].revents().is_empty()
            };
            if called {
                client.answer_call();
            }
            let _fired = interrupt.take();
            if Instant::now() < deadline { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        }
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
        let bytes = self.client.borrow_mut().read(CONFIG, offset.into(), width.bytes() as u32).unwrap();
        number(&bytes) as u32
    }

    fn write(&self, _at: FunctionAddress, offset: u16, width: Width, value: u32) {
        let data = &value.to_le_bytes()[..width.bytes()];
        self.client.borrow_mut().write(CONFIG, offset.into(), data).unwrap();
    }
}

impl RegisterWindow for Window {
    fn window_len(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, width: Width) -> u64 {
        let count = width.bytes() as u32;
        number(&self.bus.client.borrow_mut().read(self.bar, self.offset + offset, count).unwrap())
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        let (offset, len) = (self.offset + offset, width.bytes() as u64);
        let mut doorbells = self.bus.doorbells.borrow_mut();
        let hit = |at: &&mut Doorbell| {
            at.offset == offset && at.len == len && at.datamatch.is_none_or(|wanted| wanted == value)
        };
        if let Some(doorbell) = doorbells.iter_mut().find(hit) {
            doorbell.event.signal();
            doorbell.rung += 1;
            return;
        }
        let data = &value.to_le_bytes()[..width.bytes()];
        self.bus.client.borrow_mut().write(self.bar, offset, data).unwrap();
    }
}
