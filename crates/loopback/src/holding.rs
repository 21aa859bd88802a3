//! [`Holding`]: a device that keeps what it takes until it is told, and gives it back in the order it is told.

use std::sync::{Arc, Mutex};

use vioduct_virtio_device::{
    Chain, DeviceInfo, DeviceModel, EventFd, Fault, Features, Handlers, Interest, Io, QueueHandler, Signal,
    SourceId, Wake,
};

use crate::place::lock;

/// In which order a device completes what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// As it came.
    Forward,
    /// Last come, first served.
    Backward,
}

/// What a [`Holding`] device is told by.
#[derive(Clone)]
pub struct Release {
    orders: Arc<Mutex<Vec<(usize, Order)>>>,
    bell: Arc<EventFd>,
}

impl Release {
    /// Has the device complete up to `count` chains of those it holds, in this order, when it is stepped next.
    pub fn complete(&self, count: usize, order: Order) {
        lock(&self.orders).push((count, order));
        self.bell.signal();
    }
}

/// A device with one queue whose requests take as long as a test likes. A chain's writable part is filled with the chain's
/// turn, counted from 1.
pub struct Holding {
    release: Release,
    queue_size: u16,
}

impl Holding {
    /// The device type that it claims to have: no driver looks for it.
    pub const DEVICE_TYPE: u32 = 62;

    /// A device whose queue has up to `queue_size` descriptors, and what it is told by.
    ///
    /// # Errors
    /// If there is no file descriptor left.
    pub fn new(queue_size: u16) -> std::io::Result<(Self, Release)> {
        let release = Release { orders: Arc::default(), bell: Arc::new(EventFd::new()?) };
        Ok((Self { release: release.clone(), queue_size }, release))
    }
}

impl DeviceModel for Holding {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::new(Self::DEVICE_TYPE, "holding", vec![self.queue_size])
    }

    fn handlers(&mut self, _negotiated: Features) -> Handlers {
        vec![(0..1, Box::new(Holder { release: self.release.clone(), held: Vec::new(), turn: 0 }))]
    }
}

struct Holder {
    release: Release,
    held: Vec<Chain>,
    turn: u8,
}

impl Holder {
    const QUEUE: u16 = 0;
    const BELL: SourceId = SourceId(0);

    fn take(&mut self, io: &mut Io<'_>) -> Result<(), Fault> {
        while let Some(chain) = io.pop(Self::QUEUE)? {
            self.turn = self.turn.wrapping_add(1);
            // A chain that cannot be written to is held like any other.
            let _ = chain.writer().write_all(&vec![self.turn; chain.writable_len().min(4096) as usize]);
            self.held.push(chain);
        }
        Ok(())
    }

    fn complete(&mut self, io: &mut Io<'_>, count: usize, order: Order) -> Result<(), Fault> {
        for _ in 0..count.min(self.held.len()) {
            let chain = match order {
                Order::Forward => self.held.remove(0),
                Order::Backward => self.held.remove(self.held.len() - 1),
            };
            let written = chain.writable_len().min(4096) as u32;
            io.complete(Self::QUEUE, chain, written)?;
        }
        Ok(())
    }
}

impl QueueHandler for Holder {
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        match why {
            Wake::Started(_) => io
                .watch(&*self.release.bell, Self::BELL, Interest::Readable)
                .map_err(|error| Fault::Device(format!("no bell: {error}").into())),
            Wake::Kick(_) => self.take(io),
            Wake::Source(_) => {
                let _ = self.release.bell.take();
                let orders = std::mem::take(&mut *lock(&self.release.orders));
                orders.into_iter().try_for_each(|(count, order)| self.complete(io, count, order))
            }
            Wake::Stopping(_) => {
                let outcome = self.complete(io, usize::MAX, Order::Forward);
                // It was watched since the start.
                let _ = io.unwatch(&*self.release.bell);
                outcome
            }
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.held.drain(..).for_each(Chain::discard);
    }
}
