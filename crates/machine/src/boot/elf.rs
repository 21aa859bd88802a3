//! ELF files by the PVH protocol (Xen, docs/misc/pvh.pandoc, and xen/include/public/arch-x86/hvm/start_info.h).

use super::image::{Image, field};
use super::places::{COMMAND_LINE, MODULES, ONE_MIB, PVH_MEMORY_MAP, START_INFO};
use super::{BootError, BootSources, Entry, Mode, check_kernel_end, initrd, ram_map, write_command_line};
use std::ops::Range;
use vioduct_virtio_device::MemoryMap;
use vioduct_virtqueue::{IoAddr, Memory};

const HEADER_LEN: u64 = 64;
const SEGMENT_LEN: u64 = 56;
/// Class ELF64, little-endian.
const IDENTITY: [u8; 2] = [2, 1];
const X86_64: u16 = 62;
const LOAD: u32 = 1;
const NOTE: u32 = 4;
/// Notes of a kernel have a few hundred bytes.
const MOST_NOTES_LEN: u64 = 1 << 20;
/// `XEN_ELFNOTE_PHYS32_ENTRY`: the physical address of the PVH entry.
const PVH_ENTRY: u32 = 18;
const PVH_OWNER: &[u8] = b"Xen\0";

/// `XEN_HVM_START_MAGIC_VALUE`.
const START_MAGIC: u32 = 0x336e_c578;
/// The version with a memory map.
const START_VERSION: u32 = 1;
/// The protocol has no limit, and a kernel does not say its own: this is Linux's on x86 (`COMMAND_LINE_SIZE`), less the zero.
const COMMAND_LINE_LIMIT: u64 = 2047;
/// End of what 32-bit code reaches.
const INITRD_LIMIT: u64 = 1 << 32;

/// One program header (ELF-64 Object File Format, §7).
struct Segment {
    kind: u32,
    /// In the file.
    at: u64,
    len: u64,
    /// A physical address.
    to: u64,
    /// In memory; what the file does not fill is zero.
    memory_len: u64,
}

/// Loads the kernel and what it is told.
pub(super) fn load(
    ram: &MemoryMap,
    image: &Image,
    sources: &BootSources,
    acpi_rsdp: u64,
) -> Result<Entry, BootError> {
    let segments = segments(image)?;
    let entry = entry(image, &segments)?;
    let loaded: Vec<_> = segments.iter().filter(|segment| segment.kind == LOAD).collect();
    let ranges = loaded.iter().map(|segment| segment.range(image)).collect::<Result<Vec<_>, _>>()?;
    if !ranges.iter().any(|range| range.contains(&entry)) {
        return Err(image.unusable("is damaged, its entry is not in it: copy or build it again"));
    }
    let end = ranges.iter().map(|range| range.end).max().unwrap_or_default();
    check_kernel_end(ram, image.path(), end)?;
    write_command_line(ram, &sources.command_line, COMMAND_LINE_LIMIT)?;
    for segment in loaded {
        segment.load(ram, image)?;
    }
    let initrd = sources.initrd.as_deref();
    let initrd = initrd.map(|path| initrd::load(ram, path, end, INITRD_LIMIT)).transpose()?;
    write_start_info(ram, initrd, acpi_rsdp)?;
    Ok(Entry { instruction_pointer: entry, mode: Mode::Pvh { start_info: START_INFO } })
}

/// The program headers.
fn segments(image: &Image) -> Result<Vec<Segment>, BootError> {
    let header = image.bytes(0, HEADER_LEN)?;
    let u16_at = |at| field(&header, at).map_or(0, u16::from_le_bytes);
    if field(&header, 4) != Some(IDENTITY) || u16_at(18) != X86_64 {
        return Err(image.unusable("is an ELF file for another processor: give a vmlinux for x86-64"));
    }
    let table = field(&header, 32).map_or(0, u64::from_le_bytes);
    if u64::from(u16_at(54)) != SEGMENT_LEN {
        return Err(image.unusable("is damaged, its program headers are: copy or build it again"));
    }
    let table = image.bytes(table, u64::from(u16_at(56)) * SEGMENT_LEN)?;
    Ok(table.chunks_exact(SEGMENT_LEN as usize).map(Segment::decode).collect())
}

