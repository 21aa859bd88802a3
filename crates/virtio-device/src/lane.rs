//! [`Lane`]: one handler with its queues, and the one drive loop that every runner of this process turns.
//!
//! A turn is: the handler wakes, which stops notifications of the queues it pops from; what it completed is published; the
//! driver is notified if it wants to be. When there is nothing left to do, the lane is settled: notifications are asked for
//! again, and each queue is looked at once more, for a buffer made available just before would not be notified.

use crate::backend::{BackendError, EventFd, HostEvents, Signal};
use crate::counters::QueueCounters;
use crate::handler::{Allowance, Budget, Fault, Interest, Io, QueueHandler, SourceId, Wake};
use crate::sources::{Sources, Token};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vioduct_virtqueue::{Burst, Chain, MoreWork, Next, Notify, Queue, QueueError, QueuePosition};

/// What the lanes of one device share: a fault of one stops all (the specification can signal nothing smaller).
pub(crate) struct Device {
    halted: AtomicBool,
    events: Arc<dyn HostEvents>,
}

impl Device {
    pub(crate) fn new(events: Arc<dyn HostEvents>) -> Self {
        Self { halted: AtomicBool::new(false), events }
    }

    fn is_halted(&self) -> bool {
        self.halted.load(Ordering::Relaxed)
    }

    pub(crate) fn fail(&self, fault: &Fault) {
        if !self.halted.swap(true, Ordering::Relaxed) {
            self.events.needs_reset(fault);
        }
    }
}

/// A place for one queue of a lane.
pub(crate) struct Slot {
    running: Option<Running>,
    counters: Arc<QueueCounters>,
}

struct Running {
    queue: Queue,
    call: Arc<dyn Signal>,
    kick: Option<Arc<EventFd>>,
    /// Chains that the handler holds, by its own pops: unlike the queue's count, right after a fault too.
    lent: usize,
    popped: u64,
    /// The handler is to be woken for this queue.
    pending: bool,
    /// It has found the queue empty and wants to know of more.
    wants_kick: bool,
    kicks: Kicks,
    /// Something was completed in this wake.
    completed: bool,
    stopping: bool,
}

/// What the driver was told about notifications of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kicks {
    /// Nothing since the start: whatever the ring says.
    AsFound,
    /// To send them.
    Wanted,
    /// Not to.
    Off,
}

