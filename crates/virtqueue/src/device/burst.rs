//! [`Queue`]'s operations on a [`Burst`]: the shortest way of buffers that need nothing else.

use super::{Queue, Ring, Used, drain};
use crate::burst::{Burst, Next, Single};
use crate::chain::{Body, Chain, Segment};
use crate::error::QueueError;
use crate::order::Order;
use alloc::boxed::Box;

impl Queue {
    /// Pops buffers of one mapped piece onto the end of `burst`, until it holds `up_to`, and says what is next. A buffer of another kind
    /// (of several pieces, in an indirect table, in memory reached by messages, or across regions) is left for [`pop`](Self::pop). A burst
    /// that holds another queue's buffers gets none.
    ///
    /// Everything that [`pop`](Self::pop) checks is checked.
    ///
    /// # Errors
    /// As for [`pop`](Self::pop); what was popped before the fault is in `burst`.
    #[inline]
    pub fn pop_burst(&mut self, burst: &mut Burst, up_to: usize) -> Result<Next, QueueError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let before = burst.len();
        if !burst.take_for(self.buffers.queue(), self.buffers.shared_memory()) || !self.goes_on(burst) {
            return Ok(Next::Unknown);
        }
        let popped = match &mut self.ring {
            Ring::Split(ring) => ring.pop_singles(&mut self.buffers, &mut burst.singles, up_to),
            Ring::Packed(ring) => ring.pop_singles(&mut self.buffers, &mut burst.singles, up_to),
            Ring::Apart(_) => Ok(Next::Other),
        };
        let count = burst.len() - before;
        self.buffers.lent_in_bursts(count);
        if let Some(order) = &mut self.order {
            order.stamp_run(count);
        }
        popped.or_else(|fault| self.latch(fault))
    }

    /// With `IN_ORDER` a burst is a run of buffers: none was popped elsewhere between its first and its last.
    #[inline(always)]
    fn goes_on(&self, burst: &mut Burst) -> bool {
        let Some(order) = &self.order else { return true };
        if burst.is_empty() {
            burst.sequence = order.upcoming();
        }
        burst.sequence.wrapping_add(burst.len() as u16) == order.upcoming()
    }

    /// Takes the first `count` buffers of a burst back, with what was [marked as written](Single::mark_written); publishes nothing. With
    /// `IN_ORDER`, those that need no entry of their own in the ring get none.
    ///
    /// # Errors
    /// As for [`complete`](Self::complete); the buffers are let go of.
    #[inline]
    pub fn complete_burst(&mut self, burst: &mut Burst, count: usize) -> Result<(), QueueError> {
        let count = count.min(burst.len());
        if let Some(fault) = self.fault {
            burst.singles.drain(..count);
            return Err(fault);
        }
        if !burst.is_of(self.buffers.queue()) {
            let first = burst.singles.drain(..count).next();
            return first.map_or(Ok(()), |first| Err(QueueError::BufferId(first.id)));
        }
        let sequence = burst.sequence;
        burst.sequence = sequence.wrapping_add(count as u16);
        let done = burst.singles.get(..count).unwrap_or_default();
        self.buffers.take_back_burst(done);
        if self.logs_writes {
            self.log_singles(done);
        }
        let pushed = match &mut self.order {
            None => push_each(&mut self.ring, done),
            Some(order) => {
                if order.pass_run(sequence, count) {
                    push_runs(&mut self.ring, done)
                } else {
                    wait_for_turn(order, &mut self.ring, sequence, done)
                }
            }
        };
        burst.singles.drain(..count);
        pushed.or_else(|fault| self.latch(fault))
    }

    /// Whether a burst's buffers were popped from this queue, and not from one that was set up before it.
    #[must_use]
    pub fn owns_burst(&self, burst: &Burst) -> bool {
        burst.is_of(self.buffers.queue())
    }

    /// Takes the first buffer of a burst out of it, as the chain that [`pop`](Self::pop) would have made of it.
    pub fn chain_of(&mut self, burst: &mut Burst) -> Option<Chain> {
        if burst.is_empty() || !burst.is_of(self.buffers.queue()) {
            return None;
        }
        let first = burst.singles.remove(0);
        let mut body: Box<Body> = self.buffers.take();
        body.set_only(Segment::new(Some(first.host), first.at, first.len), first.access);
        body.written.set(first.written.into());
        (body.id, body.descriptors, body.sequence) = (first.id, 1, burst.sequence);
        burst.sequence = burst.sequence.wrapping_add(1);
        self.buffers.lend_from_burst();
        Some(Chain::new(body))
    }

    #[cold]
    fn log_singles(&self, done: &[Single]) {
        for single in done.iter().filter(|single| single.written > 0) {
            self.buffers.memory().written(single.at, single.written.into());
        }
    }
}

#[inline(always)]
fn used(single: &Single) -> Used {
    Used { id: single.id, written: single.written, buffers: 1, descriptors: 1 }
}

#[inline(always)]
fn push_each(ring: &mut Ring, done: &[Single]) -> Result<(), QueueError> {
    match ring {
        Ring::Split(ring) => done.iter().try_for_each(|single| ring.push_used(used(single))),
        Ring::Packed(ring) => done.iter().try_for_each(|single| ring.push_used(used(single))),
        Ring::Apart(_) => Ok(()),
    }
}

/// With `IN_ORDER`, buffers that come back before others which were made available earlier.
#[cold]
fn wait_for_turn(
    order: &mut Order,
    ring: &mut Ring,
    sequence: u16,
    done: &[Single],
) -> Result<(), QueueError> {
    for (single, nth) in done.iter().zip(0u16..) {
        order.insert(sequence.wrapping_add(nth), used(single), single.is_full());
    }
    drain(order, ring)
}

/// With `IN_ORDER`, buffers written whole and one behind them become one entry.
#[inline(always)]
fn push_runs(ring: &mut Ring, done: &[Single]) -> Result<(), QueueError> {
    for run in done.chunk_by(|earlier, _| earlier.is_full()) {
        let Some(last) = run.last() else { continue };
        let count = run.len() as u16;
        let used = Used { buffers: count, descriptors: count, ..used(last) };
        match ring {
            Ring::Split(ring) => ring.push_used(used)?,
            Ring::Packed(ring) => ring.push_used(used)?,
            Ring::Apart(_) => {}
        }
    }
    Ok(())
}
