//! The tunnel in a rig, and functions that tell what reaches them.

use crate::protocol::{COMMAND_QUEUE, Header, INTERRUPT_LEN, INTERRUPT_QUEUE, op};
use crate::{PciDev, Tunnel};
use std::sync::{Arc, Mutex};
use vioduct_pci::{
    BarSpec, BusMaster, DmaFunction, FunctionHost, FunctionSpec, InterruptPin, Interrupts, Level, MsixSpec,
    PciFunction,
};
use vioduct_virtio_device::rig::{Reply, Rig};
use vioduct_virtio_device::{Features, Inline};
use vioduct_virtqueue::Memory;

/// Length of BAR 0: more than one piece.
pub(crate) const BAR_LEN: usize = 16 << 10;
/// The BAR of the MSI-X structures.
pub(crate) const MSIX_BAR: u8 = 1;
pub(crate) const VECTORS: u16 = 3;
/// Offset of the MSI-X capability, the only one there is.
pub(crate) const MSIX_CAP: u64 = 0x40;

/// What reached a [`Probe`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    Read(u64, usize),
    Write(u64, usize),
    Reset,
    BusMaster(BusMaster),
    Pause,
    Memory,
    Resume,
}

pub(crate) type Events = Arc<Mutex<Vec<Event>>>;

/// A function whose BAR is memory, with MSI-X and a pin that tests raise by [`Bench::interrupts`].
pub(crate) struct Probe {
    bar: Vec<u8>,
    events: Events,
    memory: Arc<Mutex<Option<Arc<dyn Memory>>>>,
    interrupts: Arc<Mutex<Option<Interrupts>>>,
}

impl PciFunction for Probe {
    fn spec(&self) -> FunctionSpec {
        FunctionSpec::new(0x1234, 1, 0xff_0000)
            .with_interrupt_pin(InterruptPin::B)
            .with_bar(BarSpec::memory32(0, BAR_LEN as u64))
            .with_bar(BarSpec::memory32(MSIX_BAR, 4096))
            .with_msix(MsixSpec::in_bar(VECTORS, MSIX_BAR, 0))
    }
    fn attach(&mut self, host: FunctionHost) {
        *self.interrupts.lock().unwrap() = Some(host.interrupts().clone());
    }
    fn bar_read(&mut self, _bar: u8, offset: u64, out: &mut [u8]) {
        self.events.lock().unwrap().push(Event::Read(offset, out.len()));
        out.copy_from_slice(&self.bar[offset as usize..][..out.len()]);
    }
    fn bar_write(&mut self, _bar: u8, offset: u64, data: &[u8]) {
        self.events.lock().unwrap().push(Event::Write(offset, data.len()));
        self.bar[offset as usize..][..data.len()].copy_from_slice(data);
    }
    fn reset(&mut self) {
        self.events.lock().unwrap().push(Event::Reset);
        self.bar.fill(0);
    }
    fn bus_master_changed(&mut self, to: BusMaster) {
        self.events.lock().unwrap().push(Event::BusMaster(to));
    }
}

impl DmaFunction for Probe {
    fn pause(&mut self) {
        self.events.lock().unwrap().push(Event::Pause);
    }
    fn replace_memory(&mut self, memory: Arc<dyn Memory>) {
        self.events.lock().unwrap().push(Event::Memory);
        *self.memory.lock().unwrap() = Some(memory);
    }
    fn resume(&mut self) {
        self.events.lock().unwrap().push(Event::Resume);
    }
}

/// A tunnel with a driver end.
pub(crate) struct Bench {
    pub(crate) rig: Rig<Tunnel<Inline<PciDev>>>,
    events: Events,
    pub(crate) memory: Arc<Mutex<Option<Arc<dyn Memory>>>>,
    interrupts: Interrupts,
}

impl Bench {
    /// A [`Probe`] whose driver is ready, with either ring.
    pub(crate) fn new(features: Features) -> Self {
        let bench = Self::with(|tunnel| Rig::new(tunnel, features).unwrap());
        bench.take_events();
        bench
    }

    pub(crate) fn in_reset() -> Self {
        Self::with(|tunnel| Rig::in_reset(tunnel).unwrap())
    }

    fn with(rig: impl FnOnce(Tunnel<Inline<PciDev>>) -> Rig<Tunnel<Inline<PciDev>>>) -> Self {
        let (events, memory, interrupts) = (Events::default(), Arc::default(), Arc::<Mutex<_>>::default());
        let probe = Probe {
            bar: vec![0; BAR_LEN],
            events: events.clone(),
            memory: Arc::clone(&memory),
            interrupts: interrupts.clone(),
        };
        let rig = rig(Tunnel::new(PciDev::new(probe).unwrap(), Inline::new));
        let interrupts = interrupts.lock().unwrap().clone().unwrap();
        Self { rig, events, memory, interrupts }
    }

