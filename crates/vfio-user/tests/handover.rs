//! A virtio device moves between two servers while its driver works.
#![allow(clippy::unwrap_used)]

mod client;

use client::bus::{Bus, Driver};
use client::states::*;
use client::*;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use vioduct_loopback::Machine;
use vioduct_vfio_user::Device;
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::{EventFd, Features, Workers};
use vioduct_virtio_driver::demo::Request;
use vioduct_virtio_driver::{Options, Taken, Ticket, Transport};
use vioduct_virtqueue::{IoAddr, Memory};

const INITIAL: u32 = 0x1333;
const MSIX: u32 = 2;
/// In the common configuration.
const CONFIG_VECTOR: u64 = 0x10;
const GENERATION: u64 = 0x15;
const QUEUE_VECTOR: u64 = 0x1a;
/// Of virtio-demo's BAR.
const COMMON_LEN: u32 = 0x40;
const ISR: u64 = 0x1000;
const DOORBELL: u64 = 0x3000;
const TABLE: u64 = 0x4000;
const TABLE_LEN: u32 = 32;

fn virtio_demo() -> Served {
    Served::new(Device::virtio(Workers::new(VirtioDemo::default())).unwrap())
}

fn split() -> Options {
    Options { features: Features::INDIRECT_DESC | Features::EVENT_IDX, ..Options::default() }
}

fn direct() -> Options {
    Options { features: Features::EVENT_IDX, ..Options::default() }
}

/// A client that has mapped the machine's memory and gives one eventfd for all vectors.
fn attached(served: &Served, machine: &Machine, sharing: Sharing, event: &EventFd) -> Client {
    let mut client = Client::qemu(&served.path);
    client.map_machine(machine, sharing);
    let fds = [event.as_fd(), event.as_fd()];
    client.request_with(SET_IRQS, &irqs(0x24, MSIX, 0, 2), &fds).unwrap();
    client
}

/// All bytes of the machine's memory.
fn contents(machine: &Machine) -> Vec<(u64, Vec<u8>)> {
    let memory = machine.memory();
    let bytes = |at: IoAddr, len: u64| {
        let mut bytes = vec![0; len as usize];
        memory.read(at, &mut bytes).unwrap();
        (at.0, bytes)
    };
    memory.regions().map(|(region, _)| bytes(region.at, region.len)).collect()
}

/// Collects what has come of the requests; each is complete once, in turn, with its own value.
fn collect(driver: &mut Driver, flying: &mut VecDeque<(u32, Ticket)>) {
    driver.poll().unwrap();
    while let Some((value, ticket)) = flying.pop_front() {
        match driver.take(ticket).unwrap() {
            Taken::Done(stored) => assert_eq!(stored, value),
            Taken::Pending(ticket) => return flying.push_front((value, ticket)),
        }
    }
}

/// There and back, time and again, with requests under way at every moment: nothing is lost, and nothing is done twice.
#[test]
fn requests_under_way_are_completed_once_across_the_hand_over() {
    for sharing in [Sharing::Descriptors, Sharing::Messages] {
        for options in [split(), direct(), Options::default()] {
            let (here, there) = (virtio_demo(), virtio_demo());
            let machine = Machine::new(1 << 20).unwrap();
            let event = eventfd();
            let bus = Bus::new(attached(&here, &machine, sharing, &event));
            let mut other = attached(&there, &machine, sharing, &event);
            let mut driver = bus.driver(&machine, 2, &options);
            let mut flying = VecDeque::new();
            let mut next = 0;
            for round in 0..40 {
                for _ in 0..1 + round % 40 {
                    flying.push_back((next, driver.submit(Request::Write(next)).unwrap()));
                    next += 1;
                }
                driver.kick().unwrap();
                let state = bus.client.borrow_mut().save();
                other.go_to(STOP).unwrap();
                other.load(&state).unwrap();
                let calls = other.dma_calls;
                assert_eq!(other.state(), STOP);
                assert_eq!(other.dma_calls, calls, "a stopped device reaches for no memory");
                let stopped = bus.client.replace(other);
                other = stopped;
                bus.client.borrow_mut().go_to(RUNNING).unwrap();
                let mut wait = bus.wait(&event);
                while flying.len() > 20 {
                    assert!(wait().is_continue(), "{sharing:?} {round}");
                    collect(&mut driver, &mut flying);
                }
            }
            let mut wait = bus.wait(&event);
            while !flying.is_empty() {
                assert!(wait().is_continue(), "{sharing:?}");
                collect(&mut driver, &mut flying);
            }
            assert_eq!(driver.config_value(), Ok(next - 1), "the value came along");
            assert_eq!(driver.read(&mut bus.wait(&event)), Ok(next - 1));
        }
    }
}

