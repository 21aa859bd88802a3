//! What a front-end is told of its surroundings: limits, and the memory that it shares.

use crate::error::FrontendError;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use vioduct_virtio_device::MemoryMap;
use vioduct_virtqueue::IoAddr;

/// How long a front-end is patient with its server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Patience {
    /// How long one request may take to be answered. A server that needs longer is as good as gone.
    pub request: Duration,
    /// How long a call waits for a server that is gone to come back, before it fails.
    pub call: Duration,
    /// The pause after the first attempt to reconnect; each later one is twice as long.
    pub first_pause: Duration,
    /// No pause is longer.
    pub longest_pause: Duration,
    /// How long a server may be gone. After that the device needs a reset, and its driver is told.
    pub absence: Duration,
}

impl Default for Patience {
    /// 10 s for an answer and for a call, pauses of 5 ms to 1 s, 60 s of absence.
    fn default() -> Self {
        Self {
            request: Duration::from_secs(10),
            call: Duration::from_secs(10),
            first_pause: Duration::from_millis(5),
            longest_pause: Duration::from_secs(1),
            absence: Duration::from_secs(60),
        }
    }
}

/// Guest memory that the server is to map: part of a file.
#[derive(Clone, Debug)]
pub struct SharedRegion {
    /// Guest-physical address, a multiple of 4096.
    pub at: IoAddr,
    /// Length in bytes.
    pub len: u64,
    /// The file.
    pub file: Arc<OwnedFd>,
    /// Where the region starts in its file, in bytes; a multiple of 4096.
    pub offset: u64,
}

impl SharedRegion {
    /// All regions of `memory`.
    ///
    /// # Errors
    /// If one of them is in no file, so that no other process can map it; or if there is no file descriptor left.
    pub fn all_of(memory: &MemoryMap) -> Result<Vec<Self>, FrontendError> {
        let share = |(region, file): (vioduct_virtqueue::Region, Option<_>)| {
            let (file, offset): (std::os::fd::BorrowedFd<'_>, u64) =
                file.ok_or(FrontendError::PrivateMemory(region.at))?;
            let duplicate =
                |error: io::Error| FrontendError::System { action: "share memory", source: error };
            let file = Arc::new(file.try_clone_to_owned().map_err(duplicate)?);
            Ok(Self { at: region.at, len: region.len, file, offset })
        };
        memory.regions().map(share).collect()
    }

    /// Whether `len` bytes at `at` are in this region.
    pub(super) fn holds(&self, at: IoAddr, len: u64) -> bool {
        at.0.checked_sub(self.at.0)
            .and_then(|offset| offset.checked_add(len))
            .is_some_and(|end| end <= self.len)
    }
}
