//! [`Watcher`]: the thread that hears what the kernel says of queues beside what goes to the guest.

use crate::log::DirtyLog;
use crate::node::Vhost;
use crate::refusal::Refusal;
use crate::ring::Ring;
use crate::table;
use crate::translation::Message;
use rustix::event::{PollFd, PollFlags, poll};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use vioduct_virtio_device::{EventFd, HostEvents, MemoryMap, Signal};
use vioduct_virtqueue::IoAddr;

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

/// Something of the kernel's that is listened to.
struct Ear {
    /// The queue that it is about.
    queue: u16,
    source: Source,
    health: Health,
}

#[derive(Clone)]
enum Source {
    /// Signalled by the kernel.
    Event(Arc<EventFd>, Meaning),
    /// The kernel asks for translations.
    Questions(Questions),
}

/// A node that asks for translations, with all that it was told of: it is closed before that is gone, as fields are dropped in this order.
#[derive(Clone)]
pub(crate) struct Questions {
    pub(crate) node: Arc<dyn Vhost>,
    pub(crate) ram: Arc<MemoryMap>,
    #[expect(dead_code, reason = "held until the node is closed")]
    pub(crate) log: Option<Arc<DirtyLog>>,
}

#[derive(Clone)]
enum Meaning {
    /// Buffers are used, and the driver is to be told.
    Used(Arc<dyn Signal>),
    /// The queue is broken.
    Error,
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
    fn new(queue: u16, source: Source) -> Self {
        Self { queue, source, health: Health::Good }
    }

    fn listen(&mut self, events: Option<&dyn HostEvents>) {
        let Some(trouble) = self.source.hear(self.queue) else { return };
        self.health = Health::Failed;
        if let Some(events) = events {
            events.needs_reset(&trouble);
        }
    }
}

impl Source {
    /// Does what is to be done; what is wrong with the queue, if anything.
    fn hear(&self, queue: u16) -> Option<String> {
        match self {
            Self::Event(event, _) if event.take() == 0 => None,
            Self::Event(_, Meaning::Used(call)) => {
                call.signal();
                None
            }
            Self::Event(_, Meaning::Written(log, ram)) => {
                log.collect(ram);
                None
            }
            Self::Event(_, Meaning::Error) => {
                Some(format!("the kernel's vhost reports an error of queue {queue}"))
            }
            Self::Questions(questions) => questions.answer(),
        }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Event(event, _) => event.as_fd(),
            Self::Questions(questions) => questions.node.misses(),
        }
    }
}

impl Questions {
    /// All memory is known to the kernel before a queue runs: it asks for what is none, and would wait for ever.
    fn answer(&self) -> Option<String> {
        let Self { node, ram, .. } = self;
        while let Ok(Some(at)) = node.missed() {
            let slot = table::slot_at(ram, IoAddr(at));
            let told = slot.is_some_and(|slot| node.tell(Message::Update(slot)).is_ok());
            if !told {
                return Some(format!(
                    "the driver gives the kernel's vhost an address that is not the guest's: {at:#x}"
                ));
            }
        }
        None
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
        let listen = |event: &Arc<EventFd>, meaning| Ear::new(queue, Source::Event(event.clone(), meaning));
        heard.ears.push(listen(&ring.error, Meaning::Error));
        if ring.call.eventfd().is_none() {
            heard.ears.push(listen(&ring.heard, Meaning::Used(ring.call.clone())));
        }
        self.shared.bell.signal();
    }

    /// Listens to what is written for a queue, with whatever else shares its log.
    pub(crate) fn add_log(&self, queue: u16, log: Arc<DirtyLog>, ram: Arc<MemoryMap>) {
        let source = Source::Event(log.event.clone(), Meaning::Written(log, ram));
        self.shared.heard().ears.push(Ear::new(queue, source));
        self.shared.bell.signal();
    }

    /// Answers the kernel's questions for translations while it has a queue.
    pub(crate) fn add_questions(&self, queue: u16, questions: Questions) {
        self.shared.heard().ears.push(Ear::new(queue, Source::Questions(questions)));
        self.shared.bell.signal();
    }

    /// Listens to a queue's events for the last time: after this its notification is not touched.
    pub(crate) fn remove(&self, queue: u16) -> Health {
        let mut heard = self.shared.heard();
        let Heard { events, ears } = &mut *heard;
        let mut health = Health::Good;
        for mut ear in ears.extract_if(.., |ear| ear.queue == queue) {
            ear.listen(events.as_deref());
            if ear.health == Health::Failed {
                health = Health::Failed;
            }
        }
        self.shared.bell.signal();
        health
    }
}

impl Shared {
    fn turn(&self) {
        let sources: Vec<_> = self.heard().ears.iter().map(|ear| ear.source.clone()).collect();
        let mut fds = vec![PollFd::new(&self.bell, PollFlags::IN)];
        fds.extend(sources.iter().map(|source| PollFd::new(source, PollFlags::IN)));
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
