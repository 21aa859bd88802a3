//! [`Shared`]: the session, as calls and the watching thread use it; and that thread.
//!
//! Two locks, in this order: the session's, held while a request is answered, and that of [`Ears`], never held for long. So a call
//! that waits for its answer does not keep the server from being heard.

use super::Trouble;
use super::ears::{Ears, Health};
use super::ring::Ring;
use super::session::Session;
use crate::error::FrontendError;
use crate::socket::wait;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;
use vioduct_spec::Features;
use vioduct_virtio_device::{BackendError, Host, Signal};
use vioduct_virtqueue::QueuePosition;

pub(super) struct Shared {
    session: Mutex<Session>,
    /// The server is back, or given up.
    changed: Condvar,
    ears: Ears,
    stop: AtomicBool,
}

/// What a request to a server that may go meanwhile came to.
enum Asked<R> {
    Answered(R),
    /// There is another server, which has been told everything.
    Replaced,
}

impl Shared {
    /// Connects, and returns what is on offer.
    pub(super) fn start(mut session: Session) -> Result<(Arc<Self>, Features), FrontendError> {
        let failed = |source| FrontendError::System { action: "create an eventfd", source };
        let ears = Ears::new(session.rings.len()).map_err(failed)?;
        session.bring_up(&ears).map_err(|trouble| FrontendError::Server(trouble.to_string()))?;
        let offered = session.remote.as_ref().map_or(Features::NONE, |remote| remote.offered());
        let (session, changed, stop) = (Mutex::new(session), Condvar::new(), AtomicBool::new(false));
        Ok((Arc::new(Self { session, changed, ears, stop }), offered))
    }

    pub(super) fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn connect(&self, host: Host) {
        let Host { memory, events } = host;
        self.ears.report_to(events);
        self.session().memory = Some(memory);
    }

    pub(super) fn config(&self) -> Vec<u8> {
        let mut session = self.session();
        match session.read_config() {
            Ok(config) => config,
            Err(trouble) => {
                self.note(&mut session, &trouble);
                session.config.clone()
            }
        }
    }

    pub(super) fn set_features(&self, negotiated: Features) -> Result<(), BackendError> {
        let mut session = self.session();
        session.forget(&self.ears);
        session.features = Some(negotiated);
        let outcome = self.request(session, |session| session.remote()?.set_features(negotiated));
        let (mut session, outcome) = outcome;
        if outcome.is_err() {
            session.features = None;
        }
        outcome.map(drop)
    }

    pub(super) fn start_queue(&self, q: u16, ring: Ring) -> Result<(), BackendError> {
        let session = self.session();
        if session.features.is_none() || session.memory.is_none() {
            return Err(BackendError::OutOfOrder { missing: "set_features" });
        }
        ring.check(session.format(), &session.regions)?;
        let (mut session, outcome) = self.until_answered(session, |session| {
            session.prepare_log()?;
            session.prepare_record(q)
        });
        outcome?;
        self.ears.add(q, &ring);
        if let Some(place) = session.rings.get_mut(usize::from(q)) {
            *place = Some(ring);
        }
        let (mut session, outcome) = self.request(session, |session| {
            let format = session.format();
            let Session { remote: Some(remote), rings, .. } = session else { return Err(Trouble::closed()) };
            match rings.get(usize::from(q)) {
                Some(Some(ring)) => remote.start(q, ring, ring.vring_base(format)),
                _ => Ok(()),
            }
        });
        if outcome.is_err() {
            // It may have been begun.
            if let Err(trouble) = session.remote().and_then(|remote| remote.stop(q).map(drop)) {
                self.note(&mut session, &trouble);
            }
            self.take_ring(&mut session, q);
        }
        outcome.map(drop)
    }

    pub(super) fn stop_queue(&self, q: u16) -> Result<Option<QueuePosition>, BackendError> {
        let (mut session, outcome) = self.until_answered(self.session(), |session| session.stop(q));
        let position = outcome?;
        self.listen();
        let health = self.take_ring(&mut session, q);
        Ok(position.filter(|_| health == Health::Good))
    }

    /// A server that is gone has nothing to reset. One that does not answer may still be at work: then this fails, and the
    /// connection with it.
    pub(super) fn reset(&self) -> Result<(), BackendError> {
        let mut session = self.session();
        let running = session.running();
        let outcome = session.remote.as_mut().map_or(Ok(()), |remote| {
            running.into_iter().try_for_each(|q| remote.stop(q).map(drop))?;
            remote.reset()
        });
        session.collect_log();
        session.forget(&self.ears);
        match outcome {
            Err(trouble @ Trouble::Lost(_)) => {
                self.note(&mut session, &trouble);
                if trouble.is_late() { Err(trouble.into()) } else { Ok(()) }
            }
            other => Ok(other?),
        }
    }

