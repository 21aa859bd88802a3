//! [`Workers`]: a device served by a thread per handler.

use crate::backend::{Backend, BackendError, EventFd, Host, QueueSetup, Signal};
use crate::counters::{Meter, QueueStats};
use crate::handler::Budget;
use crate::model::{DeviceInfo, DeviceModel};
use crate::serving::Serving;
use crate::worker::Worker;
use std::fs;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use vioduct_spec::Features;
use vioduct_virtqueue::QueuePosition;

/// How the threads of a device behave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkerPolicy {
    /// Whether to look for buffers for a while before sleeping: a sleep and a wake cost microseconds on both sides.
    pub busy_poll: BusyPoll,
    /// Processors to bind the threads to, one each, going round; none: the scheduler decides.
    pub cpus: Vec<usize>,
    /// What one wake may take on.
    pub budget: Budget,
    /// How long stopping a queue waits for the buffers that the device holds.
    pub drain_limit: Duration,
}

impl Default for WorkerPolicy {
    /// The default polling, no binding, the default budget, 5 s to drain.
    fn default() -> Self {
        Self {
            busy_poll: BusyPoll::default(),
            cpus: Vec::new(),
            budget: Budget::default(),
            drain_limit: Duration::from_secs(5),
        }
    }
}

/// How long a thread looks for buffers before it sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BusyPoll {
    /// Not at all.
    Off,
    /// This long, always.
    Fixed(Duration),
    /// At most this long: longer after sleeps that polling would have avoided, not at all while the queue is quiet.
    Adaptive(Duration),
}

impl Default for BusyPoll {
    /// Adaptive for up to 50 µs. Off on a host with one processor: while a device looks for buffers there, nobody can make any.
    fn default() -> Self {
        // Read once: a thread that polls may have no files any more.
        static DEFAULT: LazyLock<BusyPoll> = LazyLock::new(|| {
            BusyPoll::with_online(&fs::read_to_string(ONLINE_PROCESSORS).unwrap_or_default())
        });
        *DEFAULT
    }
}

/// The processors of the host, whichever of them this process may use: the driver may have others.
const ONLINE_PROCESSORS: &str = "/sys/devices/system/cpu/online";

impl BusyPoll {
    /// By Linux's list of processors: `0`, or `0-2,5`; several if there is none.
    fn with_online(list: &str) -> Self {
        match list.trim().parse::<u32>() {
            Ok(_only) => Self::Off,
            Err(_) => Self::Adaptive(Duration::from_micros(50)),
        }
    }
}

/// Serves a [`DeviceModel`] with a thread for each of its handlers, woken by eventfds.
pub struct Workers<M> {
    serving: Serving<M>,
    policy: WorkerPolicy,
    workers: Vec<Worker>,
    /// The kick of each queue that is running.
    kicks: Vec<Option<Arc<EventFd>>>,
}

impl<M: DeviceModel> Workers<M> {
    /// A device with the default policy.
    pub fn new(model: M) -> Self {
        Self::with_policy(model, WorkerPolicy::default())
    }

    /// A device whose threads behave as told.
    pub fn with_policy(model: M, policy: WorkerPolicy) -> Self {
        let serving = Serving::new(model);
        let kicks = serving.info.queue_sizes.iter().map(|_| None).collect();
        Self { serving, policy, workers: Vec::new(), kicks }
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

    /// The model, for what it offers beside [`DeviceModel`].
    pub fn model(&self) -> &M {
        &self.serving.model
    }

    /// What queue `q` has done.
    pub fn stats(&self, q: u16) -> Option<QueueStats> {
        self.serving.stats(q)
    }

    /// What reads [`stats`](Self::stats) after this has been given away.
    pub fn meter(&self) -> Meter {
        self.serving.meter()
    }

    fn worker(&self, q: u16) -> Option<&Worker> {
        self.workers.iter().find(|worker| worker.serves(q))
    }

    fn stop_all(&mut self) -> Result<(), BackendError> {
        (0..self.kicks.len() as u16).try_for_each(|q| self.stop_queue(q).map(drop))
    }
}

impl<M: DeviceModel> Backend for Workers<M> {
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
        self.workers.clear();
        for (number, lane) in self.serving.negotiate(negotiated, self.policy.budget)?.into_iter().enumerate()
        {
            self.workers.push(Worker::spawn(lane, self.serving.info.name, number, &self.policy)?);
        }
        Ok(())
    }

    fn start_queue(&mut self, q: u16, setup: QueueSetup) -> Result<(), BackendError> {
        let queue = self.serving.bind(q, &setup)?;
        let worker = self.worker(q).ok_or(BackendError::NotServed { queue: q })?;
        if self.kicks.get(usize::from(q)).is_some_and(Option::is_some) {
            return Err(BackendError::Running { queue: q });
        }
        let kick = match setup.kick {
            Some(kick) => kick,
            None => {
                let action = "create an eventfd (raise the limit of open files)";
                Arc::new(EventFd::new().map_err(|source| BackendError::System { action, source })?)
            }
        };
        worker.start(q, queue, setup.call, kick.clone())?;
        if let Some(place) = self.kicks.get_mut(usize::from(q)) {
            *place = Some(kick);
        }
        Ok(())
    }

    fn stop_queue(&mut self, q: u16) -> Result<Option<QueuePosition>, BackendError> {
        let running = self.kicks.get(usize::from(q)).is_some_and(Option::is_some);
        let Some(worker) = self.worker(q).filter(|_| running) else { return Ok(None) };
        let position = worker.stop(q)?;
        if let Some(place) = self.kicks.get_mut(usize::from(q)) {
            *place = None;
        }
        Ok(position)
    }

    fn kick(&mut self, q: u16) {
        if let Some(Some(kick)) = self.kicks.get(usize::from(q)) {
            kick.signal();
        }
    }

    fn reset(&mut self) -> Result<(), BackendError> {
        self.stop_all()?;
        self.workers.clear();
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

    #[test]
    fn a_host_with_one_processor_has_no_polling() {
        let adaptive = BusyPoll::Adaptive(Duration::from_micros(50));
        for (list, policy) in [
            ("0\n", BusyPoll::Off),
            ("3", BusyPoll::Off),
            ("0-1\n", adaptive),
            ("0,2", adaptive),
            ("", adaptive),
        ] {
            assert_eq!(BusyPoll::with_online(list), policy, "{list:?}");
        }
        let here = std::fs::read_to_string(ONLINE_PROCESSORS).unwrap_or_default();
        assert_eq!(WorkerPolicy::default().busy_poll, BusyPoll::with_online(&here));
    }
}
