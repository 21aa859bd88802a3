//! The initial RAM disk: as high as the kernel can use it, out of the way of what the kernel unpacks.

use super::image::Image;
use super::{BootError, Role, ram_map};
use std::ops::Range;
use std::path::Path;
use vioduct_virtio_device::MemoryMap;

const PAGE_LEN: u64 = 4096;

/// Loads it between `kernel_end` and `limit`, both addresses; the answer is where it lies, with its exact length.
pub(super) fn load(
    ram: &MemoryMap,
    path: &Path,
    kernel_end: u64,
    limit: u64,
) -> Result<Range<u64>, BootError> {
    let image = Image::open(Role::Initrd, path)?;
    let len = image.len();
    let start = kernel_end.checked_next_multiple_of(PAGE_LEN).unwrap_or(u64::MAX);
    let end = limit.min(ram_map::low_end(ram));
    let room = end.saturating_sub(start);
    let at = end.checked_sub(len).map(|at| at - at % PAGE_LEN).filter(|at| *at >= start);
    let at = at.ok_or_else(|| BootError::InitrdTooLarge { path: path.to_owned(), len, room })?;
    image.copy(0, len, ram, at)?;
    Ok(at..at + len)
}
