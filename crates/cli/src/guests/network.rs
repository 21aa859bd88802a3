//! `vhost-net`: three network cards in one guest, each with an interface of its own, and a data path of its own: this process, another
//! one, the host's kernel. Beside them the register that is a trap for every four bytes.

mod host;
mod servers;

use super::boot::Guest;
use super::console::NetworkCost;
use super::labs::{GuestLab, watch};
use super::machine::Machine;
use super::reading::Reading;
use super::served::{offer, workers};
use super::{KERNEL_WORDS, Kit, kvm};
use crate::Failure;
use crate::args::Ring;
use crate::host::usable_kvm;
use crate::labs::{Place, ServerProcess, Setup, failed};
use crate::report::{Carried, Check, Copies, Cost, Costs, Transcript};
use host::{Iperf, interface_of, set_up};
use servers::Servers;
use std::path::Path;
use vioduct_machine::{BootSources, Builder, Traps};
use vioduct_net::{COPIES_RECEIVED, COPIES_SENT, Net, Tap};
use vioduct_vhost_kernel::{Framing, KernelBackend, Kind};
use vioduct_vhost_user::{Frontend, Patience, SharedRegion};
use vioduct_virtio_device::{DeviceModel, Meter, Options};

pub(crate) use host::why_not;

/// The networks begin here: for measurements, and nobody else's (RFC 2544).
const FIRST_NETWORK: [u8; 3] = [198, 18, 0];
/// Bits of an access to the register of pci-demo.
const REGISTER_BITS: u64 = 32;

/// A card, by who serves its packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Card {
    Process,
    OtherProcess,
    Kernel,
}

impl Card {
    /// In the order of the guest's names for them: eth0 and so on.
    const ALL: [Self; 3] = [Self::Process, Self::OtherProcess, Self::Kernel];

    /// What the traps call it.
    const fn name(self) -> &'static str {
        match self {
            Self::Process => "net",
            Self::OtherProcess => "net of a server",
            Self::Kernel => "net of the kernel",
        }
    }

    const fn way(self) -> &'static str {
        match self {
            Self::Process => "virtio-net in the machine's process",
            Self::OtherProcess => "virtio-net in another process, over vhost-user",
            Self::Kernel => "virtio-net in the host's kernel, by vhost",
        }
    }

    /// How often processes of ours copy a packet that is sent, and one that is received.
    const fn copies(self) -> Copies {
        match self {
            Self::Process | Self::OtherProcess => Copies { sent: COPIES_SENT, received: COPIES_RECEIVED },
            Self::Kernel => Copies { sent: 0, received: 0 },
        }
    }
}

/// What must be there while the guest runs.
struct Attached {
    server: ServerProcess,
    /// What this process has served of the kernel's card.
    spare: Option<Meter>,
}

/// Boots the guest with the cards, and another one with the register.
pub(crate) fn run(setup: &Setup, place: &Place, out: &mut Transcript) -> Result<Costs, Failure> {
    usable_kvm()?;
    let kit = Kit::load()?;
    let counter = Machine::Kvm.host_instructions();
    let register = GuestLab::PciDemo.run_one_way(&kit, Machine::Kvm, setup, place, &counter, out)?;
    let mut ways = vec![of_register(register)];
    let room = tempfile::tempdir().map_err(failed("make a folder for sockets"))?;
    let _iperf = Iperf::start()?;
    let mut builder = kvm::machine()?;
    let cards = match setup.ring {
        Ring::Split => &Card::ALL[..],
        Ring::Packed => {
            out.say("the host's kernel does not serve it here: vhost has split rings alone");
            &[Card::Process, Card::OtherProcess]
        }
    };
    let attached = attach(&mut builder, setup, cards, room.path())?;
    let [a, b, c] = FIRST_NETWORK;
    let sources = BootSources {
        kernel: kit.network.kernel.clone(),
        initrd: Some(kit.network.initramfs.clone()),
        command_line: format!("{KERNEL_WORDS} vioduct.lab=network,{a}.{b}.{c},counted"),
    };
    let guest = Guest::start(Machine::Kvm.limit(), |console| {
        builder.boot(&sources, console).map_err(|error| Failure::Failed(error.to_string()))
    })?;
    out.say(format!(
        "boots Linux {} in our machine on KVM, with {} network cards",
        kit.release(),
        cards.len()
    ));
    let servers = Servers::of(&[std::process::id(), attached.server.id()]);
    let read = || Reading { server_ns: servers.time_ns(), host_instructions: counter.read() };
    let watched = watch(guest, place.ring, &read, out)?;
    watched.judge(out);
    if let Some(spare) = &attached.spare {
        let served: u64 = (0..2).filter_map(|q| spare.read(q)).map(|queue| queue.chains).sum();
        let what = format!("of the kernel's card the machine's process has served {served} packets");
        out.check(what, Check::equal(&served, &0));
    }
    for (number, card) in cards.iter().enumerate() {
        let name = format!("eth{number}");
        match watched.networks.iter().find(|network| network.card == name) {
            Some(network) => {
                ways.push(cost(*card, network, watched.each(Some(&name)), watched.traps.as_ref()));
            }
            None => out.check(format!("the guest says nothing of {}", card.way()), Check::Fails),
        }
    }
    counter.say_why_not(out);
    Ok(Costs { ways })
}

