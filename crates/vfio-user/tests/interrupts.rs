//! INTx and MSI-X by eventfds, and what a client may ask of them.
#![allow(clippy::unwrap_used)]

mod client;

use client::*;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};
use vioduct_pci::{
    BarSpec, FunctionHost, FunctionSpec, InterruptPin, Interrupts, Level, MsixSpec, PciFunction,
};
use vioduct_vfio_user::Device;

const INTX: u32 = 0;
const MSI: u32 = 1;
const MSIX: u32 = 2;
const VECTORS: u32 = 4;

const NONE: u32 = 1;
const BOOL: u32 = 2;
const EVENTFD: u32 = 4;
const MASK: u32 = 8;
const UNMASK: u32 = 16;
const TRIGGER: u32 = 32;

/// A function that does nothing but interrupt, when the test says so.
struct Bell {
    interrupts: Arc<Mutex<Option<Interrupts>>>,
}

impl PciFunction for Bell {
    fn spec(&self) -> FunctionSpec {
        FunctionSpec::new(0x1234, 2, 0xff_0000)
            .with_bar(BarSpec::memory32(0, 4096))
            .with_interrupt_pin(InterruptPin::A)
            .with_msix(MsixSpec::in_bar(VECTORS as u16, 0, 0))
    }
    fn attach(&mut self, host: FunctionHost) {
        *self.interrupts.lock().unwrap() = Some(host.interrupts().clone());
    }
    fn bar_read(&mut self, _bar: u8, _offset: u64, _out: &mut [u8]) {}
    fn bar_write(&mut self, _bar: u8, _offset: u64, _data: &[u8]) {}
    fn reset(&mut self) {}
}

fn bell() -> (Served, Interrupts) {
    let interrupts = Arc::default();
    let served = Served::new(Device::registers(Bell { interrupts: Arc::clone(&interrupts) }).unwrap());
    let interrupts = interrupts.lock().unwrap().clone().unwrap();
    (served, interrupts)
}

#[test]
fn interrupt_types_are_described() {
    let (served, _) = bell();
    let mut client = Client::qemu(&served.path);
    for (index, flags, count) in [(INTX, 7, 1), (MSI, 1, 0), (MSIX, 1, VECTORS)] {
        let info = client.request(IRQ_INFO, &words(&[16, 0, index, 0]));
        assert_eq!(info, Ok(words(&[16, flags, index, count])));
    }
}

#[test]
fn a_vector_signals_its_eventfd() {
    let (served, interrupts) = bell();
    let mut client = Client::qemu(&served.path);
    let events = [eventfd(), eventfd(), eventfd()];
    let fds: Vec<BorrowedFd<'_>> = events.iter().map(|event| event.as_fd()).collect();
    // As QEMU does: first none, then one by one; here the rest in one message.
    client.request(SET_IRQS, &irqs(EVENTFD | TRIGGER, MSIX, 0, 1)).unwrap();
    client.request_with(SET_IRQS, &irqs(EVENTFD | TRIGGER, MSIX, 1, 3), &fds).unwrap();
    interrupts.msix(1);
    interrupts.msix(3);
    interrupts.msix(3);
    assert_eq!(events.each_ref().map(|event| event.take()), [1, 0, 2]);
    // Replaced, taken away, all off.
    let other = eventfd();
    client.request_with(SET_IRQS, &irqs(EVENTFD | TRIGGER, MSIX, 2, 1), &[other.as_fd()]).unwrap();
    interrupts.msix(2);
    assert_eq!((events[1].take(), other.take()), (0, 1));
    client.request(SET_IRQS, &irqs(NONE | TRIGGER, MSIX, 0, 0)).unwrap();
    (0..4).for_each(|vector| interrupts.msix(vector));
    assert_eq!((events.each_ref().map(|event| event.take()), other.take()), ([0, 0, 0], 0));
}

