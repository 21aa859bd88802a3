//! `IN_ORDER` on the device end (virtio 1.3 §2.7.9, §2.8.8): buffers are used in the order in which they were made available,
//! whatever the order in which a device completes them.

use crate::device::Used;
use alloc::boxed::Box;
use alloc::vec;

/// Completions that wait for those before them, by sequence number modulo 2^16.
pub(crate) struct Order {
    slots: Box<[Option<Waiting>]>,
    /// Sequence number of the next buffer to be popped. These are words of their own: two halves of one, written apart and read together,
    /// are waited for (docs/decisions/0003).
    popped: u32,
    /// Sequence number of the next buffer to be used.
    next: u32,
    /// How many wait.
    waiting: u32,
}

#[derive(Clone, Copy)]
struct Waiting {
    used: Used,
    /// Every byte of the writable part was written, as a driver assumes of a buffer that a later one's entry stands for.
    full: bool,
}

impl Order {
    pub(crate) fn new(size: u16) -> Self {
        // A power of two, so that sequence numbers map to slots without a break where they wrap.
        Self {
            slots: vec![None; usize::from(size).next_power_of_two()].into_boxed_slice(),
            popped: 0,
            next: 0,
            waiting: 0,
        }
    }

    /// The sequence number of a buffer that is being popped.
    pub(crate) fn stamp(&mut self) -> u16 {
        let sequence = self.popped as u16;
        self.popped = self.popped.wrapping_add(1);
        sequence
    }

    /// The sequence number of the buffer that is popped next.
    pub(crate) fn upcoming(&self) -> u16 {
        self.popped as u16
    }

    /// So many buffers were popped in a run.
    pub(crate) fn stamp_run(&mut self, count: usize) {
        self.popped = self.popped.wrapping_add(count as u32);
    }

    /// As [`pass`](Self::pass), for a run of completions from `sequence` on.
    #[inline(always)]
    pub(crate) fn pass_run(&mut self, sequence: u16, count: usize) -> bool {
        let passes = self.waiting == 0 && sequence == self.next as u16;
        self.next = self.next.wrapping_add(if passes { count as u32 } else { 0 });
        passes
    }

    fn slot(&mut self, sequence: u16) -> Option<&mut Option<Waiting>> {
        let index = usize::from(sequence) & (self.slots.len() - 1);
        self.slots.get_mut(index)
    }

    /// Whether a completion's turn has come, and none is behind it already: then it has passed, and is to be written at once.
    #[inline(always)]
    pub(crate) fn pass(&mut self, sequence: u16) -> bool {
        let passes = self.waiting == 0 && sequence == self.next as u16;
        self.next = self.next.wrapping_add(u32::from(passes));
        passes
    }

    /// Has a completion wait for its turn.
    pub(crate) fn insert(&mut self, sequence: u16, used: Used, full: bool) {
        if let Some(slot) = self.slot(sequence) {
            *slot = Some(Waiting { used, full });
            self.waiting += 1;
        }
    }

    /// The next used entry that can be written. A run of fully written buffers becomes one entry, that of the last of them:
    /// a driver knows what the entries left out would have said.
    pub(crate) fn next(&mut self) -> Option<Used> {
        let mut merged: Option<Used> = None;
        loop {
            let next = self.next;
            let waiting = self.slot(next as u16).and_then(Option::take);
            let Some(Waiting { used, full }) = waiting else { return merged };
            self.next = next.wrapping_add(1);
            self.waiting -= 1;
            let (buffers, descriptors) = merged.map_or((0, 0), |run| (run.buffers, run.descriptors));
            let run =
                Used { buffers: buffers + used.buffers, descriptors: descriptors + used.descriptors, ..used };
            if !full {
                return Some(run);
            }
            merged = Some(run);
        }
    }
}
