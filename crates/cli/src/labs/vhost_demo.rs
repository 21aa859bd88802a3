//! `vhost-demo`: virtio-demo with its data path in another process. This one keeps the registers.

use super::stage::{BATCHES, Job, depth, failed, machine, offer, wrong_replies};
use super::{Setup, virtio_demo};
use crate::Failure;
use crate::report::{Check, Cost, Costs, Transcript};
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use vioduct_loopback::{Attached, Machine, Served};
use vioduct_spec::demo;
use vioduct_vhost_user::{Frontend, Patience, SharedRegion};
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::DeviceModel;
use vioduct_virtio_driver::demo::Request;
use vioduct_virtio_driver::{Demo, Options, RequestError, Taken};

type Device = Attached<Served<Frontend>>;
type Driver = virtio_demo::Driver;

/// How long an answer may take on a host that has much else to do.
const LIMIT: Duration = Duration::from_secs(10);

pub(super) fn run(setup: &Setup, out: &mut Transcript) -> Result<Costs, Failure> {
    let room = tempfile::tempdir().map_err(failed("make a folder for a socket"))?;
    let socket = room.path().join("device.sock");
    fall_back(&socket, setup, out)?;
    let server = ServerProcess::start("virtio-demo", &socket)?;
    out.say(format!("process {} serves the device at a socket; this one has its registers", server.id()));
    let machine = machine()?;
    let device = machine
        .attach_backend(connect(&machine, &socket)?, depth(setup))
        .map_err(failed("attach vhost-demo"))?;
    let transport = device.transport().map_err(failed("find vhost-demo"))?;
    let options = Options { features: offer(setup), ..Options::default() };
    let mut driver = Demo::new(transport, machine.dma(), &options).map_err(failed("start vhost-demo"))?;
    out.say(format!("negotiated {}", driver.device().negotiated()));
    virtio_demo::walk_through(&mut wait(&device), &mut driver, out).map_err(failed("talk to vhost-demo"))?;
    let mut ways = virtio_demo::costs_in_this_process(setup)?;
    for batch in BATCHES {
        ways.push(cost(&machine, &device, &mut driver, batch)?);
    }
    Ok(Costs { ways })
}

/// A machine whose back-end is not there has the device itself, and says so.
fn fall_back(nowhere: &Path, setup: &Setup, out: &mut Transcript) -> Result<(), Failure> {
    let machine = machine()?;
    let Err(why) = connect(&machine, nowhere) else {
        out.check("a server answers where there is none", Check::Fails);
        return Ok(());
    };
    out.say(format!("before there is a server: {}", why.into_message()));
    let mut driver = virtio_demo::Here::start(&machine, setup)?;
    let read = driver.read().map_err(failed("talk to virtio-demo"))?;
    out.check(
        format!("so the machine serves the device itself: read = {read:#x}"),
        Check::equal(&read, &demo::INITIAL_VALUE),
    );
    Ok(())
}

fn connect(machine: &Machine, socket: &Path) -> Result<Frontend, Failure> {
    let regions = SharedRegion::all_of(&machine.memory()).map_err(failed("share the memory"))?;
    let info = VirtioDemo::default().info();
    Frontend::connect(socket, info, regions, Patience::default()).map_err(failed("attach vhost-demo"))
}

/// Waits for interrupts.
fn wait(device: &Device) -> impl FnMut() -> ControlFlow<()> + '_ {
    let mut quiet_since = Instant::now();
    move || {
        if device.wait_for_interrupt() {
            quiet_since = Instant::now();
        }
        if quiet_since.elapsed() > LIMIT { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn cost(machine: &Machine, device: &Device, driver: &mut Driver, batch: u64) -> Result<Cost, Failure> {
    let way = format!("vhost-user, batches of {batch}");
    let job = Job { machine, way, batch, bytes_per_operation: 2 * demo::HALF_LEN as u64 };
    let [.., value] = demo::LAB_VALUES;
    job.measure(|_, count| {
        let stored = write_batch(device, driver, value, count).map_err(failed("run a batch"))?;
        (stored == count).then_some(()).ok_or_else(|| wrong_replies(stored, count))
    })
}

/// Writes a value `count` times by one batch; how often it came back as it should.
fn write_batch(device: &Device, driver: &mut Driver, value: u32, count: u64) -> Result<u64, RequestError> {
    let mut tickets =
        (0..count).map(|_| driver.submit(Request::Write(value))).collect::<Result<Vec<_>, _>>()?;
    driver.kick()?;
    let mut wait = wait(device);
    let mut right = 0;
    while !tickets.is_empty() {
        driver.service()?;
        let mut pending = Vec::new();
        for ticket in tickets {
            match driver.take(ticket)? {
                Taken::Pending(ticket) => pending.push(ticket),
                taken => right += u64::from(taken == Taken::Done(value)),
            }
        }
        tickets = pending;
        if !tickets.is_empty() && wait().is_break() {
            break;
        }
    }
    Ok(right)
}

/// `vioduct serve` in a process of its own, until this is dropped.
pub(crate) struct ServerProcess {
    child: Child,
}

impl ServerProcess {
    /// Starts it for a device, and waits until clients may come.
    pub(crate) fn start(device: &str, socket: &Path) -> Result<Self, Failure> {
        let program: PathBuf = std::env::current_exe().map_err(failed("find this program"))?;
        let mut command = Command::new(program);
        command.args(["serve", device, "--vhost-user"]).arg(socket);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = command.spawn().map_err(failed("start a server"))?;
        let mut server = Self { child };
        let mut line = String::new();
        if let Some(stdout) = server.child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(failed("start a server"))?;
        }
        match line.starts_with("ready ") {
            true => Ok(server),
            false => Err(Failure::Failed("the server has ended before it was ready".to_owned())),
        }
    }

    /// The process's number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