impl Slot {
    pub(crate) fn new(counters: Arc<QueueCounters>) -> Self {
        Self { running: None, counters }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.running.as_ref().is_none_or(|running| running.stopping)
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Result<Option<Chain>, QueueError> {
        let Some(running) = &mut self.running else { return Ok(None) };
        running.disarm()?;
        let chain = running.queue.pop()?;
        let found = usize::from(chain.is_some());
        running.wants_kick = found == 0;
        running.lent += found;
        running.popped += found as u64;
        Ok(chain)
    }

    #[inline]
    pub(crate) fn complete(&mut self, chain: Chain, written: u32) -> Result<(), QueueError> {
        // A late answer to a driver that has reset the queue since, and has taken the buffer back.
        let Some(running) = self.running.as_mut().filter(|running| running.queue.owns(&chain)) else {
            chain.discard();
            return Ok(());
        };
        running.lent = running.lent.saturating_sub(1);
        running.completed = true;
        running.queue.complete(chain, written)
    }

    #[inline]
    pub(crate) fn pop_burst(&mut self, burst: &mut Burst, up_to: usize) -> Result<Next, QueueError> {
        let Some(running) = &mut self.running else { return Ok(Next::Nothing) };
        running.disarm()?;
        let before = burst.len();
        let next = running.queue.pop_burst(burst, up_to);
        let found = burst.len() - before;
        running.wants_kick = next == Ok(Next::Nothing);
        running.lent += found;
        running.popped += found as u64;
        next
    }

    #[inline]
    pub(crate) fn chain_of(&mut self, burst: &mut Burst) -> Option<Chain> {
        self.running.as_mut()?.queue.chain_of(burst)
    }

    #[inline]
    pub(crate) fn complete_burst(&mut self, burst: &mut Burst, count: usize) -> Result<(), QueueError> {
        // As for a chain: a late answer.
        let Some(running) = self.running.as_mut().filter(|running| running.queue.owns_burst(burst)) else {
            burst.discard();
            return Ok(());
        };
        running.lent = running.lent.saturating_sub(count);
        running.completed = true;
        running.queue.complete_burst(burst, count)
    }

    pub(crate) fn queue_size(&self) -> Option<u16> {
        self.running.as_ref().map(|running| running.queue.size())
    }

    pub(crate) fn expect_kick(&mut self) {
        if let Some(running) = &mut self.running {
            running.wants_kick = true;
        }
    }

    pub(crate) fn expect_no_kick(&mut self) {
        if let Some(running) = &mut self.running {
            running.wants_kick = false;
        }
    }

    fn request_wake(&mut self) {
        if let Some(running) = &mut self.running {
            running.pending = true;
        }
    }

    /// Publishes what this wake has completed, and notifies: once.
    fn publish(&mut self) -> Result<(), QueueError> {
        let Some(running) = &mut self.running else { return Ok(()) };
        // Counted per wake, so that a chain costs no store to shared memory.
        self.counters.chains.add(std::mem::take(&mut running.popped));
        if !std::mem::take(&mut running.completed) {
            return Ok(());
        }
        match running.queue.publish()? {
            Notify::Needed => {
                self.counters.signals.add(1);
                running.call.signal();
            }
            Notify::Suppressed => self.counters.suppressed.add(1),
        }
        Ok(())
    }

    /// Asks for notifications if the handler wants any, and looks again. Whether there is work.
    fn settle(&mut self) -> Result<bool, QueueError> {
        let Some(running) = &mut self.running else { return Ok(false) };
        if running.wants_kick && running.kicks != Kicks::Wanted && !running.stopping {
            running.kicks = Kicks::Wanted;
            running.pending |= running.queue.arm()? == MoreWork::Pending;
        }
        Ok(running.pending)
    }

    /// Looks, if the driver was not asked to notify. Whether there is work.
    fn poll(&mut self) -> Result<bool, QueueError> {
        let Some(running) = &mut self.running else { return Ok(false) };
        if running.wants_kick && running.kicks != Kicks::Wanted && !running.stopping {
            running.pending |= running.queue.poll()? == MoreWork::Pending;
        }
        Ok(running.pending)
    }
}

impl Running {
    /// While the handler is at work, kicks tell it nothing.
    #[inline]
    fn disarm(&mut self) -> Result<(), QueueError> {
        if self.kicks != Kicks::Off {
            self.kicks = Kicks::Off;
            self.queue.disarm()?;
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        if self.queue.fault().is_some() { self.lent } else { self.queue.in_flight() }
    }
}

/// What a lane did when it was asked to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Turn {
    /// The handler was woken.
    Worked,
    /// There was nothing to do.
    Idle,
}

/// One handler and the queues that it alone serves.
pub(crate) struct Lane {
    first: u16,
    slots: Vec<Slot>,
    handler: Box<dyn QueueHandler>,
    pub(crate) sources: Sources,
    ready: VecDeque<SourceId>,
    device: Arc<Device>,
    budget: Budget,
    /// Where the search for pending queues begins: after the one served last.
    next: usize,
}

impl Lane {
    pub(crate) fn new(
        first: u16,
        slots: Vec<Slot>,
        handler: Box<dyn QueueHandler>,
        device: Arc<Device>,
        budget: Budget,
    ) -> Self {
        Self {
            first,
            slots,
            handler,
            sources: Sources::default(),
            ready: VecDeque::new(),
            device,
            budget,
            next: 0,
        }
    }

    pub(crate) fn device(&self) -> Arc<Device> {
        self.device.clone()
    }

    pub(crate) fn queues(&self) -> Range<u16> {
        self.first..self.first.saturating_add(self.slots.len() as u16)
    }