impl Segment {
    fn decode(bytes: &[u8]) -> Self {
        let u64_at = |at| field(bytes, at).map_or(0, u64::from_le_bytes);
        Self {
            kind: field(bytes, 0).map_or(0, u32::from_le_bytes),
            at: u64_at(8),
            to: u64_at(24),
            len: u64_at(32),
            memory_len: u64_at(40),
        }
    }

    /// Where it lies in memory: nowhere but above the first megabyte, where boot data is.
    fn range(&self, image: &Image) -> Result<Range<u64>, BootError> {
        match self.to.checked_add(self.memory_len) {
            Some(end) if self.to >= ONE_MIB && self.len <= self.memory_len => Ok(self.to..end),
            _ => Err(image.unusable("is damaged, it asks for an impossible address: copy or build it again")),
        }
    }

    fn load(&self, ram: &MemoryMap, image: &Image) -> Result<(), BootError> {
        const ZEROS: [u8; 4096] = [0; 4096];
        image.copy(self.at, self.len, ram, self.to)?;
        let (mut at, end) = (self.to + self.len, self.to + self.memory_len);
        while at < end {
            let count = (end - at).min(ZEROS.len() as u64);
            ram.write(IoAddr(at), ZEROS.get(..count as usize).unwrap_or_default())?;
            at += count;
        }
        Ok(())
    }
}

/// The address in the PVH note.
fn entry(image: &Image, segments: &[Segment]) -> Result<u64, BootError> {
    for segment in segments.iter().filter(|segment| segment.kind == NOTE) {
        let notes = image.bytes(segment.at, segment.len.min(MOST_NOTES_LEN))?;
        if let Some(entry) = entry_in(&notes) {
            return Ok(entry);
        }
    }
    Err(image.unusable("has no PVH entry: build it with CONFIG_PVH=y, or give the bzImage"))
}

/// The entry in `notes`: each has three lengths and types of 4 bytes, a name and a description, padded to 4 bytes (ELF-64 Object File
/// Format, §8).
fn entry_in(mut notes: &[u8]) -> Option<u64> {
    loop {
        let u32_at = |at| field(notes, at).map(u32::from_le_bytes);
        let (name_len, len, kind) = (u32_at(0)? as usize, u32_at(4)? as usize, u32_at(8)?);
        let (name, rest) = notes.get(12..)?.split_at_checked(name_len.checked_next_multiple_of(4)?)?;
        let description = rest.get(..len)?;
        if kind == PVH_ENTRY && name.get(..name_len) == Some(PVH_OWNER) {
            // 4 or 8 bytes; the entry is a 32-bit one.
            return field(description, 0).map(u32::from_le_bytes).map(u64::from);
        }
        notes = rest.get(len.checked_next_multiple_of(4)?..)?;
    }
}

/// `struct hvm_start_info` and the lists that it points to.
fn write_start_info(ram: &MemoryMap, initrd: Option<Range<u64>>, acpi_rsdp: u64) -> Result<(), BootError> {
    let ranges = ram_map::ranges(ram);
    let mut info = Vec::new();
    info.extend(START_MAGIC.to_le_bytes());
    info.extend(START_VERSION.to_le_bytes());
    let flags = 0u32;
    info.extend(flags.to_le_bytes());
    info.extend(u32::from(initrd.is_some()).to_le_bytes());
    for pointer in [MODULES, COMMAND_LINE, acpi_rsdp, PVH_MEMORY_MAP] {
        info.extend(pointer.to_le_bytes());
    }
    info.extend((ranges.len() as u64).to_le_bytes());
    ram.write(IoAddr(START_INFO), &info)?;

    let initrd = initrd.unwrap_or_default();
    let (command_line, reserved) = (0u64, 0u64);
    let module = [initrd.start, initrd.end - initrd.start, command_line, reserved];
    ram.write(IoAddr(MODULES), module.map(u64::to_le_bytes).as_flattened())?;

    let entries = ranges.into_iter().map(|(range, kind)| [range.start, range.end - range.start, kind as u64]);
    let entries: Vec<u8> = entries.flatten().flat_map(u64::to_le_bytes).collect();
    Ok(ram.write(IoAddr(PVH_MEMORY_MAP), &entries)?)
}
