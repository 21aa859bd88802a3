//! [`Vsock`]: identity, configuration space and state (virtio 1.3 §5.10.3, §5.10.4).

use crate::handler::{Shared, Switchboard};
use crate::host::Listener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vioduct_spec::{device_type, vsock};
use vioduct_virtio_device::{DeviceInfo, DeviceModel, Features, Handlers, StateError};

/// What makes a [`Vsock`].
#[derive(Debug)]
pub struct Setup {
    /// The guest's context identifier, from [`vsock::FIRST_GUEST_CID`] to [`vsock::LAST_GUEST_CID`].
    pub cid: u32,
    /// Where host programs are. Without it there are none to be reached, and none reaches the guest: for whoever serves the
    /// receive and transmit queues in another way.
    pub listener: Option<Listener>,
}

/// A virtio socket device.
#[derive(Debug)]
pub struct Vsock {
    cid: u32,
    shared: Arc<Shared>,
}

impl Vsock {
    /// Largest size of the receive and transmit queues, in descriptors.
    pub const QUEUE_SIZE: u16 = 256;
    /// Largest size of the event queue, in descriptors.
    pub const EVENT_QUEUE_SIZE: u16 = 64;

    /// A device for the guest with this identifier.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let Setup { cid, listener } = setup;
        let (lost, dropped) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { cid, shared: Arc::new(Shared { listener, lost, dropped }) }
    }

    /// The guest's context identifier.
    #[must_use]
    pub fn cid(&self) -> u32 {
        self.cid
    }

    /// How many packets and buffers of the driver's did nothing so far, for they broke the rules.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl DeviceModel for Vsock {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            features: vsock::STREAM,
            config_len: vsock::CONFIG_LEN,
            ..DeviceInfo::new(
                device_type::VSOCK,
                "vsock",
                vec![Self::QUEUE_SIZE, Self::QUEUE_SIZE, Self::EVENT_QUEUE_SIZE],
            )
        }
    }

    /// virtio 1.3 §5.10.4: the guest's identifier, whose upper half is zeros.
    fn read_config(&self, offset: usize, out: &mut [u8]) {
        let config = u64::from(self.cid).to_le_bytes();
        out.iter_mut().zip(config.iter().skip(offset)).for_each(|(to, from)| *to = *from);
    }

    fn handlers(&mut self, _negotiated: Features) -> Handlers {
        vec![(0..vsock::QUEUES, Box::new(Switchboard::new(self.shared.clone(), self.cid)))]
    }

    /// A driver that starts over has no connections, and need not be told.
    fn reset(&mut self) {
        let Self { cid: _, shared } = self;
        shared.lost.store(false, Ordering::Release);
    }

    /// Connections are with programs of this host: none of them goes along, which the driver is told where it goes on.
    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        if !state.is_empty() {
            return Err(StateError("it has no state of its own".into()));
        }
        let Self { cid: _, shared } = self;
        shared.lost.store(true, Ordering::Release);
        Ok(())
    }
}