/// Copying memory page by page works: whatever the device has written while it was watched is in the log by the time it stops.
#[test]
fn the_log_covers_what_is_written_until_the_stop() {
    for options in [split(), Options::default()] {
        let (here, there) = (virtio_demo(), virtio_demo());
        let machine = Machine::new(1 << 20).unwrap();
        let event = eventfd();
        let bus = Bus::new(attached(&here, &machine, Sharing::Descriptors, &event));
        let mut driver = bus.driver(&machine, 2, &options);
        assert_eq!(driver.read(&mut bus.wait(&event)), Ok(INITIAL));
        // From here to the hand-over, only the device writes.
        bus.client.borrow_mut().go_to(STOP).unwrap();
        let mut flying: VecDeque<_> =
            (0..40).map(|value| (value, driver.submit(Request::Write(value)).unwrap())).collect();
        driver.kick().unwrap();
        let before = contents(&machine);
        let _early = event.take();
        let mut client = bus.client.borrow_mut();
        client.start_log();
        client.go_to(RUNNING).unwrap();
        assert!(wait_for(&event) > 0);
        let state = client.save();
        let mut changed = 0;
        for ((at, before), (_, after)) in before.iter().zip(contents(&machine)) {
            let dirty = client.take_dirty(*at, before.len() as u64);
            let pages = before.chunks(4096).zip(after.chunks(4096)).zip((*at..).step_by(4096));
            for (_, page) in pages.filter(|((before, after), _)| before != after) {
                assert!(dirty.contains(&page), "{page:#x} is not in the log");
                changed += 1;
            }
        }
        assert!(changed > 0, "the device has worked");
        drop(client);
        let mut other = attached(&there, &machine, Sharing::Descriptors, &event);
        other.go_to(STOP).unwrap();
        other.load(&state).unwrap();
        other.go_to(RUNNING).unwrap();
        drop(bus.client.replace(other));
        let mut wait = bus.wait(&event);
        while !flying.is_empty() {
            assert!(wait().is_continue());
            collect(&mut driver, &mut flying);
        }
        assert_eq!(driver.read(&mut bus.wait(&event)), Ok(39));
    }
}

