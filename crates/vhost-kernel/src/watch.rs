//! [`Watcher`]: the thread that hears what the kernel says of queues beside what goes to the guest.

use crate::log::DirtyLog;
use crate::refusal::Refusal;
use crate::ring::Ring;
use rustix::event::{PollFd, PollFlags, poll};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use vioduct_virtio_device::{EventFd, HostEvents, MemoryMap, Signal};

/// It ends when this is dropped.
pub(crate) struct Watcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    heard: Mutex<Heard>,
    /// Says that there is something else to listen to.
    bell: EventFd,
    stop: AtomicBool,
}

#[derive(Default)]
struct Heard {
    events: Option<Arc<dyn HostEvents>>,
    ears: Vec<Ear>,
}

/// An event of the kernel's.
struct Ear {
    /// The queue that it is about.
    queue: u16,
    event: Arc<EventFd>,
    meaning: Meaning,
}

enum Meaning {
    /// Buffers are used, and the driver is to be told.
    Used(Arc<dyn Signal>),
    /// The queue is broken.
    Error(Health),
    /// Memory was written.
    Written(Arc<DirtyLog>, Arc<MemoryMap>),
}

/// Whether the kernel has reported an error of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Health {
    Good,
    Failed,
}

impl Ear {
    fn listen(&mut self, events: Option<&dyn HostEvents>) {
        if self.event.take() == 0 {
            return;
        }
        match &mut self.meaning {
            Meaning::Used(call) => call.signal(),
            Meaning::Written(log, ram) => log.collect(ram),
            Meaning::Error(health) => {
                *health = Health::Failed;
                if let Some(events) = events {
                    let queue = self.queue;
                    events.needs_reset(&format_args!("the kernel's vhost reports an error of queue {queue}"));
                }
            }
        }
    }
}

impl Watcher {
    pub(crate) fn spawn(device: &str) -> Result<Self, Refusal> {
        let bell = EventFd::new().map_err(Refusal::no_eventfd)?;
        let shared = Arc::new(Shared { heard: Mutex::default(), bell, stop: AtomicBool::new(false) });
        let watched = shared.clone();
        let thread = thread::Builder::new().name(format!("{device}-vhost")).spawn(move || {
            while !watched.stop.load(Ordering::Acquire) {
                watched.turn();
            }
        });
        let failed = |source| Refusal::System { action: "start a thread", source };
        Ok(Self { shared, thread: Some(thread.map_err(failed)?) })
    }

    /// Reports to these from now on.
    pub(crate) fn report_to(&self, events: Arc<dyn HostEvents>) {
        self.shared.heard().events = Some(events);
    }

    /// Listens to a queue's events, before the kernel has it.
    pub(crate) fn add(&self, queue: u16, ring: &Ring) {
        let mut heard = self.shared.heard();
        let error = Meaning::Error(Health::Good);
        heard.ears.push(Ear { queue, event: ring.error.clone(), meaning: error });
        if ring.call.eventfd().is_none() {
            let used = Meaning::Used(ring.call.clone());
            heard.ears.push(Ear { queue, event: ring.heard.clone(), meaning: used });
        }
        self.shared.bell.signal();
    }

    /// Listens to what is written for a queue, with whatever else shares its log.
    pub(crate) fn add_log(&self, queue: u16, log: Arc<DirtyLog>, ram: Arc<MemoryMap>) {
        let event = log.event.clone();
        self.shared.heard().ears.push(Ear { queue, event, meaning: Meaning::Written(log, ram) });
        self.shared.bell.signal();
    }

    /// Listens to a queue's events for the last time: after this its notification is not touched.
    pub(crate) fn remove(&self, queue: u16) -> Health {
        let mut heard = self.shared.heard();
        let Heard { events, ears } = &mut *heard;
        let mut health = Health::Good;
        for mut ear in ears.extract_if(.., |ear| ear.queue == queue) {
            ear.listen(events.as_deref());
            if let Meaning::Error(Health::Failed) = ear.meaning {
                health = Health::Failed;
            }
        }
        self.shared.bell.signal();
        health
    }
}

impl Shared {
    fn turn(&self) {
        let events: Vec<_> = self.heard().ears.iter().map(|ear| ear.event.clone()).collect();
        let mut fds = vec![PollFd::new(&self.bell, PollFlags::IN)];
        fds.extend(events.iter().map(|event| PollFd::new(&**event, PollFlags::IN)));
        // An interruption is a look more.
        let _ = poll(&mut fds, None);
        let _ = self.bell.take();
        let mut heard = self.heard();
        let Heard { events, ears } = &mut *heard;
        ears.iter_mut().for_each(|ear| ear.listen(events.as_deref()));
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.bell.signal();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported.
            let _ = thread.join();
        }
    }
}
