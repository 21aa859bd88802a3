//! [`Inline`]: a device served in the caller's thread, one step at a time: for tests, fuzzers, and machines with one thread.

use crate::backend::{Backend, BackendError, Host, QueueSetup};
use crate::counters::QueueStats;
use crate::handler::Budget;
use crate::lane::{Lane, Turn};
use crate::model::{DeviceInfo, DeviceModel};
use crate::serving::Serving;
use std::time::Duration;
use vioduct_spec::Features;
use vioduct_virtqueue::QueuePosition;

/// Serves a [`DeviceModel`] without threads, deterministically: nothing happens but in [`step`](Self::step).
pub struct Inline<M> {
    serving: Serving<M>,
    lanes: Vec<Lane>,
    budget: Budget,
    drive: Drive,
    next: usize,
}

/// What a kick does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Drive {
    ByStep,
    ByKick,
}

/// What a step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Step {
    /// One handler was woken once.
    Worked,
    /// There was nothing to do. Notifications have been asked for.
    Idle,
}

impl<M: DeviceModel> Inline<M> {
    /// Steps that one kick of an [`auto`](Self::auto) device may take, so that no driver keeps the caller for ever. What is left
    /// waits for the next kick.
    const AUTO_STEPS: usize = 1024;
    /// How long [`stop_queue`](Backend::stop_queue) waits for buffers.
    const DRAIN_LIMIT: Duration = Duration::from_secs(5);

    /// A device that works when it is stepped.
    pub fn new(model: M) -> Self {
        Self {
            serving: Serving::new(model),
            lanes: Vec::new(),
            budget: Budget::default(),
            drive: Drive::ByStep,
            next: 0,
        }
    }

    /// A device that works in [`kick`](Backend::kick) and [`start_queue`](Backend::start_queue), until it has nothing left to do.
    /// Event sources that become ready at other times wait for a step.
    pub fn auto(model: M) -> Self {
        Self { drive: Drive::ByKick, ..Self::new(model) }
    }

    /// Offers no features but these.
    #[must_use]
    pub fn offering(mut self, allowed: Features) -> Self {
        self.serving.mask(allowed);
        self
    }

    /// Offers `ACCESS_PLATFORM`, too (virtio 1.3 §6): the driver is to use the addresses that its platform has for the device, which are
    /// those of the memory that this is [connected](Backend::connect) to.
    #[must_use]
    pub fn with_access_platform(mut self) -> Self {
        self.serving.offer_access_platform();
        self
    }

    /// Lets a wake take on this much; effective from the next negotiation.
    #[must_use]
    pub fn with_budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// Wakes at most one handler once.
    pub fn step(&mut self) -> Step {
        if self.turn() == Turn::Worked {
            return Step::Worked;
        }
        for lane in &mut self.lanes {
            lane.collect(Some(Duration::ZERO));
            lane.settle();
        }
        match self.turn() {
            Turn::Worked => Step::Worked,
            Turn::Idle => Step::Idle,
        }
    }

    /// Steps until there is nothing to do, at most `limit` times; how many steps worked.
    pub fn run(&mut self, limit: usize) -> usize {
        (0..limit).take_while(|_| self.step() == Step::Worked).count()
    }

    /// The model, for what it offers beside [`DeviceModel`].
    pub fn model(&self) -> &M {
        &self.serving.model
    }

    /// The model, for what it offers beside [`DeviceModel`].
    pub fn model_mut(&mut self) -> &mut M {
        &mut self.serving.model
    }

    /// What queue `q` has done.
    pub fn stats(&self, q: u16) -> Option<QueueStats> {
        self.serving.stats(q)
    }

    /// One wake of one lane, each lane in its turn.
    fn turn(&mut self) -> Turn {
        let count = self.lanes.len();
        for _ in 0..count {
            let place = self.next % count;
            self.next = place + 1;
            if self.lanes.get_mut(place).is_some_and(|lane| lane.turn() == Turn::Worked) {
                return Turn::Worked;
            }
        }
        Turn::Idle
    }

