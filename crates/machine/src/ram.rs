//! The guest's RAM, below and above the hole: memory of this process, or files in memory that other processes can map.

use crate::layout::{HIGH_RAM, LOW_RAM_END, MAX_RAM};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
use std::io;
use std::sync::Arc;
use vioduct_virtio_device::{Backing, MapError, MemoryMap, RegionSetup};
use vioduct_virtqueue::{Access, IoAddr};

/// Pages that hold the guest's RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Pages {
    /// Of this process alone, and as large as the kernel finds them: a guest that first touches a page of 2 MiB leaves once, and not
    /// 512 times.
    Private,
    /// Those of 4 KiB, which servers of devices can map.
    #[default]
    Small,
    /// Reserved ones of 2 MiB, which take fewer steps to translate; servers of devices can map them.
    Huge,
}

/// Why there is no RAM for a guest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RamError {
    /// Not a size that a guest can have.
    #[error("{0:#x} bytes of memory: choose 16 MiB to 256 GiB, in steps of {step} MiB", step = STEP >> 20)]
    Size(u64),
    /// There are not enough huge pages.
    #[error("cannot reserve {0} MiB in huge pages (as root: echo N > /proc/sys/vm/nr_hugepages): {1}")]
    HugePages(u64, io::Error),
    /// It cannot be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
}

/// A guest's memory is a multiple of this, in bytes.
const STEP: u64 = 2 << 20;
const LEAST: u64 = 16 << 20;

/// RAM of `bytes` bytes: from address 0 up to the hole, and the rest from 4 GiB on.
///
/// # Errors
/// If it is too little or too much, or the host has none to give.
pub fn allocate(bytes: u64, pages: Pages) -> Result<Arc<MemoryMap>, RamError> {
    if !(LEAST..=MAX_RAM).contains(&bytes) || !bytes.is_multiple_of(STEP) {
        return Err(RamError::Size(bytes));
    }
    let low = bytes.min(LOW_RAM_END);
    let parts = [(0, low), (HIGH_RAM, bytes - low)];
    let regions = parts.into_iter().filter(|(_, len)| *len > 0).map(|(at, len)| {
        let backing = match pages {
            Pages::Private => Backing::Anonymous,
            Pages::Small => Backing::Shared,
            Pages::Huge => huge(len).map_err(|error| RamError::HugePages(len >> 20, error))?,
        };
        Ok(RegionSetup { at: IoAddr(at), len, access: Access::ReadWrite, backing })
    });
    Ok(Arc::new(MemoryMap::new(regions.collect::<Result<_, RamError>>()?)?))
}

fn huge(len: u64) -> io::Result<Backing> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    let file = memfd_create("guest-ram", flags)?;
    ftruncate(&file, len)?;
    // All pages now, or the first touch of one that there is not would kill this process.
    fallocate(&file, FallocateFlags::empty(), 0, len)?;
    Ok(Backing::File { file: Arc::new(file), offset: 0 })
}

#[cfg(test)]
mod tests {
    use super::{Pages, RamError, allocate};

    #[test]
    fn ram_leaves_the_hole_free() {
        let regions = |bytes| -> Vec<(u64, u64)> {
            let ram = allocate(bytes, Pages::Small).unwrap();
            ram.regions().map(|(region, _)| (region.at.0, region.len)).collect()
        };
        assert_eq!(regions(64 << 20), [(0, 64 << 20)]);
        assert_eq!(regions(3 << 30), [(0, 3 << 30)]);
        assert_eq!(regions(4 << 30), [(0, 3 << 30), (4 << 30, 1 << 30)]);
    }

    #[test]
    fn what_is_private_has_no_file() {
        let has_file = |pages| allocate(16 << 20, pages).unwrap().regions().any(|(_, file)| file.is_some());
        assert!(has_file(Pages::Small) && !has_file(Pages::Private));
    }

    /// As many as no host has reserved.
    #[test]
    fn huge_pages_that_there_are_not_are_an_error() {
        let refusal = allocate(64 << 30, Pages::Huge).err().unwrap();
        assert!(refusal.to_string().contains("nr_hugepages"), "{refusal}");
    }

    #[test]
    fn sizes_that_are_none_are_refused() {
        for bytes in [0, 1 << 20, (64 << 20) + 1, 1 << 40] {
            assert!(matches!(allocate(bytes, Pages::Small), Err(RamError::Size(found)) if found == bytes));
        }
    }
}