fn attach(builder: &mut Builder, setup: &Setup, cards: &[Card], room: &Path) -> Result<Attached, Failure> {
    let socket = room.join("net.sock");
    let server = ServerProcess::start("net,tap=auto", &socket)?;
    let mut spare = None;
    for (number, card) in (0..).zip(cards) {
        let interface = match card {
            Card::Process => {
                let (net, tap) = card_of_our_own()?;
                kvm::attach(builder, setup, card.name(), workers(Box::new(net), setup.ring))?;
                tap.name().to_owned()
            }
            Card::OtherProcess => {
                let regions = SharedRegion::all_of(builder.ram()).map_err(failed("share the memory"))?;
                let frontend = Frontend::connect(&socket, description()?, regions, Patience::default());
                let frontend = frontend.map_err(failed("attach the server's card"))?;
                kvm::attach(builder, setup, card.name(), frontend.offering(offer(setup.ring)))?;
                interface_of(server.id())?
            }
            Card::Kernel => {
                let (net, tap) = card_of_our_own()?;
                let taps = tap.lend().map_err(failed("lend the interface"))?;
                let inner = workers(Box::new(net), setup.ring);
                spare = Some(inner.meter());
                let kind = Kind::Net { taps, framing: Framing::Header };
                let kernel = KernelBackend::of_the_kernels_alone(inner, kind, builder.ram().clone());
                kvm::attach(
                    builder,
                    setup,
                    card.name(),
                    kernel.map_err(failed("have the kernel serve a card"))?,
                )?;
                tap.name().to_owned()
            }
        };
        let [a, b, c] = FIRST_NETWORK;
        set_up(&interface, [a, b, c + number])?;
    }
    Ok(Attached { server, spare })
}

fn card_of_our_own() -> Result<(Net, std::sync::Arc<Tap>), Failure> {
    let options = Options::parse("net,tap=auto").map_err(failed("describe the card"))?;
    let (net, tap) = Net::with_tap(&options).map_err(failed("make a card"))?;
    let tap = tap.ok_or_else(|| Failure::Failed("the card has no interface".to_owned()))?;
    Ok((net, tap))
}

/// A card that the server has; what it offers is the server's to say.
fn description() -> Result<vioduct_virtio_device::DeviceInfo, Failure> {
    let options = Options::parse("net,port=reflect").map_err(failed("describe the card"))?;
    Ok(Net::from_options(&options).map_err(failed("describe the card"))?.info())
}

fn cost(card: Card, network: &NetworkCost, each: Reading, traps: Option<&Traps>) -> Cost {
    let registers = traps.and_then(|traps| traps.devices.iter().find(|(name, ..)| *name == card.name()));
    Cost {
        way: card.way().to_owned(),
        operations: network.packets,
        batch: 1,
        register_reads: registers.map(|(_, reads, _)| *reads),
        register_writes: registers.map(|(.., writes)| *writes),
        doorbells: Some(network.kicks),
        interrupts: Some(network.interrupts),
        bytes_moved: network.bytes,
        copies: Some(card.copies()),
        median_ns: None,
        p99_ns: None,
        per_operation_ns: None,
        host_instructions_per_operation: each.host_instructions,
        carried: Some(Carried {
            to_host_kbits: Some(network.to_host_kbits),
            from_host_kbits: Some(network.from_host_kbits),
            ping_ns: Some(network.ping_ns),
            server_ns_per_packet: each.server_ns,
        }),
    }
}

/// What a network would have of registers: the process moves each word.
fn of_register(cost: Cost) -> Cost {
    let kbits = cost.per_operation_ns.and_then(|ns| (REGISTER_BITS * 1_000_000).checked_div(ns));
    let carried =
        Carried { to_host_kbits: kbits, from_host_kbits: None, ping_ns: None, server_ns_per_packet: None };
    Cost { way: "pci-demo: no packets, every 4 bytes trap".to_owned(), carried: Some(carried), ..cost }
}
