//! `virtio-demo`: one value, over a virtqueue; and what it costs beside emulated PCI.

use super::stage::{BATCHES, Job, depth, failed, machine, offer, wrong_replies};
use super::{Setup, pci_demo};
use crate::Failure;
use crate::report::{Check, Cost, Costs, Transcript};
use std::ops::ControlFlow;
use vioduct_loopback::{GuestDma, Machine, Stepped};
use vioduct_spec::demo;
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_driver::demo::Request;
use vioduct_virtio_driver::{Demo, Options, RequestError, Taken, Transport};

pub(super) type Driver = Demo<Box<dyn Transport + Send>, GuestDma>;

pub(super) fn run(setup: &Setup, out: &mut Transcript) -> Result<Costs, Failure> {
    let machine = machine()?;
    let mut here = Here::start(&machine, setup)?;
    out.say(format!("negotiated {}", here.driver.device().negotiated()));
    walk_through(&mut here.device.wait(), &mut here.driver, out).map_err(failed("talk to virtio-demo"))?;
    Ok(Costs { ways: costs(&machine, here)? })
}

/// What the job costs when this process has the device, to compare with.
pub(super) fn costs_in_this_process(setup: &Setup) -> Result<Vec<Cost>, Failure> {
    let machine = machine()?;
    let here = Here::start(&machine, setup)?;
    costs(&machine, here)
}

/// The device in this process, and its driver.
pub(super) struct Here {
    device: Stepped<VirtioDemo>,
    driver: Driver,
}

impl Here {
    pub(super) fn start(machine: &Machine, setup: &Setup) -> Result<Self, Failure> {
        let device = machine
            .attach(VirtioDemo::default(), depth(setup), offer(setup))
            .map_err(failed("attach virtio-demo"))?;
        let transport = device.transport().map_err(failed("find virtio-demo"))?;
        let driver =
            Demo::new(transport, machine.dma(), &Options::default()).map_err(failed("start virtio-demo"))?;
        Ok(Self { device, driver })
    }

    pub(super) fn read(&mut self) -> Result<u32, RequestError> {
        self.driver.read(&mut self.device.wait())
    }
}

fn costs(machine: &Machine, mut here: Here) -> Result<Vec<Cost>, Failure> {
    let mut ways = vec![pci_demo::cost_of_stores()?];
    for batch in BATCHES {
        ways.push(cost(machine, &here.device, &mut here.driver, batch)?);
    }
    Ok(ways)
}

/// Reads, writes, and asks for what is not known; `wait` lets the device work.
pub(super) fn walk_through(
    mut wait: &mut dyn FnMut() -> ControlFlow<()>,
    driver: &mut Driver,
    out: &mut Transcript,
) -> Result<(), RequestError> {
    let read = driver.read(&mut wait)?;
    out.check(format!("read = {read:#x} (the initial value)"), Check::equal(&read, &demo::INITIAL_VALUE));
    for value in demo::LAB_VALUES {
        driver.write(value, &mut wait)?;
        out.say(format!("write {value:#x}"));
        let read = driver.read(&mut wait)?;
        out.check(format!("read = {read:#x}"), Check::equal(&read, &value));
    }
    let shown = driver.config_value()?;
    let [.., last] = demo::LAB_VALUES;
    out.check(format!("configuration space shows {shown:#x}"), Check::equal(&shown, &last));
    let unknown = driver.call(Request::Raw { opcode: 7, operand: 1 }, &mut wait);
    out.check(
        "opcode 7 is unknown: the reply's opcode is 0xffffffff, nothing is stored",
        Check::equal(&unknown.err(), &Some(RequestError::Refused)),
    );
    Ok(())
}

fn cost(
    machine: &Machine,
    device: &Stepped<VirtioDemo>,
    driver: &mut Driver,
    batch: u64,
) -> Result<Cost, Failure> {
    let way = format!("virtio, batches of {batch}");
    let job = Job { machine, way, batch, bytes_per_operation: 2 * demo::HALF_LEN as u64 };
    // The value that is stored already, so that no change of the configuration is announced beside the answers.
    let value = device.with_model(|model| model.value());
    job.measure(|_, count| {
        let stored = write_batch(device, driver, value, count).map_err(failed("run a batch"))?;
        (stored == count).then_some(()).ok_or_else(|| wrong_replies(stored, count))
    })
}

/// Writes a value `count` times by one batch, submitted together and answered together; how often it came back as it should.
fn write_batch(
    device: &Stepped<VirtioDemo>,
    driver: &mut Driver,
    value: u32,
    count: u64,
) -> Result<u64, RequestError> {
    let tickets = (0..count).map(|_| driver.submit(Request::Write(value))).collect::<Result<Vec<_>, _>>()?;
    driver.kick()?;
    device.run();
    driver.service()?;
    let mut right = 0;
    for ticket in tickets {
        right += u64::from(driver.take(ticket)? == Taken::Done(value));
    }
    Ok(right)
}
