//! [`Listener`]: a thread that hears the interrupts which KVM does not, for their vectors are masked or off.

use crate::error::MachineError;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use vioduct_pci::Vector;
use vioduct_virtio_device::{EventFd, Signal};

/// The thread and what it listens to. It ends when this is dropped.
pub(crate) struct Listener {
    shared: Arc<Shared>,
    end: Arc<EventFd>,
}

struct Shared {
    poll: OwnedFd,
    /// By what `poll` says of them.
    heard: Mutex<Vec<(Arc<EventFd>, Vector)>>,
}

/// What the end's event is called.
const END: u64 = u64::MAX;

impl Listener {
    pub(crate) fn new() -> Result<Self, MachineError> {
        let failed = || MachineError::system("listen to events (raise the limit of open files)");
        let poll = epoll::create(CreateFlags::CLOEXEC).map_err(|error| failed()(error.into()))?;
        let end = Arc::new(EventFd::new().map_err(failed())?);
        let shared = Arc::new(Shared { poll, heard: Mutex::default() });
        shared.watch(&end, END)?;
        let (here, ending) = (shared.clone(), end.clone());
        thread::Builder::new().name("masked".to_owned()).spawn(move || here.run(&ending)).map_err(failed())?;
        Ok(Self { shared, end })
    }

    /// Listens to a vector's event from now on.
    pub(super) fn add(&self, event: Arc<EventFd>, vector: Vector) -> Result<(), MachineError> {
        let mut heard = self.heard();
        let name = heard.len() as u64;
        heard.push((event.clone(), vector));
        self.shared.watch(&event, name)
    }

    /// No more: KVM does.
    pub(super) fn leave(&self, event: &EventFd) -> Result<(), MachineError> {
        match epoll::delete(&self.shared.poll, event) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(MachineError::system("leave an event")(error.into())),
        }
    }

    /// Again, to one that was added.
    pub(super) fn take_up(&self, event: &Arc<EventFd>) -> Result<(), MachineError> {
        let heard = self.heard();
        let place = heard.iter().position(|(known, _)| Arc::ptr_eq(known, event));
        place.map_or(Ok(()), |place| self.shared.watch(event, place as u64))
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Vec<(Arc<EventFd>, Vector)>> {
        self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.end.signal();
    }
}

impl Shared {
    fn watch(&self, event: &EventFd, name: u64) -> Result<(), MachineError> {
        epoll::add(&self.poll, event, EventData::new_u64(name), EventFlags::IN)
            .map_err(|error| MachineError::system("listen to an event")(error.into()))
    }

    fn run(&self, end: &EventFd) {
        let mut events = Vec::with_capacity(16);
        while end.take() == 0 {
            events.clear();
            match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::warn!("interrupts of masked vectors are lost: {error}");
                    return;
                }
            }
            for name in events.iter().map(|event: &epoll::Event| event.data.u64()) {
                self.hear(name);
            }
        }
    }

    /// The lock is not held while the vector is raised: that takes the function's, under which vectors are taken up again.
    fn hear(&self, name: u64) {
        let found = {
            let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            usize::try_from(name).ok().and_then(|place| heard.get(place).cloned())
        };
        if let Some((event, vector)) = found
            && event.take() > 0
        {
            vector.raise();
        }
    }
}