/// What fires before its eventfd is there is not lost; what fired before interrupts were turned off is.
#[test]
fn an_early_interrupt_waits_for_its_eventfd() {
    let (served, interrupts) = bell();
    let mut client = Client::qemu(&served.path);
    let event = eventfd();
    let assign = |client: &mut Client| {
        client.request_with(SET_IRQS, &irqs(EVENTFD | TRIGGER, MSIX, 0, 1), &[event.as_fd()]).unwrap();
        event.take()
    };
    interrupts.msix(0);
    assert_eq!(assign(&mut client), 1);
    client.request(SET_IRQS, &irqs(EVENTFD | TRIGGER, MSIX, 0, 1)).unwrap();
    interrupts.msix(0);
    client.request(SET_IRQS, &irqs(NONE | TRIGGER, MSIX, 0, 0)).unwrap();
    assert_eq!(assign(&mut client), 0);
    // Between two clients.
    drop(client);
    let mut client = Client::qemu(&served.path);
    interrupts.msix(0);
    assert_eq!((event.take(), assign(&mut client)), (0, 1));
    client.request(SET_IRQS, &irqs(EVENTFD | TRIGGER, MSIX, 0, 1)).unwrap();
    interrupts.msix(0);
    client.request(RESET, &[]).unwrap();
    assert_eq!(assign(&mut client), 0, "reset");
}

/// The pin masks itself when it fires; unmasked while it is asserted, it fires again.
#[test]
fn the_pin_fires_until_it_is_deasserted() {
    let (served, interrupts) = bell();
    let mut client = Client::qemu(&served.path);
    let event = eventfd();
    client.request_with(SET_IRQS, &irqs(EVENTFD | TRIGGER, INTX, 0, 1), &[event.as_fd()]).unwrap();
    interrupts.intx(Level::Asserted);
    interrupts.intx(Level::Deasserted);
    interrupts.intx(Level::Asserted);
    assert_eq!(event.take(), 1, "masked by itself");
    client.request(SET_IRQS, &irqs(NONE | UNMASK, INTX, 0, 1)).unwrap();
    assert_eq!(event.take(), 1, "still asserted");
    interrupts.intx(Level::Deasserted);
    client.request(SET_IRQS, &irqs(NONE | UNMASK, INTX, 0, 1)).unwrap();
    assert_eq!(event.take(), 0);
    client.request(SET_IRQS, &irqs(NONE | MASK, INTX, 0, 1)).unwrap();
    interrupts.intx(Level::Asserted);
    assert_eq!(event.take(), 0, "masked by the client");
    client.request(SET_IRQS, &[irqs(BOOL | UNMASK, INTX, 0, 1), vec![0]].concat()).unwrap_err();
    let bool_irqs = |value: u8| [words(&[21, BOOL | UNMASK, INTX, 0, 1]), vec![value]].concat();
    client.request(SET_IRQS, &bool_irqs(0)).unwrap();
    assert_eq!(event.take(), 0);
    client.request(SET_IRQS, &bool_irqs(1)).unwrap();
    assert_eq!(event.take(), 1);
    client.request(SET_IRQS, &irqs(NONE | TRIGGER, INTX, 0, 0)).unwrap();
    client.request(SET_IRQS, &irqs(NONE | UNMASK, INTX, 0, 1)).unwrap();
    assert_eq!(event.take(), 0, "off");
    client.request_with(SET_IRQS, &irqs(EVENTFD | TRIGGER, INTX, 0, 1), &[event.as_fd()]).unwrap();
    assert_eq!(event.take(), 1, "on, and asserted");
}

/// A client triggers interrupts itself, all of a range or some of it.
#[test]
fn a_client_may_trigger_interrupts() {
    let (served, _) = bell();
    let mut client = Client::qemu(&served.path);
    let events: Vec<_> = (0..VECTORS).map(|_| eventfd()).collect();
    let fds: Vec<BorrowedFd<'_>> = events.iter().map(|event| event.as_fd()).collect();
    client.request_with(SET_IRQS, &irqs(EVENTFD | TRIGGER, MSIX, 0, VECTORS), &fds).unwrap();
    client.request(SET_IRQS, &irqs(NONE | TRIGGER, MSIX, 2, 2)).unwrap();
    let some = [words(&[24, BOOL | TRIGGER, MSIX, 0, 4]), vec![1, 0, 0, 1]].concat();
    client.request(SET_IRQS, &some).unwrap();
    let counts: Vec<_> = events.iter().map(|event| event.take()).collect();
    assert_eq!(counts, [1, 0, 1, 2]);
}

