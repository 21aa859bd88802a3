//! A virtio device over virtio-pci over vfio-user, with its driver at the client's end.
#![allow(clippy::unwrap_used)]

mod client;

use client::bus::{Bus, Doorbell};
use client::*;
use std::os::fd::AsFd;
use vioduct_loopback::Machine;
use vioduct_vfio_user::Device;
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::{EventFd, Features, Workers};
use vioduct_virtio_driver::demo::Request;
use vioduct_virtio_driver::{Options, RequestError, Taken, Transport};

const INITIAL: u32 = 0x1333;

fn virtio_demo() -> Served {
    Served::new(Device::virtio(Workers::new(VirtioDemo::default())).unwrap())
}

/// A client that has mapped the machine's memory and gives one eventfd for all vectors.
fn attached(served: &Served, machine: &Machine, sharing: Sharing, event: &EventFd) -> Client {
    let mut client = Client::qemu(&served.path);
    client.map_machine(machine, sharing);
    let fds = [event.as_fd(), event.as_fd()];
    client.request_with(SET_IRQS, &irqs(0x24, 2, 0, 2), &fds).unwrap();
    client
}

fn split() -> Options {
    Options { features: Features::INDIRECT_DESC | Features::EVENT_IDX, ..Options::default() }
}

/// The one doorbell of a reply that offers it.
fn offered(reply: Received) -> Doorbell {
    assert_eq!(reply.payload[..16], words(&[56, 0, 0, 1]));
    let long = |at: usize| u64::from_ne_bytes(reply.payload[at..at + 8].try_into().unwrap());
    assert_eq!(reply.payload[32..48], words(&[0, 0, 1, 0]), "descriptor 0, ioeventfd, datamatch");
    let [fd] = <[_; 1]>::try_from(reply.fds).unwrap();
    let (offset, len, datamatch) = (long(16), long(24), Some(long(48)));
    Doorbell { offset, len, datamatch, event: EventFd::from(fd), rung: 0 }
}

/// Whole requests with either ring: memory that is mapped, and memory that is reached by messages.
#[test]
fn requests_are_served_with_and_without_descriptors() {
    for sharing in [Sharing::Descriptors, Sharing::Messages] {
        for options in [split(), Options::default()] {
            let served = virtio_demo();
            let machine = Machine::new(1 << 20).unwrap();
            let event = eventfd();
            let bus = Bus::new(attached(&served, &machine, sharing, &event));
            let mut driver = bus.driver(&machine, 2, &options);
            assert_eq!(driver.read(&mut bus.wait(&event)), Ok(INITIAL), "{sharing:?}");
            for value in 0..50 {
                assert_eq!(driver.write(value, &mut bus.wait(&event)), Ok(value), "{sharing:?}");
                assert_eq!(driver.read(&mut bus.wait(&event)), Ok(value), "{sharing:?}");
            }
            assert_eq!(driver.config_value(), Ok(49));
            let calls = bus.client.borrow().dma_calls;
            assert_eq!(calls > 0, sharing == Sharing::Messages, "{calls} calls");
        }
    }
}

/// The pin: fires, is deasserted by reading the ISR, and unmasked.
#[test]
fn requests_are_served_with_the_interrupt_pin() {
    let served = virtio_demo();
    let machine = Machine::new(1 << 20).unwrap();
    let event = eventfd();
    let mut client = Client::qemu(&served.path);
    client.map_machine(&machine, Sharing::Descriptors);
    client.request_with(SET_IRQS, &irqs(0x24, 0, 0, 1), &[event.as_fd()]).unwrap();
    let bus = Bus::new(client);
    let mut driver = bus.driver(&machine, 0, &split());
    for value in 1..20 {
        let mut ticket = driver.submit(Request::Write(value)).unwrap();
        driver.kick().unwrap();
        // The configuration shows the value too, so one of two interrupts may be for that.
        let stored = loop {
            assert_eq!(wait_for(&event), 1);
            driver.service().unwrap();
            bus.client.borrow_mut().request(SET_IRQS, &irqs(0x11, 0, 0, 1)).unwrap();
            match driver.take(ticket).unwrap() {
                Taken::Done(stored) => break stored,
                Taken::Pending(pending) => ticket = pending,
            }
        };
        assert_eq!(stored, value);
    }
    driver.service().unwrap();
    bus.client.borrow_mut().request(SET_IRQS, &irqs(0x11, 0, 0, 1)).unwrap();
    let _late = event.take();
    bus.client.borrow_mut().request(SET_IRQS, &irqs(0x11, 0, 0, 1)).unwrap();
    assert_eq!(event.take(), 0, "the ISR was read");
}

