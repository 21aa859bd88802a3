//! Processors for threads of their own.

use rustix::thread::{CpuSet, sched_setaffinity};

/// The `number`th of the processors that this thread may use, alone.
#[must_use]
pub fn processor(allowed: &CpuSet, number: usize) -> Option<CpuSet> {
    let processor = (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)).nth(number)?;
    let mut alone = CpuSet::new();
    alone.set(processor);
    Some(alone)
}

/// Keeps this thread on `processors`, if they are known: unpinned threads make a benchmark worse, not wrong.
pub fn pin(processors: Option<CpuSet>) {
    if let Some(processors) = processors {
        let _ = sched_setaffinity(None, &processors);
    }
}
