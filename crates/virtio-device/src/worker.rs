//! [`Worker`]: the thread of one lane, and the control path's hold on it.

use crate::backend::{BackendError, EventFd, Signal};
use crate::handler::{Fault, Interest};
use crate::lane::{Device, Lane, Turn};
use crate::poll_window::PollWindow;
use crate::sources::Token;
use crate::workers::WorkerPolicy;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use vioduct_virtqueue::{Queue, QueuePosition};

type Reply<T> = Sender<Result<T, BackendError>>;

enum Command {
    Start { q: u16, queue: Box<Queue>, call: Arc<dyn Signal>, kick: Arc<EventFd>, reply: Reply<()> },
    Stop { q: u16, reply: Reply<Option<QueuePosition>> },
}

/// Tells a worker that a command waits: a flag for one that is awake, an eventfd for one that sleeps.
struct Bell {
    rung: AtomicBool,
    fd: EventFd,
}

impl Bell {
    fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.fd.signal();
    }
}

pub(crate) struct Worker {
    queues: Range<u16>,
    bell: Arc<Bell>,
    commands: Option<Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(crate) fn spawn(
        mut lane: Lane,
        device: &str,
        number: usize,
        policy: &WorkerPolicy,
    ) -> Result<Self, BackendError> {
        let system = |action| move |source| BackendError::System { action, source };
        let fd = EventFd::new().map_err(system("create an eventfd (raise the limit of open files)"))?;
        lane.sources
            .watch(fd.as_fd(), Token::Control, Interest::Readable)
            .map_err(system("create an epoll instance (raise the limit of open files)"))?;
        let bell = Arc::new(Bell { rung: AtomicBool::new(false), fd });
        let queues = lane.queues();
        let (commands, orders) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        let cpu = policy.cpus.get(number % policy.cpus.len().max(1)).copied();
        let looper = Looper::new(lane, orders, bell.clone(), policy);
        let thread = thread::Builder::new()
            .name(format!("{device}-{number}"))
            .spawn(move || {
                let bound = cpu.map_or(Ok(()), bind_to);
                let failed = bound.is_err();
                // Whoever waits for this may have gone; then so does the thread.
                if ready.send(bound).is_ok() && !failed {
                    looper.run();
                }
            })
            .map_err(system("create a thread (raise the limit of processes)"))?;
        let worker = Self { queues, bell, commands: Some(commands), thread: Some(thread) };
        match started.recv() {
            Ok(bound) => {
                bound.map_err(system("bind a worker to its processor (correct the policy's cpus)"))?
            }
            Err(mpsc::RecvError) => return Err(gone()),
        }
        Ok(worker)
    }

    pub(crate) fn serves(&self, q: u16) -> bool {
        self.queues.contains(&q)
    }

    pub(crate) fn start(
        &self,
        q: u16,
        queue: Queue,
        call: Arc<dyn Signal>,
        kick: Arc<EventFd>,
    ) -> Result<(), BackendError> {
        let queue = Box::new(queue);
        self.order(|reply| Command::Start { q, queue, call, kick, reply })
    }

    pub(crate) fn stop(&self, q: u16) -> Result<Option<QueuePosition>, BackendError> {
        self.order(|reply| Command::Stop { q, reply })
    }

    /// Has the thread do something, and waits until it is done.
    fn order<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, BackendError> {
        let (reply, answer) = mpsc::channel();
        let commands = self.commands.as_ref().ok_or_else(gone)?;
        commands.send(command(reply)).map_err(|_| gone())?;
        self.bell.ring();
        answer.recv().unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for Worker {
    /// Ends the thread, once its handler has been asked to return what it holds.
    fn drop(&mut self) {
        self.commands = None;
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            // It ended by a panic of the handler, which has been reported as a fault.
            let _ = thread.join();
        }
    }
}

fn gone() -> BackendError {
    BackendError::Other("the device's thread has ended: its handler panicked; reset the device".into())
}

fn bind_to(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    Ok(sched_setaffinity(None, &cpus)?)
}

/// What runs in the thread.
struct Looper {
    lane: Lane,
    orders: Receiver<Command>,
    bell: Arc<Bell>,
    poll: PollWindow,
    drain_limit: Duration,
    turns: u32,
}

/// Whether the thread goes on.
enum Life {
    On,
    Over,
}

impl Looper {
    fn new(lane: Lane, orders: Receiver<Command>, bell: Arc<Bell>, policy: &WorkerPolicy) -> Self {
        let poll = PollWindow::new(policy.busy_poll);
        Self { lane, orders, bell, poll, drain_limit: policy.drain_limit, turns: 0 }
    }

    fn run(mut self) {
        let _report = PanicReport(self.lane.device());
        while let Life::On = self.obey() {
            if self.lane.turn() == Turn::Worked {
                self.look_up();
            } else if !self.busy_poll() && !self.lane.settle() {
                let asleep = Instant::now();
                self.lane.collect(None);
                self.poll.learn(asleep.elapsed());
            }
        }
    }

    /// Descriptors are looked at now and then under load, when the lane never sleeps.
    fn look_up(&mut self) {
        const TURNS: u32 = 16;
        self.turns = self.turns.wrapping_add(1);
        if self.turns.is_multiple_of(TURNS) {
            self.lane.collect(Some(Duration::ZERO));
        }
    }

    /// Looks at the queues until one has work or the window is over. Whether there is something to do.
    fn busy_poll(&mut self) -> bool {
        /// Reading the clock costs more than a look at a queue.
        const LOOKS_PER_CLOCK: usize = 32;
        let window = self.poll.window();
        if window.is_zero() {
            return false;
        }
        let began = Instant::now();
        while began.elapsed() < window {
            for _ in 0..LOOKS_PER_CLOCK {
                if self.lane.poll() || self.bell.rung.load(Ordering::Relaxed) {
                    return true;
                }
                std::hint::spin_loop();
            }
        }
        false
    }

    fn obey(&mut self) -> Life {
        if !self.bell.rung.swap(false, Ordering::Acquire) {
            return Life::On;
        }
        loop {
            match self.orders.try_recv() {
                Ok(command) => self.execute(command),
                Err(TryRecvError::Empty) => return Life::On,
                Err(TryRecvError::Disconnected) => return Life::Over,
            }
        }
    }

    /// Whoever ordered may have gone, so a reply that nobody takes is no error.
    fn execute(&mut self, command: Command) {
        match command {
            Command::Start { q, queue, call, kick, reply } => {
                let action = "wait for the kick eventfd";
                let started = self.lane.start(q, *queue, call, Some(kick));
                let _ = reply.send(started.map_err(|source| BackendError::System { action, source }));
            }
            Command::Stop { q, reply } => {
                let _ = reply.send(self.lane.stop(q, self.drain_limit));
            }
        }
    }
}

/// Reports a handler that panics as a fault: its thread is gone, and the driver must not wait for it.
struct PanicReport(Arc<Device>);

impl Drop for PanicReport {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(&Fault::Device("its handler panicked, which is a bug of the device".into()));
        }
    }
}
