//! What the guest is told of its RAM, by either protocol.

use super::places::{LEGACY_HOLE, ONE_MIB};
use crate::layout::ECAM;
use std::ops::Range;
use vioduct_virtio_device::MemoryMap;

/// What is at an address: the numbers are those of E820, and of PVH too (`XEN_HVM_MEMMAP_TYPE_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum Kind {
    Ram = 1,
    Reserved = 2,
}

/// Ranges of a table in `struct boot_params`, the smaller one of the two.
pub(super) const MOST_RANGES: usize = 128;

/// End of the RAM that begins at 0, an address; 0 if none begins there.
pub(super) fn low_end(ram: &MemoryMap) -> u64 {
    ram.regions().find(|(region, _)| region.at.0 == 0).map_or(0, |(region, _)| region.len)
}

/// RAM, and what must not be taken for free, by address.
///
/// The legacy hole holds the ACPI tables. Configuration space is reserved because Linux uses it only where it is
/// (`pci_mmcfg_check_reserved`).
pub(super) fn ranges(ram: &MemoryMap) -> Vec<(Range<u64>, Kind)> {
    let mut ranges = Vec::new();
    for (region, _) in ram.regions() {
        let (start, end) = (region.at.0, region.at.0 + region.len);
        let below = start..end.min(LEGACY_HOLE);
        let hole = start.max(LEGACY_HOLE)..end.min(ONE_MIB);
        let above = start.max(ONE_MIB)..end;
        ranges.extend([(below, Kind::Ram), (hole, Kind::Reserved), (above, Kind::Ram)]);
    }
    ranges.push((ECAM, Kind::Reserved));
    ranges.retain(|(range, _)| !range.is_empty());
    ranges.sort_by_key(|(range, _)| range.start);
    ranges.truncate(MOST_RANGES);
    ranges
}
