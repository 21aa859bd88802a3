//! A guest's memory is copied while vhost in the kernel writes to it, with nothing but the memory's log to say what has changed: in the end
//! the copy must be the memory, byte for byte. A live hand-over rests on that.
//!
//! There is no guest. This program has the memory and the drivers' ends of the queues; the packets come by an interface of its own, in the
//! network 198.18.60.0/24 (RFC 2544). It needs root, `ip`, `/dev/vhost-net`, and `/dev/vhost-demo`:
//!
//! `cargo run -p vioduct-vhost-kernel --example dirty_log`

use std::collections::BTreeSet;
use std::error::Error;
use std::net::UdpSocket;
use std::ops::Range;
use std::process::Command;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use vioduct_net::Net;
use vioduct_spec::net::MRG_RXBUF;
use vioduct_spec::{Features, Status, demo};
use vioduct_vhost_kernel::{Framing, KernelBackend, Kind, Service};
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::memory::LOG_PAGE_LEN;
use vioduct_virtio_device::rig::Rig;
use vioduct_virtio_device::{DeviceModel, Inline, MemoryMap, Options};
use vioduct_virtqueue::{IoAddr, Memory};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type Device<M> = Rig<KernelBackend<Inline<M>>>;

/// How many buffers are available in each queue when the kernel gets it.
const BUFFERS: u16 = 256;
/// How often packets come, and the copy is brought up to date behind them.
const ROUNDS: u8 = 8;
const PACKETS_PER_ROUND: u8 = 10;
const PACKET_LEN: usize = 1400;
/// virtio 1.3 §5.1.6: in front of each packet.
const HEADER_LEN: usize = 12;
const HOST: &str = "198.18.60.1";
/// Nobody needs to be asked for an address.
const EVERYBODY: &str = "198.18.60.255:9";
const PATIENCE: Duration = Duration::from_secs(20);
/// virtio 1.3 §2.7.8: in the device area the index follows the flags.
const USED_INDEX: u64 = 2;

fn main() -> Outcome {
    // Of translated addresses the kernel keeps another account.
    for translated in [Features::NONE, Features::ACCESS_PLATFORM] {
        for merged in [Features::NONE, MRG_RXBUF] {
            for notified in [Features::NONE, Features::EVENT_IDX] {
                packets(translated | merged | notified)?;
            }
        }
    }
    requests(Features::NONE)?;
    requests(Features::EVENT_IDX)
}

/// vhost-net: the kernel receives and sends.
fn packets(features: Features) -> Outcome {
    let (net, tap) = Net::with_tap(&Options::parse("net,tap=auto")?)?;
    let tap = tap.ok_or("the card has no interface")?;
    let host = host_of(tap.name())?;
    let kind = Kind::Net { taps: tap.lend()?, framing: Framing::Header };
    let mut card = paused(net, kind, 0..2, features)?;
    // Where they are merged, a packet takes three of these buffers.
    let (piece, per_packet) = if features.contains(MRG_RXBUF) { (256, 3) } else { (1024, 1) };
    for _ in 0..BUFFERS {
        card.submit(0, &[], &[piece, piece])?;
        card.submit(1, &[&[0; HEADER_LEN], &[0xff; PACKET_LEN]], &[])?;
    }
    // The kernel looks at queues that it gets.
    let _ = (card.queue(0)?.kick_prepare(), card.queue(1)?.kick_prepare());
    let expected = u16::from(ROUNDS) * u16::from(PACKETS_PER_ROUND) * per_packet;
    let mut copy = Copy::of(card)?;
    for round in 0..ROUNDS {
        for number in 0..PACKETS_PER_ROUND {
            host.send_to(&[round * PACKETS_PER_ROUND + number + 1; PACKET_LEN], EVERYBODY)?;
        }
        copy.catch_up()?;
    }
    copy.wait_for_used(0, expected)?;
    copy.wait_for_used(1, BUFFERS)?;
    copy.finish(&format!("vhost-net, {features}"))
}

/// vhost-demo: the kernel answers requests.
fn requests(features: Features) -> Outcome {
    let mut device = paused(VirtioDemo::default(), Kind::Demo, 0..1, features)?;
    // Two descriptors each, of 128.
    const REQUESTS: u32 = 64;
    for operand in 0x1333..0x1333 + REQUESTS {
        let request = [demo::OP_WRITE.to_le_bytes(), operand.to_le_bytes()].concat();
        device.submit(0, &[&request], &[demo::HALF_LEN as u32])?;
    }
    // The kernel looks at a queue that it gets.
    let _ = device.queue(0)?.kick_prepare();
    let mut copy = Copy::of(device)?;
    copy.catch_up()?;
    copy.wait_for_used(0, REQUESTS as u16)?;
    copy.finish(&format!("vhost-demo, {features}"))
}

