// SPDX-License-Identifier: GPL-2.0

//! A virtqueue: its lock, and its worker's view of it.
//!
//! Unsafe code calls the core's functions on a queue, each under the queue's lock.
#![allow(unsafe_code)]

use super::bindings as c;
use super::chain::Chain;
use super::device::{Backend, Device};
use core::marker::PhantomData;
use core::ptr::null_mut;
use kernel::prelude::*;

/// Whether a queue's chains are answered.
pub(super) enum State {
    Running,
    Stopped,
}

/// A queue whose lock is held.
///
/// # Invariants
///
/// The queue is initialized and lives for `'a`; its lock is held.
pub(super) struct RingLock<'a> {
    ring: *mut c::vhost_virtqueue,
    _device: PhantomData<&'a ()>,
}

impl<'a> RingLock<'a> {
    /// Takes the lock of one of the device's queues.
    pub(super) fn new<B: Backend>(_device: &'a Device<B>, ring: *mut c::vhost_virtqueue) -> Self {
        // SAFETY: the queue is the device's, which has initialized it.
        unsafe { c::vioduct_vhost_lock(&raw mut (*ring).mutex) };
        // INVARIANT: the lock was just taken; the queue lives as long as the device.
        Self { ring, _device: PhantomData }
    }

    pub(super) fn is_running(&self) -> bool {
        // SAFETY: the lock is held, by the type's invariant.
        !unsafe { (*self.ring).private_data }.is_null()
    }

    /// The core takes a queue that runs for one with a back-end, and leaves its size and position alone.
    pub(super) fn set(&mut self, state: State) {
        let mark = match state {
            State::Running => self.ring.cast(),
            State::Stopped => null_mut(),
        };
        // SAFETY: the lock is held, by the type's invariant. The core looks whether this is null, and no further.
        unsafe { (*self.ring).private_data = mark };
    }

    pub(super) fn features(&self) -> u64 {
        // SAFETY: the lock is held, by the type's invariant.
        unsafe { c::vioduct_vhost_features(self.ring) }
    }

    pub(super) fn set_features(&mut self, features: u64) {
        // SAFETY: the lock is held, by the type's invariant.
        unsafe { c::vioduct_vhost_set_features(self.ring, features) }
    }
}

impl Drop for RingLock<'_> {
    fn drop(&mut self) {
        // SAFETY: the lock is held, by the type's invariant, and not used any more.
        unsafe { c::vioduct_vhost_unlock(&raw mut (*self.ring).mutex) };
    }
}

/// A queue that runs, for its worker's turn.
pub(crate) struct Queue<'a> {
    lock: RingLock<'a>,
    index: usize,
    /// Chains were used that the driver has not been told of.
    unannounced: bool,
}

impl<'a> Queue<'a> {
    /// `None` for a queue that was stopped since it was kicked.
    pub(super) fn running(lock: RingLock<'a>, index: usize) -> Option<Self> {
        lock.is_running().then_some(Self { lock, index, unannounced: false })
    }

    /// The queue's number.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Answers every chain that is available, until there is none or the turn is over; then another turn follows.
    ///
    /// A chain is completed with what was written when `answer` returns. An error of its makes the ring's error event,
    /// for the program behind the device, and concerns this chain alone. A ring that makes no sense makes that event,
    /// too, and is left alone until its next kick.
    pub(crate) fn drain(&mut self, mut answer: impl FnMut(&mut Chain<'_>) -> Result) {
        let (mut chains, mut bytes) = (0, 0);
        loop {
            let taken = self.pop().map(|chain| chain.map(|mut chain| (answer(&mut chain), chain.complete())));
            let (answered, len) = match taken {
                Ok(Some(outcome)) => outcome,
                Ok(None) if self.arm() == Armed::Quiet => break,
                Ok(None) => continue,
                Err(_) => break,
            };
            if answered.is_err() {
                self.report_error();
            }
            let Ok(len) = len else { break };
            self.unannounced = true;
            chains += 1;
            bytes = len.saturating_add(bytes);
            // SAFETY: the lock is held, by its type's invariant.
            if unsafe { c::vhost_exceeds_weight(self.ring(), chains, bytes) } {
                break;
            }
        }
        self.announce();
    }

    /// The next chain, while the driver is asked for no kicks.
    fn pop(&mut self) -> Result<Option<Chain<'_>>> {
        let ring = self.ring();
        // SAFETY: the lock is held, by its type's invariant. The core must not be asked for a chain without this.
        unsafe { c::vhost_disable_notify((*ring).dev, ring) };
        // SAFETY: kicks are off.
        unsafe { Chain::next(self) }
    }

    /// Asks for kicks again, after the driver was told of what it has not been told of yet.
    fn arm(&mut self) -> Armed {
        self.announce();
        let ring = self.ring();
        // SAFETY: the lock is held, by its type's invariant.
        if unsafe { c::vhost_enable_notify((*ring).dev, ring) } { Armed::MoreAvailable } else { Armed::Quiet }
    }

    fn announce(&mut self) {
        if core::mem::take(&mut self.unannounced) {
            let ring = self.ring();
            // SAFETY: the lock is held, by its type's invariant.
            unsafe { c::vhost_signal((*ring).dev, ring) };
        }
    }

    fn report_error(&mut self) {
        // SAFETY: the lock is held, by its type's invariant.
        unsafe { c::vioduct_vhost_report_error(self.ring()) };
    }

    pub(super) fn ring(&self) -> *mut c::vhost_virtqueue {
        self.lock.ring
    }

    pub(super) fn features(&self) -> u64 {
        self.lock.features()
    }
}

/// Whether chains became available while kicks were off.
#[derive(PartialEq, Eq)]
enum Armed {
    /// None: the next one makes a kick.
    Quiet,
    /// Some: look again.
    MoreAvailable,
}
