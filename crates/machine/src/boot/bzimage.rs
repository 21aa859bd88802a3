//! bzImage by the 64-bit boot protocol (Linux, Documentation/arch/x86/boot.rst).

use super::image::{Image, field};
use super::places::{BOOT_PARAMS, COMMAND_LINE, ONE_MIB};
use super::{BootError, BootSources, Entry, Mode, check_kernel_end, initrd, ram_map, write_command_line};
use std::ops::Range;
use vioduct_virtio_device::MemoryMap;
use vioduct_virtqueue::{IoAddr, Memory};

/// Offsets of the setup header's fields, the same in the file and in `struct boot_params` (boot.rst, "The Real-Mode Kernel Header").
mod offset {
    pub(super) const SETUP_SECTS: usize = 0x1f1;
    pub(super) const SYSSIZE: usize = 0x1f4;
    pub(super) const VID_MODE: usize = 0x1fa;
    pub(super) const JUMP: usize = 0x201;
    pub(super) const VERSION: usize = 0x206;
    pub(super) const TYPE_OF_LOADER: usize = 0x210;
    pub(super) const LOADFLAGS: usize = 0x211;
    pub(super) const RAMDISK_IMAGE: usize = 0x218;
    pub(super) const RAMDISK_SIZE: usize = 0x21c;
    pub(super) const CMD_LINE_PTR: usize = 0x228;
    pub(super) const INITRD_ADDR_MAX: usize = 0x22c;
    pub(super) const KERNEL_ALIGNMENT: usize = 0x230;
    pub(super) const RELOCATABLE_KERNEL: usize = 0x234;
    pub(super) const XLOADFLAGS: usize = 0x236;
    pub(super) const CMDLINE_SIZE: usize = 0x238;
    pub(super) const PREF_ADDRESS: usize = 0x258;
    pub(super) const INIT_SIZE: usize = 0x260;
    /// End of what protocol 2.12 has.
    pub(super) const END_OF_2_12: usize = 0x264;
}

/// Offsets in `struct boot_params` beside the header (Linux, Documentation/arch/x86/zero-page.rst).
mod zero_page {
    pub(super) const LEN: usize = 0x1000;
    pub(super) const ACPI_RSDP_ADDR: usize = 0x070;
    pub(super) const E820_ENTRIES: usize = 0x1e8;
    pub(super) const E820_TABLE: usize = 0x2d0;
    pub(super) const E820_ENTRY_LEN: usize = 20;
    /// The header ends before this.
    pub(super) const HEADER_END: usize = 0x290;
}

const SECTOR_LEN: u64 = 512;
/// Protocol 2.12, Linux 3.8: `xloadflags`.
const OLDEST_VERSION: u16 = 0x020c;
const LOADED_HIGH: u8 = 1;
/// `XLF_KERNEL_64`: there is a 64-bit entry.
const KERNEL_64: u16 = 1;
/// The 64-bit entry, in bytes from where the kernel is loaded.
const ENTRY_64: u64 = 0x200;
/// No boot loader with a number of its own.
const UNDEFINED_LOADER: u8 = 0xff;
/// The video mode that is set already.
const NORMAL_VIDEO: u16 = 0xffff;

/// What the setup header says of this kernel.
struct Header {
    /// From the start of the file to the end of the header.
    bytes: Vec<u8>,
    /// Of the part that is loaded, in the file.
    kernel: Range<u64>,
    /// Where it is loaded, an address.
    load_at: u64,
    /// End of what it needs before it knows its memory, an address.
    end: u64,
    /// Most bytes of the command line, without the zero at its end.
    command_line_limit: u64,
    /// First address that the RAM disk must not reach.
    initrd_limit: u64,
}

/// Loads the kernel and what it is told.
pub(super) fn load(
    ram: &MemoryMap,
    image: &Image,
    sources: &BootSources,
    acpi_rsdp: u64,
) -> Result<Entry, BootError> {
    let header = Header::read(image)?;
    check_kernel_end(ram, image.path(), header.end)?;
    write_command_line(ram, &sources.command_line, header.command_line_limit)?;
    let initrd = sources.initrd.as_deref();
    let initrd = initrd.map(|path| initrd::load(ram, path, header.end, header.initrd_limit)).transpose()?;
    image.copy(header.kernel.start, header.kernel.end - header.kernel.start, ram, header.load_at)?;
    let page = boot_params(ram, &header, initrd.unwrap_or_default(), acpi_rsdp);
    ram.write(IoAddr(BOOT_PARAMS), &page)?;
    let mode = Mode::Long { boot_params: BOOT_PARAMS };
    Ok(Entry { instruction_pointer: header.load_at + ENTRY_64, mode })
}

