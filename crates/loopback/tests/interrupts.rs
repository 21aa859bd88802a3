//! Interrupts by line and by message, and none that nobody wants.
#![allow(clippy::unwrap_used)]

mod machines;

use machines::{attach, variants};
use vioduct_loopback::{Crossing, Depth, GuestDma, InterruptKind, Machine, PciInterrupts, Stepped};
use vioduct_spec::Features;
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_driver::demo::Request;
use vioduct_virtio_driver::{Demo, Options, Taken, Transport};

type DemoDriver = Demo<Box<dyn Transport + Send>, GuestDma>;

fn by_pci(interrupts: PciInterrupts) -> (Machine, Stepped<VirtioDemo>, DemoDriver) {
    let (machine, device) = attach(VirtioDemo::default(), Depth::Pci);
    let transport = device.transport_with(interrupts).unwrap();
    let driver = Demo::new(transport, machine.dma(), &Options::default()).unwrap();
    (machine, device, driver)
}

fn interrupts(machine: &Machine) -> Vec<InterruptKind> {
    let kind = |crossing| match crossing {
        Crossing::Interrupt(kind) => Some(kind),
        _ => None,
    };
    machine.take_trace().into_iter().filter_map(kind).collect()
}

/// virtio 1.3 §4.1.5.4.1: with MSI-X, a vector for the configuration and one for the queue.
#[test]
fn messages_say_what_they_are_for() {
    let (machine, device, mut driver) = by_pci(PciInterrupts::Messages);
    machine.start_trace();
    let ticket = driver.submit(Request::Write(5)).unwrap();
    driver.kick().unwrap();
    device.run();
    let (config, queue) = (InterruptKind::Message { vector: 0 }, InterruptKind::Message { vector: 1 });
    assert_eq!(interrupts(&machine), [config, queue]);
    assert!(!device.interrupt_line(), "PCI 3.0 §6.8.2.3: no line with MSI-X");
    let events = driver.service().unwrap();
    assert_eq!((events.completed, events.config_changed), (1, true));
    assert_eq!(driver.take(ticket), Ok(Taken::Done(5)));
    assert!(!device.interrupt_pending());
}

/// virtio 1.3 §4.1.4.5.1: without MSI-X the line is high until the ISR is read.
#[test]
fn the_line_is_high_until_the_isr_is_read() {
    let (machine, device, mut driver) = by_pci(PciInterrupts::Line);
    for round in 0..3 {
        machine.start_trace();
        let ticket = driver.submit(Request::Read).unwrap();
        driver.kick().unwrap();
        assert!(!device.interrupt_line(), "before the device has worked");
        device.run();
        assert!(device.interrupt_line(), "round {round}");
        assert_eq!(interrupts(&machine), [InterruptKind::Line]);
        assert_eq!(driver.service().unwrap().completed, 1);
        assert!(!device.interrupt_line(), "after the ISR was read");
        assert_eq!(driver.take(ticket), Ok(Taken::Done(0x1333)));
    }
}

/// virtio 1.3 §4.2.2: the window's line is high until the interrupt is acknowledged.
#[test]
fn the_window_s_line_is_high_until_acknowledged() {
    let (machine, device) = attach(VirtioDemo::default(), Depth::Mmio);
    let mut driver = Demo::new(device.transport().unwrap(), machine.dma(), &Options::default()).unwrap();
    driver.submit(Request::Read).map(|ticket| driver.queue().abandon(ticket)).unwrap();
    driver.kick().unwrap();
    device.run();
    assert!(device.interrupt_line() && device.interrupt_pending());
    assert_eq!(driver.service().unwrap().completed, 1);
    assert!(!device.interrupt_line() && !device.interrupt_pending());
}

/// A driver that has disabled callbacks is not interrupted; once it enables them, it learns what is there already.
#[test]
fn a_driver_that_polls_is_not_interrupted() {
    for features in [Features::NONE, Features::EVENT_IDX] {
        for (depth, format, options) in variants(features) {
            let (machine, device) = attach(VirtioDemo::default(), depth);
            let mut driver = Demo::new(device.transport().unwrap(), machine.dma(), &options).unwrap();
            // The first notification after a start is sent in any case.
            driver.read(&mut device.wait()).unwrap();
            driver.service().unwrap();
            driver.queue().virtqueue().disable_callback();
            let before = machine.traffic().interrupts;
            let ticket = driver.submit(Request::Read).unwrap();
            driver.kick().unwrap();
            device.run();
            assert_eq!(machine.traffic().interrupts - before, 0, "{features} by {depth} {format:?}");
            assert_eq!(driver.queue().drain().unwrap(), 1, "{features} by {depth} {format:?}");
            assert_eq!(driver.take(ticket), Ok(Taken::Done(0x1333)));
        }
    }
}
