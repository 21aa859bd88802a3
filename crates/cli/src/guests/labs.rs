//! A lab in a guest: what is attached, what the guest's program is told, and what it must say.

use super::boot::Guest;
use super::console::{GuestCost, Line, Load, NetworkCost};
use super::machine::{Booted, Machine};
use super::reading::Reading;
use super::{Kit, kvm};
use crate::Failure;
use crate::args::Ring;
use crate::host_instructions::HostInstructions;
use crate::labs::{Place, Setup, failed};
use crate::report::{Check, Copies, Cost, Costs, Transcript};
use std::collections::VecDeque;
use std::slice;
use std::sync::mpsc::{self, Receiver, Sender};
use vioduct_machine::Traps;
use vioduct_spec::{Features, demo, device_type, test};
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::{DeviceModel, Options, QueueStats};
use vioduct_virtio_test::VirtioTest;

/// Any virtio device.
pub(super) type Model = Box<dyn DeviceModel>;

/// What a lab does in a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum GuestLab {
    PciDemo,
    /// The same over a virtqueue, whose data path is here.
    Demo(DataPath),
    Factorial,
    Echo,
}

/// Where a device's queues are served, and how it hears of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DataPath {
    /// By the process that attaches the device, and a notification is a trap: where the machine is ours.
    Trapped,
    /// By that process, and a notification is no trap where the machine has the means.
    InProcess,
    /// By a process that is not the machine's.
    OtherProcess,
    /// By the host's kernel, where the machine is ours.
    Kernel,
}

/// What the lab of vhost compares: every access a trap, every notification, none.
const COMPARED: [GuestLab; 5] = [
    GuestLab::PciDemo,
    GuestLab::Demo(DataPath::Trapped),
    GuestLab::Demo(DataPath::InProcess),
    GuestLab::Demo(DataPath::OtherProcess),
    GuestLab::Demo(DataPath::Kernel),
];
/// Lines of the console that are shown when a lab goes wrong.
const LAST_LINES: usize = 40;
const DEMO_LINES: [&str; 4] = [
    "first read 0x1333",
    "wrote 0x1333, read 0x1333",
    "wrote 0x2333, read 0x2333",
    "wrote 0x3333, read 0x3333",
];