    pub(crate) fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap())
    }

    pub(crate) fn run(&mut self) {
        self.rig.endpoint.backend_mut().runner_mut().run(1000);
    }

    /// One buffer of the command queue, as it is.
    pub(crate) fn raw(&mut self, readable: &[&[u8]], writable: &[u32]) -> Reply {
        self.rig.submit(COMMAND_QUEUE, readable, writable).unwrap();
        let _ = self.rig.kick(COMMAND_QUEUE).unwrap();
        self.run();
        self.rig.take(COMMAND_QUEUE).unwrap().expect("the command is answered")
    }

    /// A whole reading command; the reply is as long as it should be.
    fn read(&mut self, op: u8, bar: u8, addr: u64, len: u32) -> Vec<u8> {
        let reply = self.raw(&[&Header { op, bar, size: len, addr }.encode()], &[len]);
        assert_eq!(reply.written, len);
        reply.bytes
    }

    fn write(&mut self, op: u8, bar: u8, addr: u64, size: u32, data: &[u8]) {
        let message = [&Header { op, bar, size, addr }.encode()[..], data].concat();
        assert_eq!(self.raw(&[&message], &[]).written, 0);
    }

    pub(crate) fn config_read(&mut self, offset: u64, len: u32) -> u64 {
        number(&self.read(op::CONFIG_READ, 0, offset, len))
    }

    /// As Linux sends it: eight bytes of data whatever the size.
    pub(crate) fn config_write(&mut self, offset: u64, size: u32, value: u64) {
        self.write(op::CONFIG_WRITE, 0, offset, size, &value.to_le_bytes());
    }

    pub(crate) fn bar_read(&mut self, bar: u8, offset: u64, len: u32) -> Vec<u8> {
        self.read(op::BAR_READ, bar, offset, len)
    }

    pub(crate) fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) {
        self.write(op::BAR_WRITE, bar, offset, data.len() as u32, data);
    }

    pub(crate) fn bar_fill(&mut self, bar: u8, offset: u64, size: u32, byte: u8) {
        self.write(op::BAR_FILL, bar, offset, size, &[byte]);
    }

    /// Programs a vector by its table entry, unmasked, and turns MSI-X on.
    pub(crate) fn program(&mut self, vector: u64, address: u64, data: u32) {
        self.bar_write(MSIX_BAR, 16 * vector, &address.to_le_bytes());
        self.bar_write(MSIX_BAR, 16 * vector + 8, &data.to_le_bytes());
        self.mask(vector, 0);
        self.config_write(MSIX_CAP + 2, 2, 0x8000);
    }

    pub(crate) fn mask(&mut self, vector: u64, mask: u32) {
        self.bar_write(MSIX_BAR, 16 * vector + 12, &mask.to_le_bytes());
    }

    pub(crate) fn raise(&mut self, vector: u16) {
        self.interrupts.msix(vector);
        self.run();
    }

    pub(crate) fn pin(&mut self, level: Level) {
        self.interrupts.intx(level);
        self.run();
    }

    /// Makes `count` buffers available for interrupts.
    pub(crate) fn offer(&mut self, count: usize) {
        self.offer_of(count, INTERRUPT_LEN as u32);
    }

    pub(crate) fn offer_of(&mut self, count: usize, len: u32) {
        for _ in 0..count {
            self.rig.submit(INTERRUPT_QUEUE, &[], &[len]).unwrap();
        }
        let _ = self.rig.kick(INTERRUPT_QUEUE).unwrap();
        self.run();
    }

    /// The messages that have come: header, and data.
    pub(crate) fn interrupts(&mut self) -> Vec<(Header, Vec<u8>)> {
        let replies = std::iter::from_fn(|| self.rig.take(INTERRUPT_QUEUE).unwrap());
        let used = replies.map(|reply| reply.bytes[..reply.written as usize].to_vec());
        let parse = |bytes: Vec<u8>| (Header::decode(*bytes.first_chunk().unwrap()), bytes[16..].to_vec());
        used.filter(|bytes| !bytes.is_empty()).map(parse).collect()
    }
}

pub(crate) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The message of a vector.
pub(crate) fn msi(address: u64, data: u32) -> (Header, Vec<u8>) {
    (Header { op: op::MSI, bar: 0, size: 4, addr: address }, data.to_le_bytes().to_vec())
}

/// Every ring.
pub(crate) const RINGS: [Features; 2] = [Features::NONE, Features::RING_PACKED];