    fn take_ring(&self, session: &mut Session, q: u16) -> Health {
        if let Some(place) = session.rings.get_mut(usize::from(q)) {
            *place = None;
        }
        self.ears.remove(q)
    }

    /// A request of which nothing is kept: it is made again if there is another server.
    pub(super) fn ask<R>(
        &self,
        op: impl FnMut(&mut Session) -> Result<R, Trouble>,
    ) -> Result<R, BackendError> {
        self.until_answered(self.session(), op).1
    }

    /// The same, with nothing to answer.
    pub(super) fn tell(
        &self,
        op: impl FnMut(&mut Session) -> Result<(), Trouble>,
    ) -> Result<(), BackendError> {
        self.ask(op)
    }

    fn until_answered<'s, R>(
        &'s self,
        mut session: MutexGuard<'s, Session>,
        mut op: impl FnMut(&mut Session) -> Result<R, Trouble>,
    ) -> (MutexGuard<'s, Session>, Result<R, BackendError>) {
        let deadline = Instant::now() + session.patience.call;
        loop {
            let (back, outcome) = self.request_until(session, deadline, &mut op);
            session = back;
            match outcome {
                Ok(Asked::Answered(answer)) => return (session, Ok(answer)),
                Ok(Asked::Replaced) => {}
                Err(error) => return (session, Err(error)),
            }
        }
    }

    /// A request that is part of what another server would be told: then it need not be made.
    fn request<'s>(
        &'s self,
        session: MutexGuard<'s, Session>,
        op: impl FnMut(&mut Session) -> Result<(), Trouble>,
    ) -> (MutexGuard<'s, Session>, Result<Asked<()>, BackendError>) {
        let deadline = Instant::now() + session.patience.call;
        self.request_until(session, deadline, op)
    }

    fn request_until<'s, R>(
        &'s self,
        mut session: MutexGuard<'s, Session>,
        deadline: Instant,
        mut op: impl FnMut(&mut Session) -> Result<R, Trouble>,
    ) -> (MutexGuard<'s, Session>, Result<Asked<R>, BackendError>) {
        if session.remote.is_some() {
            match op(&mut session) {
                Ok(answer) => return (session, Ok(Asked::Answered(answer))),
                Err(trouble @ Trouble::Lost(_)) => self.note(&mut session, &trouble),
                Err(trouble) => return (session, Err(trouble.into())),
            }
        }
        self.await_server(session, deadline)
    }

    /// Waits for a server.
    fn await_server<'s, R>(
        &'s self,
        mut session: MutexGuard<'s, Session>,
        deadline: Instant,
    ) -> (MutexGuard<'s, Session>, Result<Asked<R>, BackendError>) {
        loop {
            if session.remote.is_some() {
                return (session, Ok(Asked::Replaced));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || session.next_attempt().is_none() {
                let reason = session.absence.as_ref().map_or(String::new(), |absence| absence.reason.clone());
                return (session, Err(BackendError::Other(reason)));
            }
            let outcome = self.changed.wait_timeout(session, left);
            session = outcome.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A connection that is lost is given up.
    fn note(&self, session: &mut Session, trouble: &Trouble) {
        if let Trouble::Lost(_) = trouble {
            session.lose(&self.ears, trouble);
        }
    }

    /// Passes on what the server has said.
    pub(super) fn listen(&self) {
        if let Err(error) = self.ears.listen() {
            self.ears.give_up(&error);
        }
    }

    /// Waits for something to be said, or for the time to look for a server, and sees to it.
    fn turn(&self) {
        let sources = self.ears.sources();
        let limit = sources.seek.map(|then| then.saturating_duration_since(Instant::now()));
        let mut fds = sources.poll_fds(&self.ears.bell);
        if let Err(error) = wait(&mut fds, limit) {
            tracing::warn!("cannot wait for a vhost-user server: {error}");
        }
        let ended = sources.ended(&fds);
        let _ = self.ears.bell.take();
        self.listen();
        if let Some(socket) = ended {
            let mut session = self.session();
            if self.ears.is_current(&socket) {
                session.lose(&self.ears, &Trouble::closed());
            }
        }
        if sources.seek.is_some_and(|then| then <= Instant::now()) {
            self.session().attempt(&self.ears);
        }
        self.changed.notify_all();
    }
}

/// The thread that listens; it ends when this is dropped.
pub(super) struct Watcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    pub(super) fn spawn(shared: Arc<Shared>) -> Result<Self, FrontendError> {
        let name = format!("{}-frontend", shared.session().info.name);
        let watched = shared.clone();
        let thread = thread::Builder::new().name(name).spawn(move || {
            while !watched.stop.load(Ordering::Acquire) {
                watched.turn();
            }
        });
        let failed = |source| FrontendError::System { action: "start a thread", source };
        Ok(Self { shared, thread: Some(thread.map_err(failed)?) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.ears.bell.signal();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported.
            let _ = thread.join();
        }
    }
}