impl GuestLab {
    /// What the guest's program is told: `vioduct.lab=…`.
    const fn program(self) -> &'static str {
        match self {
            Self::PciDemo => "pci-demo",
            Self::Demo(_) => "virtio-demo",
            Self::Factorial => "virtio-test,12",
            Self::Echo => "virtio-test,10",
        }
    }

    /// What the program or its driver must have said.
    const fn expects(self) -> &'static [&'static str] {
        match self {
            // What it reads first is what the register was left with.
            Self::PciDemo => DEMO_LINES.split_at(1).1,
            Self::Demo(_) => &DEMO_LINES,
            Self::Factorial => &["vioduct_virtio_test: factorial of 12: 479001600"],
            Self::Echo => &["vioduct_virtio_test: echo: 111, 112, 113"],
        }
    }

    /// The device's type, unless the machine has no use for that number.
    pub(super) const fn device_type(self) -> u32 {
        match self {
            Self::Factorial | Self::Echo => device_type::TEST,
            Self::PciDemo | Self::Demo(_) => device_type::DEMO,
        }
    }

    /// What the kernel's command line says of the lab: its program, and parameters of the driver.
    pub(super) fn kernel_words(self, device_type: u32) -> Vec<String> {
        let program = format!("vioduct.lab={}", self.program());
        let driver = match self {
            Self::PciDemo => return vec![program],
            Self::Demo(_) => "vioduct_virtio_demo",
            Self::Factorial | Self::Echo => "vioduct_virtio_test",
        };
        let format = (self == Self::Echo).then(|| format!("{driver}.echo=1"));
        [program, format!("{driver}.device_type={device_type}")].into_iter().chain(format).collect()
    }

    /// The device, of whatever type the machine has use for; it tells `received` what it is asked.
    pub(super) fn model(self, device_type: u32, received: &Sender<String>) -> Result<Model, Failure> {
        let options = |text: String| Options::parse(&text).map_err(failed("describe the device"));
        let format = match self {
            Self::PciDemo | Self::Demo(_) => {
                let options = options(format!("virtio-demo,id={device_type}"))?;
                let model = VirtioDemo::from_options(&options).map_err(failed("describe the device"))?;
                return Ok(Box::new(model));
            }
            Self::Factorial => "factorial",
            Self::Echo => "echo",
        };
        let options = options(format!("virtio-test,format={format},id={device_type}"))?;
        let received = received.clone();
        let model = VirtioTest::from_options(&options)
            .map_err(failed("describe the device"))?
            .on_request(move |request| drop(received.send(request.to_string())));
        Ok(Box::new(model))
    }

    /// Bytes of one request and its reply.
    const fn bytes_per_operation(self) -> u64 {
        (match self {
            Self::PciDemo => 4,
            Self::Demo(_) => 2 * demo::HALF_LEN,
            Self::Factorial => test::FACTORIAL_READABLE_LEN + test::FACTORIAL_WRITABLE_LEN,
            Self::Echo => test::ECHO_READABLE_LEN + test::ECHO_WRITABLE_LEN,
        }) as u64
    }

    /// How often processes of ours copy a request on its way to the device, and its reply: from the guest's memory and to it, or the value of
    /// a register from what KVM shares and to that.
    const fn copies(self) -> Copies {
        match self {
            Self::Demo(DataPath::Kernel) => Copies { sent: 0, received: 0 },
            _ => Copies { sent: 1, received: 1 },
        }
    }

    /// Boots a guest with the lab's device, and another for each further way to attach it.
    pub(crate) fn run(
        self,
        machine: Machine,
        setup: &Setup,
        place: &Place,
        out: &mut Transcript,
    ) -> Result<Costs, Failure> {
        let kit = Kit::load()?;
        let counter = machine.host_instructions();
        let mut ways = Vec::new();
        for way in self.ways(machine) {
            match way.why_not(setup) {
                None => ways.push(way.run_one_way(&kit, machine, setup, place, &counter, out)?),
                Some(why) => out.say(format!("the host's kernel does not serve it here: {why}")),
            }
        }
        if ways.iter().any(|way| way.per_operation_ns.is_some()) {
            counter.say_why_not(out);
        }
        Ok(Costs { ways })
    }

    /// The lab, or all that it compares.
    const fn ways(&self, machine: Machine) -> &[Self] {
        match (self, machine) {
            (Self::Demo(DataPath::OtherProcess), Machine::Kvm) => &COMPARED,
            _ => slice::from_ref(self),
        }
    }

    /// Why this host cannot do it, if it cannot.
    fn why_not(self, setup: &Setup) -> Option<String> {
        match self {
            Self::Demo(DataPath::Kernel) => kvm::why_not_in_the_kernel(setup.ring),
            _ => None,
        }
    }

    /// Boots a guest with the lab's device, and sees what becomes of it.
    pub(super) fn run_one_way(
        self,
        kit: &Kit,
        machine: Machine,
        setup: &Setup,
        place: &Place,
        counter: &HostInstructions,
        out: &mut Transcript,
    ) -> Result<Cost, Failure> {
        let room = tempfile::tempdir().map_err(failed("make a folder for sockets"))?;
        let (sender, received) = mpsc::channel();
        let booted = machine.boot(kit, self, setup, room.path(), sender)?;
        let Booted { guest, counts, how, device, .. } = booted;
        out.say(format!("boots Linux {} in {}, with the device {how}", kit.release(), machine.title()));
        let read = || Reading { server_ns: None, host_instructions: counter.read() };
        let watched = watch(guest, place.ring, &read, out)?;
        say_received(&received, out);
        self.judge(&watched, out);
        let trapped = device.and_then(|device| watched.registers_of(device));
        let registers = counts.registers().or(trapped);
        if let Some(served) = counts.served_in_vain() {
            let what = format!("the machine's process has served {served} requests");
            out.check(what, Check::equal(&served, &0));
        }
        Ok(self.cost(&how, &watched, counts.queue(), registers))
    }

    fn judge(self, watched: &Watched, out: &mut Transcript) {
        for expected in self.expects() {
            if !watched.said.iter().any(|line| line == expected) {
                out.check(format!("the guest has not said `{expected}`"), Check::Fails);
            }
        }
        watched.judge(out);
    }

    fn cost(
        self,
        how: &str,
        watched: &Watched,
        queue: Option<QueueStats>,
        registers: Option<(u64, u64)>,
    ) -> Cost {
        let measured = watched.cost;
        // What the device has counted; where that is another process's, what the guest has.
        let counted = match self {
            Self::PciDemo => registers.map(|(reads, writes)| reads + writes),
            _ => queue.map(|queue| queue.chains),
        };
        let operations = counted.or(measured.map(|cost| cost.operations)).unwrap_or_default();
        Cost {
            way: format!("one at a time, {how}"),
            operations,
            batch: 1,
            register_reads: registers.map(|(reads, _)| reads),
            register_writes: registers.map(|(_, writes)| writes),
            doorbells: queue.map(|queue| queue.kicks).or(measured.and_then(|cost| cost.doorbells)),
            interrupts: queue.map(|queue| queue.signals).or(measured.and_then(|cost| cost.interrupts)),
            bytes_moved: operations * self.bytes_per_operation(),
            copies: Some(self.copies()),
            median_ns: measured.map(|cost| cost.median_ns),
            p99_ns: measured.map(|cost| cost.p99_ns),
            per_operation_ns: measured.map(|cost| cost.per_operation_ns),
            host_instructions_per_operation: watched.each(None).host_instructions,
            carried: None,
        }
    }
}

