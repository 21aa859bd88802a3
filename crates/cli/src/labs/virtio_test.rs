//! `virtio-test`: factorials, and echoes plus 100.

use super::Setup;
use super::stage::{BATCHES, Job, depth, failed, machine, offer, wrong_replies};
use crate::Failure;
use crate::report::{Check, Costs, Transcript};
use std::sync::mpsc::{self, Receiver};
use vioduct_loopback::{GuestDma, Machine, Stepped};
use vioduct_spec::{device_type, test};
use vioduct_virtio_device::Options as DeviceOptions;
use vioduct_virtio_driver::test::Echo;
use vioduct_virtio_driver::{Options, RequestError, Taken, Test, Ticket, Transport};
use vioduct_virtio_test::VirtioTest;

type Driver = Test<Box<dyn Transport + Send>, GuestDma>;

/// Arguments and what their factorials are modulo 2^32.
const FACTORIALS: [(u32, u32); 5] = [(0, 1), (5, 120), (12, 479_001_600), (13, 1_932_053_504), (34, 0)];
/// The first argument whose factorial exceeds 32 bits.
const FIRST_TO_WRAP: u32 = 13;
const ECHO_ARGUMENT: u32 = 10;

/// Driver and device, and what the device says it received.
struct Both {
    machine: Machine,
    device: Stepped<VirtioTest>,
    driver: Driver,
    received: Receiver<String>,
}

fn start(setup: &Setup, options: &str, out: &mut Transcript) -> Result<Both, Failure> {
    let machine = machine()?;
    let options = DeviceOptions::parse(options).map_err(failed("describe virtio-test"))?;
    let (sender, received) = mpsc::sync_channel(16);
    let model = VirtioTest::from_options(&options)
        .map_err(failed("describe virtio-test"))?
        // Only the walk-through listens; what comes while costs are measured is let go.
        .on_request(move |request| drop(sender.try_send(request.to_string())));
    let device = machine.attach(model, depth(setup), offer(setup)).map_err(failed("attach virtio-test"))?;
    let transport = device.transport().map_err(failed("find virtio-test"))?;
    let mut driver = Test::new(transport, machine.dma(), device_type::TEST, &Options::default())
        .map_err(failed("start virtio-test"))?;
    out.say(format!("negotiated {}", driver.device().negotiated()));
    Ok(Both { machine, device, driver, received })
}

impl Both {
    fn say_received(&self, out: &mut Transcript) {
        for request in self.received.try_iter() {
            out.say(format!("device received {request}"));
        }
    }

    /// Costs of a request that is submitted by `submit` and whose reply is looked at by `take`.
    fn costs(
        mut self,
        bytes_per_operation: usize,
        submit: fn(&mut Driver, u32) -> Result<Ticket, RequestError>,
        is_right: fn(&mut Driver, u32, Ticket) -> Result<bool, RequestError>,
    ) -> Result<Costs, Failure> {
        let Self { machine, device, driver, received } = &mut self;
        let mut ways = Vec::new();
        for batch in BATCHES {
            let way = format!("virtio, batches of {batch}");
            let bytes_per_operation = bytes_per_operation as u64;
            let job = Job { machine, way, batch, bytes_per_operation };
            ways.push(job.measure(|first, count| {
                let right = run_batch(device, driver, first..first + count, (submit, is_right));
                received.try_iter().for_each(drop);
                match right.map_err(failed("run a batch"))? {
                    right if right == count => Ok(()),
                    right => Err(wrong_replies(right, count)),
                }
            })?);
        }
        Ok(Costs { ways })
    }
}

type Submit = fn(&mut Driver, u32) -> Result<Ticket, RequestError>;
type IsRight = fn(&mut Driver, u32, Ticket) -> Result<bool, RequestError>;

/// Submits a request for each number, all by one doorbell; how many replies were right.
fn run_batch(
    device: &Stepped<VirtioTest>,
    driver: &mut Driver,
    numbers: std::ops::Range<u64>,
    (submit, is_right): (Submit, IsRight),
) -> Result<u64, RequestError> {
    let mut tickets = Vec::new();
    for number in numbers.map(|number| number as u32) {
        tickets.push((number, submit(driver, number)?));
    }
    driver.kick()?;
    device.run();
    driver.service()?;
    let mut right = 0;
    for (number, ticket) in tickets {
        right += u64::from(is_right(driver, number, ticket)?);
    }
    Ok(right)
}

/// Factorials.
pub(super) fn run_factorial(setup: &Setup, out: &mut Transcript) -> Result<Costs, Failure> {
    let mut both = start(setup, "virtio-test,format=factorial", out)?;
    for (n, expected) in FACTORIALS {
        let text = format!("what is {n}!");
        let found = {
            let mut wait = both.device.wait();
            both.driver.factorial(n, &text, &mut wait).map_err(failed("ask for a factorial"))?
        };
        both.say_received(out);
        let wraps = if n < FIRST_TO_WRAP { "" } else { " (mod 2^32)" };
        out.check(format!("{n}! = {found}{wraps}"), Check::equal(&found, &expected));
    }
    both.costs(
        test::FACTORIAL_READABLE_LEN + test::FACTORIAL_WRITABLE_LEN,
        |driver, number| driver.submit_factorial(number % FIRST_TO_WRAP, "cost"),
        |driver, number, ticket| {
            let expected = (1..=number % FIRST_TO_WRAP).product();
            Ok(driver.take_factorial(ticket)? == Taken::Done(expected))
        },
    )
}

/// What the device makes of `n`.
fn expected_echo(n: u32) -> Echo {
    let plus = |offset: u32| n.wrapping_add(offset).wrapping_add(test::ECHO_INCREMENT);
    Echo { ret: plus(1), arg1: plus(2), arg2: plus(3) }
}

/// Echoes plus 100.
pub(super) fn run_echo(setup: &Setup, out: &mut Transcript) -> Result<Costs, Failure> {
    let mut both = start(setup, "virtio-test,format=echo", out)?;
    let n = ECHO_ARGUMENT;
    out.say(format!("send type={n} arg1={} arg2={} arg3={}, {:?}", n + 1, n + 2, n + 3, test::ECHO_TEXT));
    let echo = {
        let mut wait = both.device.wait();
        both.driver.echo(n, &mut wait).map_err(failed("ask for an echo"))?
    };
    both.say_received(out);
    let Echo { ret, arg1, arg2 } = echo;
    out.check(format!("came back: {ret}, {arg1}, {arg2}"), Check::equal(&echo, &expected_echo(n)));
    both.costs(
        test::ECHO_READABLE_LEN + test::ECHO_WRITABLE_LEN,
        Driver::submit_echo,
        |driver, number, ticket| Ok(driver.take_echo(ticket)? == Taken::Done(expected_echo(number))),
    )
}