    fn lane(&mut self, q: u16) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.serves(q))
    }

    fn drive(&mut self) {
        if self.drive == Drive::ByKick {
            self.run(Self::AUTO_STEPS);
        }
    }

    fn stop_all(&mut self) -> Result<(), BackendError> {
        (0..self.serving.info.queue_sizes.len() as u16).try_for_each(|q| self.stop_queue(q).map(drop))
    }
}

impl<M: DeviceModel> Backend for Inline<M> {
    fn info(&self) -> &DeviceInfo {
        &self.serving.info
    }

    fn features(&self) -> Features {
        self.serving.features()
    }

    fn read_config(&self, offset: usize, out: &mut [u8]) {
        self.serving.model.read_config(offset, out);
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        self.serving.model.write_config(offset, data);
    }

    fn connect(&mut self, host: Host) {
        self.serving.connect(host);
    }

    fn set_features(&mut self, negotiated: Features) -> Result<(), BackendError> {
        self.stop_all()?;
        self.lanes.clear();
        self.lanes = self.serving.negotiate(negotiated, self.budget)?;
        Ok(())
    }

    fn start_queue(&mut self, q: u16, setup: QueueSetup) -> Result<(), BackendError> {
        let queue = self.serving.bind(q, &setup)?;
        let lane = self.lane(q).ok_or(BackendError::NotServed { queue: q })?;
        if lane.is_running(q) {
            return Err(BackendError::Running { queue: q });
        }
        let action = "wait for the kick eventfd";
        lane.start(q, queue, setup.call, setup.kick)
            .map_err(|source| BackendError::System { action, source })?;
        self.drive();
        Ok(())
    }

    fn stop_queue(&mut self, q: u16) -> Result<Option<QueuePosition>, BackendError> {
        match self.lane(q) {
            Some(lane) => lane.stop(q, Self::DRAIN_LIMIT),
            None => Ok(None),
        }
    }

    fn kick(&mut self, q: u16) {
        if let Some(lane) = self.lane(q) {
            lane.kick(q);
        }
        self.drive();
    }

    fn reset(&mut self) -> Result<(), BackendError> {
        self.stop_all()?;
        self.lanes.clear();
        self.serving.reset();
        Ok(())
    }

    fn save_state(&mut self) -> Result<Vec<u8>, BackendError> {
        Ok(self.serving.model.save())
    }

    fn restore_state(&mut self, state: &[u8]) -> Result<(), BackendError> {
        Ok(self.serving.model.restore(state)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Handlers, StateError};

    struct Stateless;

    impl DeviceModel for Stateless {
        fn info(&self) -> DeviceInfo {
            DeviceInfo::new(63, "stateless", Vec::new())
        }
        fn handlers(&mut self, _negotiated: Features) -> Handlers {
            Vec::new()
        }
    }

    struct Stateful(u8);

    impl DeviceModel for Stateful {
        fn info(&self) -> DeviceInfo {
            DeviceInfo::new(63, "stateful", Vec::new())
        }
        fn handlers(&mut self, _negotiated: Features) -> Handlers {
            Vec::new()
        }
        fn save(&self) -> Vec<u8> {
            vec![self.0]
        }
        fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
            let [value] = state else { return Err(StateError("one byte is expected".into())) };
            self.0 = *value;
            Ok(())
        }
    }

    #[test]
    fn a_device_goes_on_from_the_state_of_another() {
        let mut from: Inline<Box<dyn DeviceModel>> = Inline::new(Box::new(Stateful(7)));
        let mut to = Inline::new(Stateful(0));
        to.restore_state(&from.save_state().unwrap()).unwrap();
        assert_eq!(to.model().0, 7);
        let error = to.restore_state(&[1, 2]).unwrap_err().to_string();
        assert_eq!(error, "the saved state does not suit the device: one byte is expected");
    }

    #[test]
    fn a_device_without_state_takes_none() {
        let mut device = Inline::new(Stateless);
        assert_eq!(device.save_state().unwrap(), []);
        assert!(device.restore_state(&[]).is_ok() && device.restore_state(&[0]).is_err());
    }
}