/// What a guest has said.
#[derive(Default)]
pub(super) struct Watched {
    said: Vec<String>,
    status: Option<u8>,
    cost: Option<GuestCost>,
    pub(super) networks: Vec<NetworkCost>,
    /// Loads, and what the host has done meanwhile.
    loads: Vec<(Load, Reading)>,
    last: VecDeque<String>,
    pub(super) traps: Option<Traps>,
}

/// Follows a guest to its end. What the host has done is read before and after each load, and the whole.
pub(super) fn watch(
    mut guest: Guest,
    ring: Option<Ring>,
    read: &dyn Fn() -> Reading,
    out: &mut Transcript,
) -> Result<Watched, Failure> {
    let mut watched = Watched::default();
    let whole = read();
    let (mut begun, mut before) = (false, Reading::default());
    while let Some(text) = guest.line().inspect_err(|_| watched.show_last())? {
        if watched.last.len() == LAST_LINES {
            watched.last.pop_front();
        }
        watched.last.push_back(text.clone());
        match Line::parse(&text) {
            Line::Begins(system) => {
                begun = true;
                out.say(format!("the guest is up: {system}"));
            }
            Line::Ends(status) => {
                begun = false;
                watched.status = Some(status);
            }
            Line::Cost(cost) => watched.cost = Some(cost),
            Line::Network(cost) => {
                out.say(text);
                watched.networks.push(cost);
            }
            Line::Load => before = read(),
            Line::Loaded(load) => watched.loads.push((load, read().since(before))),
            Line::Negotiated(bits) => {
                let packed = Features(bits).contains(Features::RING_PACKED);
                let holds = Check::equal(&packed, &(ring == Some(Ring::Packed)));
                out.check(format!("negotiated {}", Features(bits)), holds);
            }
            Line::Broken(message) => out.check(format!("the guest's kernel: {message}"), Check::Fails),
            Line::Program(words) if begun => {
                out.say(words);
                watched.said.push(words.to_owned());
            }
            Line::Kernel | Line::Program(_) => {}
        }
    }
    watched.traps = guest.wait()?;
    if let Some(executed) = read().since(whole).host_instructions {
        let millions = executed / 1_000_000;
        out.say(format!(
            "from start to end, the host has executed {millions} million instructions beside the guest's"
        ));
    }
    Ok(watched)
}

impl Watched {
    /// Whether it ended well; what else should be so is looked at before.
    pub(super) fn judge(&self, out: &mut Transcript) {
        match self.status {
            Some(status) => out.check(format!("exit status {status}"), Check::equal(&status, &0)),
            None => out.check("the guest has ended without an exit status", Check::Fails),
        }
        if !out.ok() {
            eprintln!("vioduct: the guest's console, to its end:");
            self.last.iter().for_each(|line| eprintln!("  | {line}"));
        }
    }

    /// What each operation of a load has had the host do: of a card's, or of the only one.
    pub(super) fn each(&self, card: Option<&str>) -> Reading {
        let load = self.loads.iter().find(|(load, _)| load.card.as_deref() == card);
        load.map(|(load, whole)| whole.for_each_of(load.operations)).unwrap_or_default()
    }

    /// Reads and writes of a device's registers that have trapped.
    fn registers_of(&self, device: &str) -> Option<(u64, u64)> {
        let devices = &self.traps.as_ref()?.devices;
        devices.iter().find(|(name, ..)| *name == device).map(|(_, reads, writes)| (*reads, *writes))
    }

    fn show_last(&self) {
        eprintln!("vioduct: the guest's console, as far as it came:");
        self.last.iter().for_each(|line| eprintln!("  | {line}"));
    }
}

fn say_received(received: &Receiver<String>, out: &mut Transcript) {
    for request in received.try_iter() {
        out.say(format!("device received {request}"));
    }
}
