//! Loads a kernel: everything that a firmware would have left in memory for it.
//!
//! Two kinds of file boot. A bzImage is entered in 64-bit mode by Linux's boot protocol (Linux, Documentation/arch/x86/boot.rst, "64-bit
//! Boot Protocol"). An ELF file with a note that names its entry is entered in 32-bit protected mode by the PVH protocol (Xen,
//! docs/misc/pvh.pandoc and xen/include/public/arch-x86/hvm/start_info.h). Both are told of RAM, initial RAM disk, command line and ACPI
//! tables. Why the parsers are ours: docs/decisions/0007.
//!
//! The files come from the user, and any of their bytes may be wrong: what cannot boot is an error in one line, and never a panic.

mod bzimage;
mod elf;
mod image;
mod initrd;
mod places;
mod ram_map;
mod reset_vector;
#[cfg(test)]
mod tests;

use self::image::Image;
pub use self::places::LOW_MEMORY_TAKEN;
pub(crate) use self::places::{GDT, PAGE_TABLES};
use std::io;
use std::path::{Path, PathBuf};
use vioduct_virtio_device::MemoryMap;
use vioduct_virtqueue::MemoryFault;

/// What a guest is started from.
#[derive(Clone, Debug)]
pub struct BootSources {
    /// The kernel: a bzImage, or an ELF file with a PVH entry.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub command_line: String,
}

/// Where the first processor begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Guest-physical address of the first instruction.
    pub instruction_pointer: u64,
    /// The mode that the kernel expects the processor in, and what it expects in a register.
    pub mode: Mode,
}

/// How a kernel is entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// 64-bit mode, paging on.
    Long {
        /// Address of `struct boot_params`, which goes into RSI.
        boot_params: u64,
    },
    /// 32-bit protected mode, paging off.
    Pvh {
        /// Address of `struct hvm_start_info`, which goes into EBX.
        start_info: u64,
    },
}

/// Why nothing can be booted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// A file cannot be opened or read.
    #[error("cannot read the {role} {}: {source}: check the path and its permissions", path.display())]
    File {
        /// What the file is wanted for.
        role: Role,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A directory, a pipe, a device.
    #[error("the {role} {} is not a regular file: name the file itself", path.display())]
    NotAFile {
        /// What the file is wanted for.
        role: Role,
        /// What is there instead.
        path: PathBuf,
    },
    /// No kind of kernel that is known here.
    #[error("{} is not a kernel: give a bzImage (such as /boot/vmlinuz) or an ELF vmlinux with a PVH entry", .0.display())]
    NotAKernel(PathBuf),
    /// It ends before what its header announces.
    #[error("the kernel {} is truncated: it has {len} bytes of at least {needed}: copy or build it again", path.display())]
    Truncated {
        /// The kernel.
        path: PathBuf,
        /// Length of the file in bytes.
        len: u64,
        /// Bytes that it should have.
        needed: u64,
    },
    /// It cannot be booted in the way that it should.
    #[error("the kernel {} {problem}", path.display())]
    Unusable {
        /// The kernel.
        path: PathBuf,
        /// What is wrong and what to do, as the end of a sentence.
        problem: &'static str,
    },
    /// It does not fit into RAM.
    #[error("the kernel {} needs memory up to {} MiB, the guest has {} MiB below 3 GiB: give it more memory",
        path.display(), needed.div_ceil(1 << 20), ram >> 20)]
    KernelTooLarge {
        /// The kernel.
        path: PathBuf,
        /// End of what it uses before it manages its memory itself, an address.
        needed: u64,
        /// End of the RAM from address 0 on.
        ram: u64,
    },
    /// The RAM disk does not fit behind the kernel.
    #[error("the initrd {} has {len} bytes, and there is room for {room}: give the guest more memory or use a smaller initrd", path.display())]
    InitrdTooLarge {
        /// The RAM disk.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
        /// Bytes between the kernel and the end of what it can use.
        room: u64,
    },
    /// The command line is longer than the kernel takes.
    #[error("the command line has {len} bytes, this kernel takes {limit}: shorten it")]
    CommandLineTooLong {
        /// Its length in bytes.
        len: u64,
        /// Most that the kernel takes.
        limit: u64,
    },
    /// There is no RAM where every guest has some.
    #[error("the guest has no memory where boot data goes: {0}: give it at least 16 MiB")]
    Memory(#[from] MemoryFault),
}

/// What a file is wanted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The kernel.
    Kernel,
    /// The initial RAM disk.
    Initrd,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
        })
    }
}

/// Loads the kernel and all that it is told into `ram`. `acpi_rsdp` is the address of the ACPI tables' root, as
/// [`acpi::write`](crate::acpi::write) returns it.
///
/// RAM from address 0 on must be one region. What is written: the kernel at the address that it asks for, the RAM disk as far up as it
/// may be, the rest below [`LOW_MEMORY_TAKEN`], and a few bytes at the reset vector below 1 MiB.
///
/// # Errors
/// If one of the files cannot be used, or does not fit; see [`BootError`].
pub fn load(ram: &MemoryMap, sources: &BootSources, acpi_rsdp: u64) -> Result<Entry, BootError> {
    let image = Image::open(Role::Kernel, &sources.kernel)?;
    let entry = match image.kind()? {
        image::Kind::BzImage => bzimage::load(ram, &image, sources, acpi_rsdp)?,
        image::Kind::Elf => elf::load(ram, &image, sources, acpi_rsdp)?,
    };
    reset_vector::write(ram)?;
    Ok(entry)
}

/// Refuses a command line of more than `limit` bytes, and writes it with the zero that ends it.
fn write_command_line(ram: &MemoryMap, text: &str, limit: u64) -> Result<(), BootError> {
    use vioduct_virtqueue::{IoAddr, Memory};
    let limit = limit.min(places::COMMAND_LINE_LEN - 1);
    let len = text.len() as u64;
    if len > limit {
        return Err(BootError::CommandLineTooLong { len, limit });
    }
    ram.write(IoAddr(places::COMMAND_LINE), text.as_bytes())?;
    Ok(ram.write(IoAddr(places::COMMAND_LINE + len), &[0])?)
}

/// Refuses a kernel that needs memory up to `needed`, where the guest's ends before.
fn check_kernel_end(ram: &MemoryMap, kernel: &Path, needed: u64) -> Result<(), BootError> {
    let ram = ram_map::low_end(ram);
    if needed > ram {
        return Err(BootError::KernelTooLarge { path: kernel.to_owned(), needed, ram });
    }
    Ok(())
}
