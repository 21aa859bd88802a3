//! What every runner of a [`DeviceModel`] does alike: declare it, build its lanes, bind its queues.

use crate::backend::{BackendError, Host, QueueSetup};
use crate::counters::{Meter, QueueCounters, QueueStats};
use crate::handler::Budget;
use crate::lane::{Device, Lane, Slot};
use crate::model::{DeviceInfo, DeviceModel};
use std::sync::Arc;
use vioduct_spec::Features;
use vioduct_virtqueue::Queue;

pub(crate) struct Serving<M> {
    pub(crate) model: M,
    pub(crate) info: DeviceInfo,
    offered: Features,
    host: Option<Host>,
    negotiated: Option<Features>,
    counters: Vec<Arc<QueueCounters>>,
}

impl<M: DeviceModel> Serving<M> {
    /// The reserved features that any queue of ours implements, and those to which it has no objection.
    const RESERVED: Features = Features::RING
        .with(Features::RING_RESET)
        .with(Features::NOTIFICATION_DATA)
        .with(Features::NOTIF_CONFIG_DATA);

    pub(crate) fn new(model: M) -> Self {
        let info = model.info();
        let offered = info.features.without(Features::RESERVED) | Self::RESERVED;
        let counters = info.queue_sizes.iter().map(|_| Arc::default()).collect();
        Self { model, info, offered, host: None, negotiated: None, counters }
    }

    pub(crate) fn mask(&mut self, allowed: Features) {
        self.offered = self.offered & allowed;
    }

    /// Of no consequence here: the addresses that the platform gives drivers are those that the memory is known by.
    pub(crate) fn offer_access_platform(&mut self) {
        self.offered |= Features::ACCESS_PLATFORM;
    }

    pub(crate) fn features(&self) -> Features {
        self.offered
    }

    pub(crate) fn connect(&mut self, host: Host) {
        self.host = Some(host);
    }

    pub(crate) fn stats(&self, q: u16) -> Option<QueueStats> {
        self.counters.get(usize::from(q)).map(|counters| counters.read())
    }

    pub(crate) fn meter(&self) -> Meter {
        Meter::new(&self.counters)
    }

    /// The lanes of a device with these features, none of their queues running.
    pub(crate) fn negotiate(
        &mut self,
        negotiated: Features,
        budget: Budget,
    ) -> Result<Vec<Lane>, BackendError> {
        let extra = negotiated.without(self.offered);
        if !extra.is_empty() {
            return Err(BackendError::NotOffered(extra));
        }
        let host = self.host.as_ref().ok_or(BackendError::OutOfOrder { missing: "connect" })?;
        let device = Arc::new(Device::new(host.events.clone()));
        let mut claimed = vec![false; self.counters.len()];
        let mut lanes = Vec::new();
        for (queues, handler) in self.model.handlers(negotiated) {
            let mut slots = Vec::with_capacity(queues.len());
            for queue in queues.clone() {
                let place = usize::from(queue);
                let fresh = claimed.get_mut(place).is_some_and(|claimed| !std::mem::replace(claimed, true));
                let Some(counters) = self.counters.get(place).filter(|_| fresh) else {
                    return Err(BackendError::HandlerRanges { queue, count: self.counters.len() });
                };
                slots.push(Slot::new(counters.clone()));
            }
            lanes.push(Lane::new(queues.start, slots, handler, device.clone(), budget));
        }
        self.negotiated = Some(negotiated);
        Ok(lanes)
    }

    /// The device end of queue `q`.
    pub(crate) fn bind(&self, q: u16, setup: &QueueSetup) -> Result<Queue, BackendError> {
        let host = self.host.as_ref().ok_or(BackendError::OutOfOrder { missing: "connect" })?;
        let negotiated = self.negotiated.ok_or(BackendError::OutOfOrder { missing: "set_features" })?;
        let count = self.info.queue_sizes.len();
        if usize::from(q) >= count {
            return Err(BackendError::NoSuchQueue { queue: q, count });
        }
        let memory = host.memory.clone();
        let queue = match &setup.in_flight {
            None => Queue::new(memory, setup.layout, negotiated, setup.position),
            Some(area) => Queue::recorded(memory, setup.layout, negotiated, setup.position, area),
        };
        queue.map_err(|source| BackendError::Setup { queue: q, source })
    }

    /// The lanes have gone.
    pub(crate) fn reset(&mut self) {
        let Self { model, info: _, offered: _, host: _, negotiated, counters: _ } = self;
        *negotiated = None;
        model.reset();
    }
}