/// A device that is stopped, whatever is done to it but what starts it, keeps still; then it goes on.
#[test]
fn a_stopped_device_touches_nothing_and_tells_nobody() {
    for sharing in [Sharing::Descriptors, Sharing::Messages] {
        let served = virtio_demo();
        let machine = Machine::new(1 << 20).unwrap();
        let event = eventfd();
        let bus = Bus::new(attached(&served, &machine, sharing, &event));
        let mut driver = bus.driver(&machine, 2, &Options::default());
        assert_eq!(driver.write(7, &mut bus.wait(&event)), Ok(7));
        bus.client.borrow_mut().go_to(STOP).unwrap();
        let _early = event.take();
        let ticket = driver.submit(Request::Write(8)).unwrap();
        driver.kick().unwrap();
        let before = contents(&machine);
        let mut client = bus.client.borrow_mut();
        let calls = client.dma_calls;
        let file = memfd(4096);
        let steps: [&dyn Fn(&mut Client); 6] = [
            &|client| client.write(0, DOORBELL, &[0, 0]).unwrap(),
            &|client| {
                client.request_with(DMA_MAP, &map(3, 0, 1 << 40, 4096), &[file.as_fd()]).unwrap();
                client.request(DMA_UNMAP, &unmap(0, 1 << 40, 4096)).unwrap();
            },
            &|client| client.write(CONFIG, 4, &[2, 0]).unwrap(),
            &|client| client.write(CONFIG, 4, &[6, 0]).unwrap(),
            &|client| drop(client.request_with(IO_FDS, &words(&[256, 0, 0, 0]), &[]).unwrap()),
            &|client| {
                client.go_to(STOP_COPY).unwrap();
                client.go_to(STOP).unwrap();
            },
        ];
        for (number, step) in steps.iter().enumerate() {
            step(&mut client);
            assert_eq!(client.read_u32(0, DOORBELL + 8), 0, "step {number} has been done");
            assert_eq!((client.dma_calls, event.take()), (calls, 0), "step {number}");
            assert!(contents(&machine) == before, "step {number}");
        }
        client.go_to(RUNNING).unwrap();
        drop(client);
        let mut wait = bus.wait(&event);
        let mut flying = VecDeque::from([(8, ticket)]);
        while !flying.is_empty() {
            assert!(wait().is_continue(), "{sharing:?}");
            collect(&mut driver, &mut flying);
        }
    }
}

/// What a driver has written of configuration space, the MSI-X table and the common configuration is there elsewhere.
#[test]
fn registers_come_along() {
    let (here, there) = (virtio_demo(), virtio_demo());
    let machine = Machine::new(1 << 20).unwrap();
    let event = eventfd();
    let bus = Bus::new(attached(&here, &machine, Sharing::Descriptors, &event));
    let mut driver = bus.driver(&machine, 2, &Options::default());
    assert_eq!(driver.write(7, &mut bus.wait(&event)), Ok(7));
    let mut client = bus.client.borrow_mut();
    let entry = words(&[0xfee0_1000, 1, 0x4321, 1]);
    client.write(0, TABLE + 16, &entry[..8]).unwrap();
    client.write(0, TABLE + 24, &entry[8..]).unwrap();
    client.write(CONFIG, 0x3c, &[11]).unwrap();
    client.write(0, 8, &1u32.to_le_bytes()).unwrap();
    let shown = client.read(0, GENERATION, 1);
    let state = client.save();
    let mut other = Client::qemu(&there.path);
    other.go_to(STOP).unwrap();
    other.load(&state).unwrap();
    for (region, at, len) in [(CONFIG, 0, 256), (0, TABLE, TABLE_LEN), (0, 0x2000, 4)] {
        for at in (at..at + u64::from(len)).step_by(4) {
            assert_eq!(client.read(region, at, 4), other.read(region, at, 4), "{region} {at:#x}");
        }
    }
    let entry_there = [other.read(0, TABLE + 16, 8).unwrap(), other.read(0, TABLE + 24, 8).unwrap()].concat();
    assert_eq!(entry_there, entry);
    assert_ne!(shown, other.read(0, GENERATION, 1), "what was read of the configuration may be outdated");
    let fields = [(0, 4), (4, 4), (8, 4), (12, 4), (0x10, 2), (0x12, 2), (0x14, 1), (0x16, 2), (0x18, 2)];
    let queue = [(0x1a, 2), (0x1c, 2), (0x1e, 2), (0x20, 8), (0x28, 8), (0x30, 8), (0x38, 2), (0x3a, 2)];
    for (at, len) in fields.into_iter().chain(queue) {
        assert!(at < u64::from(COMMON_LEN));
        assert_eq!(client.read(0, at, len), other.read(0, at, len), "{at:#x}");
    }
}

