//! `framework`: a guided tour of a live ring of eight entries, in an order that a driver and a device might go through on a bad day.

mod device;
mod tour;

use super::Setup;
use super::stage::{depth, failed, machine, offer};
use crate::Failure;
use crate::report::{Check, Cost, Costs, Transcript};
use device::{QUEUE_SIZE, TourDevice};
use std::time::Instant;
use tour::Tour;
use vioduct_loopback::{GuestDma, Stepped};
use vioduct_spec::{Features, Status, device_type};
use vioduct_virtio_driver::device::Running;
use vioduct_virtio_driver::{Device, QueueSetup, Transport, Virtqueue, Wanted};

type Link = Box<dyn Transport + Send>;
type Ring = Virtqueue<GuestDma, &'static str>;

pub(super) fn run(setup: &Setup, out: &mut Transcript) -> Result<Costs, Failure> {
    let start = Instant::now();
    let machine = machine()?;
    let model = TourDevice::new().map_err(failed("create the tour's device"))?;
    let device =
        machine.attach(model, depth(setup), offer(setup)).map_err(failed("attach the tour's device"))?;
    let (driver, ring) = negotiate(&device, out)?;
    let mut tour = Tour::new(device, driver, ring, out)?;
    tour.add_kick_and_get()?;
    tour.complete_out_of_order()?;
    tour.use_a_table()?;
    tour.turn_callbacks_off_and_on()?;
    tour.wrap_around()?;
    tour.reset_the_queue()?;
    let operations = tour.reset_the_device()?;
    let traffic = machine.traffic();
    let elapsed = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    Ok(Costs {
        ways: vec![Cost {
            way: "the whole tour".to_owned(),
            operations: operations.count(),
            batch: 1,
            register_reads: Some(traffic.register_reads),
            register_writes: Some(traffic.register_writes),
            doorbells: Some(traffic.doorbells),
            interrupts: Some(traffic.interrupts),
            bytes_moved: operations.bytes(),
            copies: None,
            median_ns: Some(operations.median_ns()),
            p99_ns: Some(operations.p99_ns()),
            per_operation_ns: Some(elapsed / operations.count().max(1)),
            host_instructions_per_operation: None,
            carried: None,
        }],
    })
}

/// The way from reset to DRIVER_OK, step by step (virtio 1.3 §3.1.1).
fn negotiate(
    device: &Stepped<TourDevice>,
    out: &mut Transcript,
) -> Result<(Device<Link, Running>, Ring), Failure> {
    let transport = device.transport().map_err(failed("find the tour's device"))?;
    let status = || device.with_endpoint(|endpoint| endpoint.status());
    let reset = Device::new(transport).map_err(failed("reset the device"))?;
    let is = |wanted: Status| Check::equal(&status(), &wanted);
    out.check(format!("reset: status is {}", status()), is(Status::RESET));
    let acknowledged = reset.acknowledge();
    let expected = Status::ACKNOWLEDGE;
    out.check(format!("the driver has seen the device: {}", status()), is(expected));
    let mut identified = acknowledged.identify(device_type::DEMO).map_err(failed("identify the device"))?;
    let expected = expected.with(Status::DRIVER);
    out.check(format!("and knows how to drive it: {}", status()), is(expected));
    out.say(format!("the device offers {}", identified.offered()));
    let optional = Features::RING | Features::RING_RESET;
    let wanted = Wanted { required: Features::NONE, optional };
    let mut negotiated = identified.negotiate(wanted).map_err(failed("negotiate"))?;
    let expected = expected.with(Status::FEATURES_OK);
    out.say(format!("the driver accepts {}", negotiated.negotiated()));
    out.check(format!("FEATURES_OK was written and still reads as set: {}", status()), is(expected));
    let queue = QueueSetup { max_size: QUEUE_SIZE, indirect_entries: 4 };
    let mut ring: Ring =
        negotiated.set_up_queue(0, queue, &device.machine().dma()).map_err(failed("set up the queue"))?;
    // So that both ways to make a chain are seen.
    ring.use_tables_from(3);
    let driver = negotiated.driver_ok().map_err(failed("start the device"))?;
    let expected = expected.with(Status::DRIVER_OK);
    out.check(
        format!("a queue of {QUEUE_SIZE} entries is set up, the device runs: {}", status()),
        is(expected),
    );
    Ok((driver, ring))
}
