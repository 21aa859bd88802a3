//! Devices with threads of their own, and drivers on others: real concurrency, in one machine.
#![allow(clippy::unwrap_used)]

use std::thread;

use vioduct_loopback::{Depth, Machine};
use vioduct_spec::Features;
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_driver::demo::Request;
use vioduct_virtio_driver::{Demo, Options, Taken};

const ROUNDS: u32 = 300;
const BATCH: u32 = 16;

/// One driver's work: batches of writes, whose replies must be its own, then a read of the last value.
fn drive(machine: &Machine, depth: Depth, features: Features) {
    let device = machine.attach_workers(VirtioDemo::default(), depth, Features::RING).unwrap();
    let options = Options { features, ..Options::default() };
    let mut driver = Demo::new(device.transport().unwrap(), machine.dma(), &options).unwrap();
    let mut wait = device.wait();
    for round in 0..ROUNDS {
        let values = round * BATCH..(round + 1) * BATCH;
        let submit = |value| (value, driver.submit(Request::Write(value)).unwrap());
        let mut waiting: Vec<_> = values.map(submit).collect();
        driver.kick().unwrap();
        while let Some((value, ticket)) = waiting.pop() {
            match driver.take(ticket).unwrap() {
                Taken::Done(stored) => assert_eq!(stored, value, "{depth}"),
                Taken::Pending(ticket) => {
                    waiting.push((value, ticket));
                    if driver.service().unwrap().completed == 0 {
                        assert!(wait().is_continue(), "{depth}: the device is silent in round {round}");
                    }
                    driver.poll().unwrap();
                }
            }
        }
    }
    assert_eq!(driver.read(&mut wait), Ok(ROUNDS * BATCH - 1), "{depth}");
    assert_eq!(device.with_model(|model| model.value()), ROUNDS * BATCH - 1, "{depth}");
}

#[test]
fn drivers_and_devices_work_at_once() {
    let machine = Machine::new(8 << 20).unwrap();
    let all = Features::RING;
    let variants = [
        (Depth::Verbs, Features::NONE),
        (Depth::Mmio, Features::EVENT_IDX),
        (Depth::Pci, Features::RING_PACKED),
        (Depth::Pci, all),
        (Depth::VhostUser, Features::EVENT_IDX),
        (Depth::VhostUser, all),
    ];
    thread::scope(|scope| {
        for (depth, features) in variants {
            let machine = machine.clone();
            scope.spawn(move || drive(&machine, depth, features));
        }
    });
    let traffic = machine.traffic();
    assert!(traffic.doorbells > 0 && traffic.doorbells <= 6 * u64::from(ROUNDS + 1), "{traffic:?}");
}