/// Ranges beyond what there is, sums that wrap, flags that exclude each other, descriptors that do not fit.
#[test]
fn row68_wrong_interrupt_changes_are_refused() {
    let (served, interrupts) = bell();
    let mut client = Client::qemu(&served.path);
    let event = eventfd();
    client.request_with(SET_IRQS, &irqs(EVENTFD | TRIGGER, MSIX, 3, 1), &[event.as_fd()]).unwrap();
    let rows = [
        (NONE | TRIGGER, MSIX, 4, 1),
        (NONE | TRIGGER, MSIX, 0, 5),
        (NONE | TRIGGER, MSIX, 3, 2),
        (NONE | TRIGGER, MSIX, u32::MAX, 1),
        (NONE | TRIGGER, MSIX, 1, u32::MAX),
        (NONE | TRIGGER, MSIX, u32::MAX, u32::MAX),
        (NONE | TRIGGER, MSIX, 1, 0),
        (NONE | TRIGGER, INTX, 0, 2),
        (NONE | TRIGGER, MSI, 0, 1),
        (NONE | TRIGGER, 3, 0, 0),
        (NONE | TRIGGER, u32::MAX, 0, 1),
        (EVENTFD | TRIGGER, MSIX, 0, 0),
        (EVENTFD | TRIGGER, MSIX, 0, 5),
        (EVENTFD | UNMASK, INTX, 0, 1),
        (EVENTFD | MASK, INTX, 0, 1),
        (NONE | MASK, MSIX, 0, 1),
        (NONE | UNMASK, MSIX, 0, 1),
        (BOOL | TRIGGER, MSIX, 0, 1),
        (NONE, MSIX, 0, 1),
        (TRIGGER, MSIX, 0, 1),
        (NONE | EVENTFD | TRIGGER, MSIX, 0, 1),
        (NONE | MASK | TRIGGER, MSIX, 0, 1),
        (NONE | TRIGGER | 64, MSIX, 0, 1),
        (u32::MAX, MSIX, 0, 1),
    ];
    for (flags, index, start, count) in rows {
        let refused = client.request(SET_IRQS, &irqs(flags, index, start, count));
        assert_eq!(refused, Err(EINVAL), "{flags:#x} {index} {start} {count}");
    }
    let other = eventfd();
    for (flags, count, fds) in [(EVENTFD | TRIGGER, 3, 2), (EVENTFD | TRIGGER, 1, 2), (NONE | TRIGGER, 1, 1)]
    {
        let fds: Vec<BorrowedFd<'_>> = (0..fds).map(|_| other.as_fd()).collect();
        let refused = client.request_with(SET_IRQS, &irqs(flags, MSIX, 0, count), &fds);
        assert_eq!(refused.unwrap_err(), EINVAL, "{flags:#x} {count}");
    }
    let long = [words(&[24, BOOL | TRIGGER, MSIX, 0, 2]), vec![1; 3]].concat();
    assert_eq!(client.request(SET_IRQS, &long), Err(EINVAL));
    interrupts.msix(3);
    assert_eq!((event.take(), other.take()), (1, 0), "nothing has changed");
}

/// A descriptor that is no eventfd, and one that would wait: the device goes on.
#[test]
fn row68_a_wrong_eventfd_holds_nobody_up() {
    let (served, interrupts) = bell();
    let mut client = Client::qemu(&served.path);
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let blocking = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap();
    rustix::io::write(&blocking, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    for wrong in [&reader, &blocking, &writer] {
        client.request_with(SET_IRQS, &irqs(EVENTFD | TRIGGER, MSIX, 0, 1), &[wrong.as_fd()]).unwrap();
        (0..20_000).for_each(|_| interrupts.msix(0));
    }
    assert_eq!(client.read(CONFIG, 0, 2), Ok(vec![0x34, 0x12]));
}