/// A client goes, and another comes with the same guest: the queues go on where they were.
#[test]
fn a_running_device_outlives_its_client() {
    for sharing in [Sharing::Descriptors, Sharing::Messages] {
        for options in [split(), Options::default()] {
            let served = virtio_demo();
            let machine = Machine::new(1 << 20).unwrap();
            let event = eventfd();
            let bus = Bus::new(attached(&served, &machine, sharing, &event));
            let mut driver = bus.driver(&machine, 2, &options);
            for round in 0..10 {
                assert_eq!(driver.write(round, &mut bus.wait(&event)), Ok(round));
                // With every call answered: one that a client leaves unanswered is a fault of its memory.
                if sharing == Sharing::Messages {
                    bus.client.borrow_mut().write(CONFIG, 4, &[2, 0]).unwrap();
                }
                let next = Client::connect(&served.path);
                drop(bus.client.replace(next));
                bus.client.borrow_mut().negotiate(QEMU_VERSION).unwrap();
                bus.client.borrow_mut().map_machine(&machine, sharing);
                let fds = [event.as_fd(), event.as_fd()];
                bus.client.borrow_mut().request_with(SET_IRQS, &irqs(0x24, 2, 0, 2), &fds).unwrap();
                bus.client.borrow_mut().write(CONFIG, 4, &[6, 0]).unwrap();
                assert_eq!(driver.read(&mut bus.wait(&event)), Ok(round), "{sharing:?} {round}");
            }
        }
    }
}

/// Memory is mapped and unmapped while requests are under way; those go on.
#[test]
fn row71_memory_may_change_during_requests() {
    for sharing in [Sharing::Descriptors, Sharing::Messages] {
        let served = virtio_demo();
        let machine = Machine::new(1 << 20).unwrap();
        let event = eventfd();
        let bus = Bus::new(attached(&served, &machine, sharing, &event));
        let mut driver = bus.driver(&machine, 2, &Options::default());
        let file = memfd(1 << 20);
        for value in 0..100 {
            let ticket = driver.submit(Request::Write(value)).unwrap();
            driver.kick().unwrap();
            let at = 1 << 40;
            let mut client = bus.client.borrow_mut();
            client.request_with(DMA_MAP, &map(3, 0, at, 1 << 20), &[file.as_fd()]).unwrap();
            client.request(DMA_UNMAP, &unmap(0, at, 1 << 20)).unwrap();
            drop(client);
            let mut wait = bus.wait(&event);
            let mut ticket = Some(ticket);
            while let Some(pending) = ticket.take() {
                driver.poll().unwrap();
                match driver.take(pending).unwrap() {
                    Taken::Done(stored) => assert_eq!(stored, value),
                    Taken::Pending(pending) => {
                        ticket = Some(pending);
                        assert!(wait().is_continue(), "{sharing:?} {value}");
                    }
                }
            }
        }
    }
}

/// The rings' own memory goes: the device needs a reset, and serves again after it.
#[test]
fn row67_unmapping_the_rings_costs_the_guest_a_reset() {
    let served = virtio_demo();
    let machine = Machine::new(1 << 20).unwrap();
    let event = eventfd();
    let bus = Bus::new(attached(&served, &machine, Sharing::Descriptors, &event));
    let mut driver = bus.driver(&machine, 2, &split());
    assert_eq!(driver.read(&mut bus.wait(&event)), Ok(INITIAL));
    bus.client.borrow_mut().request(DMA_UNMAP, &unmap(2, 0, 0)).unwrap();
    driver.device().transport().vector_fired(0);
    assert_eq!(driver.service(), Err(RequestError::NeedsReset));
    bus.client.borrow_mut().map_machine(&machine, Sharing::Descriptors);
    let mut driver = driver.restart(&split()).unwrap();
    assert_eq!(driver.write(5, &mut bus.wait(&event)), Ok(5));
}