    pub(crate) fn serves(&self, q: u16) -> bool {
        usize::from(q.wrapping_sub(self.first)) < self.slots.len()
    }

    pub(crate) fn is_running(&self, q: u16) -> bool {
        self.slots.get(self.place(q)).is_some_and(|slot| slot.running.is_some())
    }

    fn place(&self, q: u16) -> usize {
        usize::from(q.wrapping_sub(self.first))
    }

    /// Takes a queue in and tells the handler. It is then pending: buffers may have been available before anyone listened.
    pub(crate) fn start(
        &mut self,
        q: u16,
        queue: Queue,
        call: Arc<dyn Signal>,
        kick: Option<Arc<EventFd>>,
    ) -> io::Result<()> {
        let place = q.wrapping_sub(self.first);
        let Some(slot) = self.slots.get_mut(usize::from(place)) else { return Ok(()) };
        if let Some(kick) = &kick {
            self.sources.watch(kick.as_fd(), Token::Kick(place), Interest::Readable)?;
        }
        slot.running = Some(Running {
            queue,
            call,
            kick,
            lent: 0,
            popped: 0,
            pending: true,
            wants_kick: false,
            kicks: Kicks::AsFound,
            completed: false,
            stopping: false,
        });
        self.wake(Wake::Started(q));
        Ok(())
    }

    /// A notification came for queue `q`.
    pub(crate) fn kick(&mut self, q: u16) {
        let place = self.place(q);
        if let Some(slot) = self.slots.get_mut(place) {
            slot.request_wake();
        }
    }

    /// Does one pending thing, sources first: what they bring frees the queues.
    pub(crate) fn turn(&mut self) -> Turn {
        if self.device.is_halted() {
            return Turn::Idle;
        }
        if self.turn_source() == Turn::Worked {
            return Turn::Worked;
        }
        // A queue that is busy without end must not hide another, whose driver was not asked to notify.
        self.poll();
        let Some(place) = self.next_pending() else { return Turn::Idle };
        self.next = place + 1;
        if let Some(slot) = self.slots.get(place) {
            slot.counters.wakes.add(1);
        }
        self.wake(Wake::Kick(self.first.wrapping_add(place as u16)));
        Turn::Worked
    }

    fn turn_source(&mut self) -> Turn {
        let Some(id) = self.ready.pop_front() else { return Turn::Idle };
        self.wake(Wake::Source(id));
        Turn::Worked
    }

    /// The pending queue whose turn it is, which is pending no more.
    fn next_pending(&mut self) -> Option<usize> {
        let count = self.slots.len();
        (0..count).map(|step| (self.next + step) % count).find(|place| {
            let running = self.slots.get_mut(*place).and_then(|slot| slot.running.as_mut());
            running.is_some_and(|running| !running.stopping && std::mem::take(&mut running.pending))
        })
    }

    /// One wake: the handler works within its budget, then everything that it completed is published.
    fn wake(&mut self, why: Wake) {
        let mut io = Io {
            first: self.first,
            slots: &mut self.slots,
            allowance: Allowance::new(self.budget),
            sources: &mut self.sources,
            events: &*self.device.events,
        };
        let outcome = self.handler.wake(why, &mut io);
        let exhausted = io.allowance.exhausted;
        let published = self.each_slot(Slot::publish);
        match outcome.and(published) {
            Ok(()) if exhausted => self.repeat(why),
            Ok(()) => {}
            Err(fault) => self.device.fail(&fault),
        }
    }

    /// The budget was spent before the work was: the same again, after whatever else is waiting.
    fn repeat(&mut self, why: Wake) {
        match why {
            Wake::Source(id) => self.ready.push_back(id),
            Wake::Started(q) | Wake::Kick(q) | Wake::Stopping(q) => {
                let place = self.place(q);
                if let Some(slot) = self.slots.get_mut(place) {
                    slot.counters.exhausted.add(1);
                    slot.request_wake();
                }
            }
        }
    }