impl Header {
    fn read(image: &Image) -> Result<Self, BootError> {
        let start = image.bytes(0, offset::END_OF_2_12 as u64)?;
        let fields = Fields(&start);
        if fields.u16(offset::VERSION) < OLDEST_VERSION || fields.u16(offset::XLOADFLAGS) & KERNEL_64 == 0 {
            return Err(image.unusable("has no 64-bit entry: use Linux 3.8 or later, built for x86-64"));
        }
        if fields.u8(offset::LOADFLAGS) & LOADED_HIGH == 0 {
            return Err(image.unusable("is a zImage, which is loaded below 1 MiB: build a bzImage"));
        }
        let kernel = kernel_in_file(image, &fields)?;
        let (load_at, end) = place(image, &fields, kernel.end - kernel.start)?;
        // The header's end follows from the jump over it (boot.rst, "64-bit Boot Protocol").
        let header_end = 0x202 + usize::from(fields.u8(offset::JUMP));
        let header_end = header_end.clamp(offset::END_OF_2_12, zero_page::HEADER_END);
        Ok(Self {
            command_line_limit: u64::from(fields.u32(offset::CMDLINE_SIZE)),
            initrd_limit: u64::from(fields.u32(offset::INITRD_ADDR_MAX)) + 1,
            bytes: image.bytes(0, header_end as u64)?,
            kernel,
            load_at,
            end,
        })
    }
}

/// Where the protected-mode kernel lies in the file (boot.rst, "Loading The Rest of The Kernel").
fn kernel_in_file(image: &Image, fields: &Fields<'_>) -> Result<Range<u64>, BootError> {
    // For compatibility with the oldest kernels, 0 stands for 4.
    let sectors = match fields.u8(offset::SETUP_SECTS) {
        0 => 4,
        sectors => u64::from(sectors),
    };
    let start = (sectors + 1) * SECTOR_LEN;
    // In paragraphs of 16 bytes.
    let end = start + u64::from(fields.u32(offset::SYSSIZE)) * 16;
    if end > image.len() {
        return Err(image.truncated(end));
    }
    if end == start {
        return Err(image.unusable("is damaged, its length is 0: copy or build it again"));
    }
    Ok(start..end)
}

/// Where the kernel is loaded, and the end of what it uses from there on (boot.rst on `init_size`: it begins at `pref_address` even where it
/// is loaded below, so nothing is gained there).
fn place(image: &Image, fields: &Fields<'_>, kernel_len: u64) -> Result<(u64, u64), BootError> {
    let damaged = || image.unusable("is damaged, it asks for an impossible address: copy or build it again");
    let preferred = fields.u64(offset::PREF_ADDRESS);
    let load_at = match fields.u8(offset::RELOCATABLE_KERNEL) {
        0 => preferred,
        _ => {
            let alignment = u64::from(fields.u32(offset::KERNEL_ALIGNMENT));
            let alignment = Some(alignment).filter(|bytes| bytes.is_power_of_two()).ok_or_else(damaged)?;
            preferred.checked_next_multiple_of(alignment).ok_or_else(damaged)?
        }
    };
    if load_at < ONE_MIB {
        return Err(damaged());
    }
    let len = kernel_len.max(u64::from(fields.u32(offset::INIT_SIZE)));
    let end = load_at.checked_add(len).ok_or_else(damaged)?;
    Ok((load_at, end))
}

/// The zero page. All of it that no one writes is zero, the `sentinel` included, which says that it is (boot.rst, "64-bit Boot Protocol").
fn boot_params(ram: &MemoryMap, header: &Header, initrd: Range<u64>, acpi_rsdp: u64) -> Vec<u8> {
    let mut page = Page(vec![0; zero_page::LEN]);
    page.put(offset::SETUP_SECTS, header.bytes.get(offset::SETUP_SECTS..).unwrap_or_default());
    page.put(offset::VID_MODE, &NORMAL_VIDEO.to_le_bytes());
    page.put(offset::TYPE_OF_LOADER, &[UNDEFINED_LOADER]);
    // Everything is below 4 GiB, so the upper halves (`ext_*`) stay 0.
    page.put(offset::CMD_LINE_PTR, &(COMMAND_LINE as u32).to_le_bytes());
    page.put(offset::RAMDISK_IMAGE, &(initrd.start as u32).to_le_bytes());
    page.put(offset::RAMDISK_SIZE, &((initrd.end - initrd.start) as u32).to_le_bytes());
    page.put(zero_page::ACPI_RSDP_ADDR, &acpi_rsdp.to_le_bytes());
    let ranges = ram_map::ranges(ram);
    page.put(zero_page::E820_ENTRIES, &[ranges.len() as u8]);
    for (place, (range, kind)) in ranges.into_iter().enumerate() {
        let at = zero_page::E820_TABLE + place * zero_page::E820_ENTRY_LEN;
        page.put(at, &range.start.to_le_bytes());
        page.put(at + 8, &(range.end - range.start).to_le_bytes());
        page.put(at + 16, &(kind as u32).to_le_bytes());
    }
    page.0
}

struct Page(Vec<u8>);

impl Page {
    fn put(&mut self, at: usize, data: &[u8]) {
        let place = self.0.get_mut(at..at + data.len());
        place.expect("invariant: fields and header lie in the page").copy_from_slice(data);
    }
}

/// The start of the file, up to [`offset::END_OF_2_12`].
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        field(self.0, at).expect("invariant: fields lie before the end of the header")
    }
    fn u8(&self, at: usize) -> u8 {
        u8::from_le_bytes(self.array(at))
    }
    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }
    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }
    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }
}
