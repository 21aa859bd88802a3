//! [`Pool`]: operations by a few threads, for systems without io_uring.
//!
//! This module holds `unsafe` because its threads carry out operations on memory behind raw pointers.
#![allow(unsafe_code)]

use super::perform::perform;
use super::{Done, Op};
use crate::disk::{Disk, Store};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use vioduct_virtio_device::{EventFd, Signal};

/// Threads of one queue: enough to keep a disk busy.
const THREADS: usize = 4;

pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    staged: Vec<Job>,
    /// Rung when operations have ended; without one they are waited for.
    bell: Option<Arc<EventFd>>,
}

#[derive(Clone, Copy)]
struct Job {
    token: u32,
    op: Op,
}

struct Shared {
    disk: Arc<Disk>,
    jobs: Mutex<Jobs>,
    job: Condvar,
    done: Mutex<Vec<Done>>,
    some_done: Condvar,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    closed: bool,
}

/// What is behind these locks is whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// As many of [`THREADS`] as the system gives.
    pub(super) fn new(disk: &Arc<Disk>) -> Self {
        let shared = Arc::new(Shared {
            disk: disk.clone(),
            jobs: Mutex::default(),
            job: Condvar::new(),
            done: Mutex::default(),
            some_done: Condvar::new(),
        });
        let bell = EventFd::new().ok().map(Arc::new);
        let spawn = |number| {
            let (shared, bell) = (shared.clone(), bell.clone()?);
            let builder = thread::Builder::new().name(format!("block-io-{number}"));
            builder.spawn(move || shared.work(&bell)).ok()
        };
        let threads: Vec<_> = (0..THREADS).filter_map(spawn).collect();
        if threads.is_empty() {
            tracing::warn!("block: no thread for its operations: each is waited for (raise the limits)");
        }
        Self { shared, threads, staged: Vec::new(), bell }
    }

    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.bell.as_ref().map(|bell| bell.as_fd())
    }

    pub(super) fn push(&mut self, token: u32, op: Op) {
        self.staged.push(Job { token, op });
    }

    pub(super) fn submit(&mut self) {
        let count = self.staged.len();
        if self.threads.is_empty() {
            let done = self.staged.drain(..).map(|job| self.shared.perform(job));
            lock(&self.shared.done).extend(done);
            return;
        }
        lock(&self.shared.jobs).waiting.extend(self.staged.drain(..));
        for _ in 0..count.min(self.threads.len()) {
            self.shared.job.notify_one();
        }
    }

    pub(super) fn reap(&mut self, out: &mut Vec<Done>) {
        out.append(&mut lock(&self.shared.done));
    }

    pub(super) fn wait(&mut self) {
        let waited = self.shared.some_done.wait_while(lock(&self.shared.done), |done| done.is_empty());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.shared.jobs).closed = true;
        self.shared.job.notify_all();
        for thread in self.threads.drain(..) {
            // It does not panic; and if it did, there would be nothing to add.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn work(&self, bell: &EventFd) {
        while let Some(job) = self.next() {
            let done = self.perform(job);
            let mut list = lock(&self.done);
            list.push(done);
            let first = list.len() == 1;
            drop(list);
            // Whoever takes the list takes all of it.
            if first {
                self.some_done.notify_all();
                bell.signal();
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let jobs = self.job.wait_while(lock(&self.jobs), |jobs| jobs.waiting.is_empty() && !jobs.closed);
        jobs.unwrap_or_else(PoisonError::into_inner).waiting.pop_front()
    }

    fn perform(&self, Job { token, op }: Job) -> Done {
        let result = match &self.disk.store {
            // SAFETY: whoever pushed the operation keeps its pieces and their memory until it is reaped, which it is not yet.
            Store::File(file) => unsafe { perform(file.as_fd(), &op) },
            Store::Null => Err(io::ErrorKind::Unsupported.into()),
        };
        Done { token, result }
    }
}
