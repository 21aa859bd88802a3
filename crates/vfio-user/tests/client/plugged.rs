//! A function of a server in a machine without a processor, with its interrupts in a test's hands.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vioduct_loopback::{GuestDma, Machine, Window};
use vioduct_pci::{InterruptSink, Level, MsiMessage, Slot};
use vioduct_virtio_device::{EventFd, Signal};
use vioduct_virtio_driver::pci::{Function, PciTransport, functions};
use vioduct_virtio_driver::{Demo, FunctionAddress, Options};

pub(crate) type Driver = Demo<PciTransport<Window>, GuestDma>;

/// Where interrupts arrive.
pub(crate) struct Sink {
    /// One for each vector, as of a host that lets others raise them; none for one that does not.
    direct: Vec<EventFd>,
    raised: Mutex<Vec<u16>>,
    messages: Mutex<Vec<u16>>,
    levels: Mutex<Vec<Level>>,
    arrived: EventFd,
}

impl Sink {
    pub(crate) fn new(direct: usize) -> Arc<Self> {
        let event = || EventFd::new().unwrap();
        Arc::new(Self {
            direct: (0..direct).map(|_| event()).collect(),
            raised: Mutex::default(),
            messages: Mutex::default(),
            levels: Mutex::default(),
            arrived: event(),
        })
    }

    /// Vectors that arrived by a message.
    pub(crate) fn take_messages(&self) -> Vec<u16> {
        std::mem::take(&mut self.messages.lock().unwrap())
    }

    /// Vectors whose eventfds are signalled.
    pub(crate) fn take_direct(&self) -> Vec<u16> {
        self.look();
        std::mem::take(&mut self.raised.lock().unwrap())
    }

    pub(crate) fn take_levels(&self) -> Vec<Level> {
        std::mem::take(&mut self.levels.lock().unwrap())
    }

    fn look(&self) {
        let signalled = (0..).zip(&self.direct).filter(|(_, event)| event.take() > 0);
        self.raised.lock().unwrap().extend(signalled.map(|(vector, _)| vector));
        let _ = self.arrived.take();
    }

    /// Waits for any interrupt, a millisecond at most.
    pub(crate) fn wait(&self) {
        let fds = self.direct.iter().chain([&self.arrived]);
        let mut fds: Vec<_> = fds.map(|event| PollFd::new(event, PollFlags::IN)).collect();
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 })).unwrap();
        self.look();
    }

    /// Waits until something holds; fails after twenty seconds.
    pub(crate) fn until(&self, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < deadline, "it does not come");
            self.wait();
        }
    }

    /// What a driver's blocking calls take to wait with.
    pub(crate) fn waiting(&self) -> impl FnMut() -> ControlFlow<()> + '_ {
        let deadline = Instant::now() + Duration::from_secs(20);
        move || {
            self.wait();
            if Instant::now() < deadline { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        }
    }
}

impl InterruptSink for Sink {
    fn msi(&self, vector: u16, message: MsiMessage) {
        assert_eq!(message.data, u32::from(vector));
        self.messages.lock().unwrap().push(vector);
        self.arrived.signal();
    }

    fn intx(&self, level: Level) {
        self.levels.lock().unwrap().push(level);
        self.arrived.signal();
    }

    fn eventfd(&self, vector: u16) -> Option<BorrowedFd<'_>> {
        self.direct.get(usize::from(vector)).map(AsFd::as_fd)
    }
}

/// The driver's way to the function in a slot, with as many vectors; with none, by its pin.
pub(crate) fn transport(machine: &Machine, slot: Slot, vectors: u16) -> PciTransport<Window> {
    let config = machine.config_access();
    let here = |at: FunctionAddress| (at.device(), at.function()) == (slot.device(), slot.function());
    let at = functions(&config, 0).find(|identity| here(identity.at)).unwrap().at;
    let function = Function::open(&config, at).unwrap();
    PciTransport::new(&function, &mut machine.clone(), &machine.messages(vectors)).unwrap()
}

pub(crate) fn driver(machine: &Machine, slot: Slot, vectors: u16, options: &Options) -> Driver {
    Demo::new(transport(machine, slot, vectors), machine.dma(), options).unwrap()
}
