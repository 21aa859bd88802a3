//! Where boot data lies in the guest's first megabyte. The kernel takes these pages over once it has read them.

/// End of what [`load`](super::load) and [`cpu`](crate::cpu) use of the memory below the kernel.
pub const LOW_MEMORY_TAKEN: u64 = COMMAND_LINE + COMMAND_LINE_LEN;

/// The global descriptor table: a few descriptors of 8 bytes.
pub(crate) const GDT: u64 = 0x500;
/// `struct hvm_start_info` of the PVH protocol, and the lists that it points to.
pub(super) const START_INFO: u64 = 0x6000;
/// The list of modules, of which there is one at most.
pub(super) const MODULES: u64 = START_INFO + 0x40;
/// The map of memory.
pub(super) const PVH_MEMORY_MAP: u64 = START_INFO + 0x80;
/// `struct boot_params`, a page.
pub(super) const BOOT_PARAMS: u64 = 0x7000;
/// Page tables that map the first 4 GiB: six pages.
pub(crate) const PAGE_TABLES: u64 = 0x9000;
/// The command line.
pub(super) const COMMAND_LINE: u64 = 0x2_0000;
/// Bytes that there are for it, with the zero at its end.
pub(super) const COMMAND_LINE_LEN: u64 = 0x1_0000;

/// From here on a PC has no RAM: the hole of the old graphics memory and ROMs.
pub(super) const LEGACY_HOLE: u64 = 0xa_0000;
/// Where a processor in real mode finds a PC's firmware: f000:fff0. The ACPI tables end before it.
pub(super) const RESET_VECTOR: u64 = 0xf_fff0;
/// RAM goes on, and kernels may be loaded.
pub(super) const ONE_MIB: u64 = 0x10_0000;