/// A device whose first queues the kernel has served for a moment, as a guest's would be when its hand-over begins.
fn paused<M: DeviceModel>(
    model: M,
    kind: Kind,
    queues: Range<u16>,
    features: Features,
) -> Outcome<Device<M>> {
    let nothing = Arc::new(MemoryMap::anonymous(LOG_PAGE_LEN)?);
    let backend =
        KernelBackend::of_the_kernels_alone(Inline::new(model).with_access_platform(), kind, nothing)?;
    let mut device = Rig::in_reset(backend)?;
    let memory = device.memory.clone();
    device.endpoint.backend_mut().share(memory);
    device.negotiate(features)?;
    for q in queues {
        device.enable_queue(q)?;
    }
    device.write_status(Status::DRIVER_OK)?;
    device.endpoint.pause();
    match device.endpoint.status().contains(Status::NEEDS_RESET) {
        true => Err("the device needs a reset".into()),
        false => Ok(device),
    }
}

/// Gives an interface the host's address, and has a socket there.
fn host_of(interface: &str) -> Outcome<UdpSocket> {
    let words = ["addr", "add", &format!("{HOST}/24"), "broadcast", "+", "dev", interface];
    if !Command::new("ip").args(words).status()?.success() {
        return Err("ip gives the interface no address".into());
    }
    let socket = UdpSocket::bind((HOST, 0))?;
    socket.set_broadcast(true)?;
    Ok(socket)
}

/// Memory as it would be elsewhere.
struct Copy<M: DeviceModel> {
    device: Device<M>,
    first: Vec<u8>,
    now: Vec<u8>,
    /// Pages that were in the log.
    logged: BTreeSet<u64>,
    /// How often one was.
    copied: usize,
}

impl<M: DeviceModel> Copy<M> {
    /// Copies all of the memory, has what is written from now on logged, and lets the kernel work. No driver writes any more: what a
    /// guest writes, KVM would log.
    fn of(mut device: Device<M>) -> Outcome<Self> {
        device.memory.start_log();
        let first = pages_of(&device.memory, 0, memory_len(&device.memory))?;
        device.endpoint.resume();
        Ok(Self { device, now: first.clone(), first, logged: BTreeSet::new(), copied: 0 })
    }

    /// Copies what the log says.
    fn catch_up(&mut self) -> Outcome {
        for IoAddr(at) in self.device.memory.take_dirty() {
            let page = pages_of(&self.device.memory, at, LOG_PAGE_LEN)?;
            self.now[at as usize..][..page.len()].copy_from_slice(&page);
            self.logged.insert(at);
            self.copied += 1;
        }
        Ok(())
    }

    /// Keeps the copy up to date until so many buffers of a queue are used.
    fn wait_for_used(&mut self, q: u16, count: u16) -> Outcome {
        let start = Instant::now();
        let at = IoAddr(self.device.queue(q)?.layout().device_area.0 + USED_INDEX);
        let mut index = [0; 2];
        while u16::from_le_bytes(index) < count {
            if start.elapsed() > PATIENCE {
                return Err(format!("queue {q}: {index:?} of {count} buffers are used").into());
            }
            sleep(Duration::from_millis(1));
            self.device.memory.read(at, &mut index)?;
            self.catch_up()?;
        }
        Ok(())
    }

    /// Stops the device, copies what is left, and compares.
    fn finish(mut self, what: &str) -> Outcome {
        self.device.endpoint.pause();
        self.catch_up()?;
        if self.device.endpoint.backend().service() != Service::Kernel {
            return Err(format!("{what}: the kernel has not served it").into());
        }
        let last = pages_of(&self.device.memory, 0, memory_len(&self.device.memory))?;
        let changed = difference(&self.first, &last);
        let missing = difference(&self.now, &last);
        if !missing.is_empty() {
            return Err(format!("{what}: written, and not in the log: {missing:#x?}").into());
        }
        if changed.is_empty() {
            return Err(format!("{what}: nothing was written").into());
        }
        let more = self.logged.difference(&changed).count();
        println!(
            "ok: {what}: all {} pages that were written are in the log, and {more} others; {} were copied",
            changed.len(),
            self.copied
        );
        Ok(())
    }
}

fn memory_len(memory: &MemoryMap) -> u64 {
    memory.regions().map(|(region, _)| region.len).sum()
}

/// Memory of a rig is one region from 0 on.
fn pages_of(memory: &MemoryMap, at: u64, len: u64) -> Outcome<Vec<u8>> {
    let mut bytes = vec![0; len as usize];
    memory.read(IoAddr(at), &mut bytes)?;
    Ok(bytes)
}

/// Addresses of the pages that differ.
fn difference(one: &[u8], other: &[u8]) -> BTreeSet<u64> {
    let pages = |bytes| <[u8]>::chunks(bytes, LOG_PAGE_LEN as usize);
    let both = (0..).step_by(LOG_PAGE_LEN as usize).zip(pages(one).zip(pages(other)));
    both.filter(|(_, (one, other))| one != other).map(|(at, _)| at).collect()
}