    /// To be called when there is nothing to do, and before waiting: see the module's description. Whether there is work after
    /// all.
    pub(crate) fn settle(&mut self) -> bool {
        self.look(Slot::settle)
    }

    /// Whether a queue that its handler has emptied has work, found without asking the driver for notifications.
    pub(crate) fn poll(&mut self) -> bool {
        self.look(Slot::poll)
    }

    fn look(&mut self, mut one: impl FnMut(&mut Slot) -> Result<bool, QueueError>) -> bool {
        if self.device.is_halted() {
            return false;
        }
        let mut found = false;
        let outcome = self.each_slot(|slot| {
            found |= one(slot)?;
            Ok(())
        });
        if let Err(fault) = outcome {
            self.device.fail(&fault);
            return false;
        }
        found
    }

    fn each_slot(&mut self, mut one: impl FnMut(&mut Slot) -> Result<(), QueueError>) -> Result<(), Fault> {
        for (queue, slot) in (self.first..=u16::MAX).zip(&mut self.slots) {
            one(slot).map_err(|error| Fault::Queue { queue, error })?;
        }
        Ok(())
    }

    /// Marks what is ready, waiting for at most `timeout`. Whether the control path wants something.
    pub(crate) fn collect(&mut self, timeout: Option<Duration>) -> bool {
        let mut control = false;
        let Self { sources, slots, ready, .. } = self;
        sources.wait(timeout, |token| match token {
            Token::Control => control = true,
            Token::Kick(place) => {
                if let Some(slot) = slots.get_mut(usize::from(place)) {
                    slot.counters.kicks.add(1);
                    slot.request_wake();
                }
            }
            // One entry each, so that sources that are ready over and over cannot grow the list.
            Token::Source(id) if ready.contains(&id) => {}
            Token::Source(id) => ready.push_back(id),
        });
        control
    }

    /// Stops queue `q`: gives no more of its buffers out, lets the handler complete those it holds, by its event sources if need
    /// be, and returns where the queue stood: nowhere, if it does not run or has met a fault. Fails if buffers remain after
    /// `limit`, or nothing can bring them back; it may then be tried again.
    pub(crate) fn stop(&mut self, q: u16, limit: Duration) -> Result<Option<QueuePosition>, BackendError> {
        let place = usize::from(q.wrapping_sub(self.first));
        let deadline = Instant::now() + limit;
        let Some(running) = self.running(place) else { return Ok(None) };
        if !std::mem::replace(&mut running.stopping, true) {
            self.wake(Wake::Stopping(q));
        }
        loop {
            let in_flight = self.running(place).map_or(0, |running| running.in_flight());
            if in_flight == 0 {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.sources.is_empty() {
                return Err(BackendError::Draining { queue: q, in_flight });
            }
            self.collect(Some(left));
            while self.turn_source() == Turn::Worked {}
        }
        Ok(self.let_go(place))
    }

    fn let_go(&mut self, place: usize) -> Option<QueuePosition> {
        let Running { queue, kick, .. } = self.slots.get_mut(place)?.running.take()?;
        if let Some(kick) = kick {
            // It was watched since the start; if its peer has broken it, it reports nothing anyway.
            let _ = self.sources.unwatch(kick.as_fd());
        }
        queue.fault().is_none().then(|| queue.position())
    }

    fn running(&mut self, place: usize) -> Option<&mut Running> {
        self.slots.get_mut(place)?.running.as_mut()
    }
}

impl Drop for Lane {
    /// Whoever drops a running lane gives its driver up; the handler still gets to return what it holds.
    fn drop(&mut self) {
        const LIMIT: Duration = Duration::from_secs(1);
        // A handler that has panicked is not called again.
        if std::thread::panicking() {
            return;
        }
        for place in 0..self.slots.len() {
            let q = self.first.wrapping_add(place as u16);
            if let Err(error) = self.stop(q, LIMIT) {
                tracing::warn!("dropped while in use: {error}");
            }
        }
    }
}
