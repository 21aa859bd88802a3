//! [`WriteCheck`]: whether every page that a device writes is in the memory's log, as a live migration needs it.

use std::collections::BTreeSet;
use std::ops::Range;

use vioduct_virtio_device::memory::LOG_PAGE_LEN;
use vioduct_virtqueue::{IoAddr, Memory};

use crate::GuestDma;
use crate::failure::{Failure, Outcome};

/// Compares guest memory from before and after a device worked, page by page, with what the log says in the end. It looks at
/// pages that drivers have been given: whoever begins a check has called `start_log`, and no driver runs while the device works.
pub struct WriteCheck {
    dma: GuestDma,
    changed: BTreeSet<u64>,
}

impl WriteCheck {
    /// Nothing has been written yet.
    #[must_use]
    pub fn new(dma: GuestDma) -> Self {
        Self { dma, changed: BTreeSet::new() }
    }

    /// Has the device work, and notes which pages that changes.
    pub fn while_the_device_works<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let before: Vec<_> =
            self.dma.in_use().into_iter().flat_map(pages).map(|at| (at, self.page(at))).collect();
        let outcome = work();
        let changed = before.into_iter().filter(|(at, bytes)| self.page(*at) != *bytes);
        self.changed.extend(changed.map(|(at, _)| at).collect::<Vec<_>>());
        outcome
    }

    /// How many pages the device has changed.
    #[must_use]
    pub fn changed(&self) -> usize {
        self.changed.len()
    }

    /// Takes the log, once the queues have stopped.
    ///
    /// # Errors
    /// If a page that has changed is not in it.
    pub fn compare(&self) -> Outcome {
        let logged: BTreeSet<u64> = self.dma.memory().take_dirty().into_iter().map(|page| page.0).collect();
        let missing: Vec<String> = self.changed.difference(&logged).map(|at| format!("{at:#x}")).collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Failure::new(format!("written, and not in the log: {}", missing.join(", ")))),
        }
    }

    fn page(&self, at: u64) -> Vec<u8> {
        let mut bytes = vec![0; LOG_PAGE_LEN as usize];
        // Pages that were given out are there.
        let _ = self.dma.memory().read(IoAddr(at), &mut bytes);
        bytes
    }
}

fn pages(range: Range<u64>) -> impl Iterator<Item = u64> {
    range.step_by(LOG_PAGE_LEN as usize)
}
