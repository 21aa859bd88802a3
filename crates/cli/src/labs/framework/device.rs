//! The device of the tour: it keeps every buffer until it is told which to give back, so that each step can be looked at.

use std::mem;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vioduct_spec::{Features, device_type};
use vioduct_virtio_device::{
    DeviceInfo, DeviceModel, EventFd, Fault, Handlers, Interest, Io, QueueHandler, Signal, SourceId, Wake,
};
use vioduct_virtqueue::Chain;

/// Descriptors of the tour's ring: few enough to be shown whole.
pub(super) const QUEUE_SIZE: u16 = 8;
const ORDERS: SourceId = SourceId(0);

/// The device, as the tour commands it.
pub(super) struct TourDevice {
    shared: Arc<Shared>,
}

struct Shared {
    /// Ids of buffers to give back, in this order; taken when the device next runs.
    orders: Mutex<Vec<u16>>,
    /// Ids of the buffers that the device has, in the order in which it got them.
    held: Mutex<Vec<u16>>,
    ordered: EventFd,
}

impl TourDevice {
    /// A device that holds nothing.
    pub(super) fn new() -> std::io::Result<Self> {
        let ordered = EventFd::new()?;
        Ok(Self { shared: Arc::new(Shared { orders: Mutex::default(), held: Mutex::default(), ordered }) })
    }

    /// Tells the device to give back the buffers with these ids, in this order, the next time that it runs.
    pub(super) fn order(&self, ids: &[u16]) {
        lock(&self.shared.orders).extend_from_slice(ids);
        self.shared.ordered.signal();
    }

    /// Ids of the buffers that the device has.
    pub(super) fn held(&self) -> Vec<u16> {
        lock(&self.shared.held).clone()
    }
}

impl DeviceModel for TourDevice {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::new(device_type::DEMO, "framework-tour", vec![QUEUE_SIZE])
    }

    fn handlers(&mut self, _negotiated: Features) -> Handlers {
        let queues: Range<u16> = 0..1;
        vec![(queues, Box::new(TourHandler { shared: Arc::clone(&self.shared), chains: Vec::new() }))]
    }

    fn reset(&mut self) {
        lock(&self.shared.orders).clear();
        lock(&self.shared.held).clear();
    }
}

struct TourHandler {
    shared: Arc<Shared>,
    chains: Vec<Chain>,
}

impl TourHandler {
    fn take_all(&mut self, io: &mut Io<'_>) -> Result<(), Fault> {
        while let Some(chain) = io.pop(0)? {
            self.chains.push(chain);
        }
        Ok(())
    }

    /// Gives back what was ordered: each writable part is filled with the buffer's id.
    fn obey(&mut self, io: &mut Io<'_>) -> Result<(), Fault> {
        let _ = self.shared.ordered.take();
        for id in mem::take(&mut *lock(&self.shared.orders)) {
            let Some(place) = self.chains.iter().position(|chain| chain.id() == id) else { continue };
            let chain = self.chains.remove(place);
            let written = fill(&chain);
            io.complete(0, chain, written)?;
        }
        Ok(())
    }
}

/// Writes the chain's id into every byte of its writable part, and returns the part's length.
fn fill(chain: &Chain) -> u32 {
    let len = usize::try_from(chain.writable_len()).unwrap_or_default();
    let bytes = vec![chain.id() as u8; len];
    match chain.writer().write_all(&bytes) {
        Ok(()) => u32::try_from(len).unwrap_or_default(),
        Err(_) => 0,
    }
}

impl QueueHandler for TourHandler {
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        let outcome = match why {
            Wake::Started(_) => io
                .watch(&self.shared.ordered, ORDERS, Interest::Readable)
                .map_err(|error| Fault::Device(format!("cannot wait for orders: {error}").into())),
            Wake::Kick(_) => self.take_all(io),
            Wake::Source(_) => self.obey(io),
            // The tour resets with buffers in flight on purpose; the driver takes back what it finds unused.
            Wake::Stopping(_) => self.chains.drain(..).try_for_each(|chain| io.complete(0, chain, 0)),
        };
        *lock(&self.shared.held) = self.chains.iter().map(Chain::id).collect();
        outcome
    }
}

impl Drop for TourHandler {
    fn drop(&mut self) {
        self.chains.drain(..).for_each(Chain::discard);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