/// An interrupt that found no eventfd waits for the client at the other host; so it does where the device is stopped there.
#[test]
fn pending_vectors_come_along() {
    let (here, there) = (virtio_demo(), virtio_demo());
    let machine = Machine::new(1 << 20).unwrap();
    let event = eventfd();
    let bus = Bus::new(attached(&here, &machine, Sharing::Descriptors, &event));
    let mut driver = bus.driver(&machine, 2, &split());
    assert_eq!(driver.read(&mut bus.wait(&event)), Ok(INITIAL));
    let mut client = bus.client.borrow_mut();
    let vector = |client: &mut Client, at: u64| client.read(0, at, 2).unwrap()[0].into();
    let (config, queue): (u32, u32) = (vector(&mut client, CONFIG_VECTOR), vector(&mut client, QUEUE_VECTOR));
    assert_ne!(config, queue);
    client.request(SET_IRQS, &irqs(0x24, MSIX, queue, 1)).unwrap();
    drop(client);
    // The driver wants an interrupt for what comes next.
    driver.device().transport().vector_fired(queue as u16);
    driver.service().unwrap();
    let ticket = driver.submit(Request::Read).unwrap();
    driver.kick().unwrap();
    let mut flying = VecDeque::from([(INITIAL, ticket)]);
    let mut wait = bus.wait(&event);
    while !flying.is_empty() {
        assert!(wait().is_continue());
        collect(&mut driver, &mut flying);
    }
    let state = bus.client.borrow_mut().save();
    for early in [true, false] {
        let mut other = Client::qemu(&there.path);
        other.map_machine(&machine, Sharing::Descriptors);
        let (of_queue, of_config) = (eventfd(), eventfd());
        let assign = |client: &mut Client| {
            for (vector, event) in [(queue, &of_queue), (config, &of_config)] {
                client.request_with(SET_IRQS, &irqs(0x24, MSIX, vector, 1), &[event.as_fd()]).unwrap();
            }
        };
        other.go_to(STOP).unwrap();
        if early {
            assign(&mut other);
        }
        other.load(&state).unwrap();
        assert_eq!(of_queue.take(), 0, "not while it is stopped");
        other.go_to(RUNNING).unwrap();
        if !early {
            assign(&mut other);
        }
        assert_eq!((of_queue.take(), of_config.take()), (1, 0), "early: {early}");
    }
}

/// The pin is asserted elsewhere as it was here, for as long as the ISR is not read.
#[test]
fn the_pin_comes_along() {
    let (here, there) = (virtio_demo(), virtio_demo());
    let machine = Machine::new(1 << 20).unwrap();
    let mut client = Client::qemu(&here.path);
    client.map_machine(&machine, Sharing::Descriptors);
    let event = eventfd();
    client.request_with(SET_IRQS, &irqs(0x24, 0, 0, 1), &[event.as_fd()]).unwrap();
    let bus = Bus::new(client);
    let mut driver = bus.driver(&machine, 0, &split());
    let _ticket = driver.submit(Request::Read).unwrap();
    driver.kick().unwrap();
    assert_eq!(wait_for(&event), 1);
    let state = bus.client.borrow_mut().save();
    let mut other = Client::qemu(&there.path);
    other.map_machine(&machine, Sharing::Descriptors);
    let event = eventfd();
    other.request_with(SET_IRQS, &irqs(0x24, 0, 0, 1), &[event.as_fd()]).unwrap();
    other.go_to(STOP).unwrap();
    other.load(&state).unwrap();
    assert_eq!(event.take(), 0);
    other.go_to(RUNNING).unwrap();
    assert_eq!(event.take(), 1);
    assert_eq!(other.read(CONFIG, 6, 1).unwrap()[0] & 8, 8, "interrupt status");
    assert_eq!(other.read(0, ISR, 1), Ok(vec![1]));
    other.request(SET_IRQS, &irqs(0x11, 0, 0, 1)).unwrap();
    assert_eq!(event.take(), 0, "the ISR was read");
    driver.device().transport().vector_fired(0);
}