/// QEMU unmaps memory to map it again in other pieces. A doorbell that rings between the two waits; nothing is lost.
#[test]
fn row71_rings_that_are_mapped_again_cost_nothing() {
    let served = virtio_demo();
    let machine = Machine::new(1 << 20).unwrap();
    let event = eventfd();
    let mut client = attached(&served, &machine, Sharing::Descriptors, &event);
    let offer = client.request_with(IO_FDS, &words(&[256, 0, 0, 0]), &[]).unwrap();
    let bus = Bus::new(client);
    bus.doorbells.borrow_mut().push(offered(offer));
    let mut driver = bus.driver(&machine, 2, &split());
    for value in 0..20 {
        bus.client.borrow_mut().request(DMA_UNMAP, &unmap(2, 0, 0)).unwrap();
        let mut ticket = driver.submit(Request::Write(value)).unwrap();
        driver.kick().unwrap();
        bus.client.borrow_mut().map_machine(&machine, Sharing::Descriptors);
        // The client says no more until it is interrupted.
        let stored = loop {
            assert!(wait_for(&event) > 0);
            driver.poll().unwrap();
            match driver.take(ticket).unwrap() {
                Taken::Done(stored) => break stored,
                Taken::Pending(pending) => ticket = pending,
            }
        };
        assert_eq!(stored, value);
    }
}

/// Doorbells as eventfds: the client rings without a message.
#[test]
fn doorbells_are_offered_as_eventfds() {
    let served = virtio_demo();
    let machine = Machine::new(1 << 20).unwrap();
    let event = eventfd();
    let mut client = attached(&served, &machine, Sharing::Descriptors, &event);
    let small = client.request_with(IO_FDS, &words(&[16, 0, 0, 0]), &[]).unwrap();
    assert_eq!((small.payload, small.fds.len()), (words(&[56, 0, 0, 1]), 0), "how much room it takes");
    assert_eq!(client.request(IO_FDS, &words(&[256, 0, 7, 0])), Ok(words(&[16, 0, 7, 0])));
    let bus = Bus::new(client);
    let mut driver = bus.driver(&machine, 2, &split());
    assert_eq!(driver.read(&mut bus.wait(&event)), Ok(INITIAL), "by message");
    let offer = bus.client.borrow_mut().request_with(IO_FDS, &words(&[256, 0, 0, 0]), &[]).unwrap();
    let doorbell = offered(offer);
    assert_eq!((doorbell.len, doorbell.datamatch), (2, Some(0)));
    bus.doorbells.borrow_mut().push(doorbell);
    for value in 0..20 {
        assert_eq!(driver.write(value, &mut bus.wait(&event)), Ok(value));
    }
    // Not for each request: a device that is awake wants no kick.
    assert!(bus.doorbells.borrow()[0].rung > 0);
}

/// A device that waits for an answer from a client that goes is not lost: it needs a reset.
#[test]
fn a_call_under_way_ends_with_its_client() {
    let served = virtio_demo();
    let machine = Machine::new(1 << 20).unwrap();
    let event = eventfd();
    let bus = Bus::new(attached(&served, &machine, Sharing::Messages, &event));
    let mut driver = bus.driver(&machine, 2, &split());
    assert_eq!(driver.read(&mut bus.wait(&event)), Ok(INITIAL));
    let _lost = driver.submit(Request::Read).unwrap();
    driver.kick().unwrap();
    let call = bus.client.borrow_mut().receive().unwrap().command;
    assert!([DMA_READ, DMA_WRITE].contains(&call), "{call}");
    let next = Client::connect(&served.path);
    drop(bus.client.replace(next));
    bus.client.borrow_mut().negotiate(QEMU_VERSION).unwrap();
    bus.client.borrow_mut().map_machine(&machine, Sharing::Messages);
    let fds = [event.as_fd(), event.as_fd()];
    bus.client.borrow_mut().request_with(SET_IRQS, &irqs(0x24, 2, 0, 2), &fds).unwrap();
    driver.device().transport().vector_fired(0);
    assert_eq!(driver.service(), Err(RequestError::NeedsReset));
    let mut driver = driver.restart(&split()).unwrap();
    assert_eq!(driver.read(&mut bus.wait(&event)), Ok(INITIAL));
}
