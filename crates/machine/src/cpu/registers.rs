//! Registers of the processor that starts the kernel. The others wait for it, in KVM's reset state.

use crate::boot::{Entry, GDT, Mode, PAGE_TABLES};
use kvm_bindings::{kvm_dtable, kvm_fpu, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs};
use vioduct_virtio_device::MemoryMap;
use vioduct_virtqueue::{IoAddr, Memory, MemoryFault};

// Intel SDM vol. 3A §2.5 and §2.2.1.
const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// Bit 1 is always set; interrupts are off.
const RFLAGS: u64 = 1 << 1;

/// `IA32_MISC_ENABLE`, SDM vol. 4: bit 0 lets string instructions be fast.
const MISC_ENABLE: u32 = 0x1a0;
const FAST_STRINGS: u64 = 1;
/// `IA32_MTRR_DEF_TYPE`, SDM vol. 3A §11.11.2.1: memory is write-back unless a page says otherwise. A firmware would have set it.
const MTRR_DEF_TYPE: u32 = 0x2ff;
const MTRR_ENABLED: u64 = 1 << 11;
const WRITE_BACK: u64 = 6;

/// What a segment register is loaded with: a place in the table, and what lies there.
#[derive(Clone, Copy)]
struct Descriptor {
    selector: u16,
    /// SDM vol. 3A §3.4.5.1, table 3-1, and §3.5.
    kind: u8,
    limit: u32,
    width: Width,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    Bits32,
    Bits64,
    /// A task state segment, which is not code or data.
    System,
}

// Selectors are those of Linux's `__BOOT_CS` and `__BOOT_DS` (boot.rst, "64-bit Boot Protocol").
const CODE_64: Descriptor = Descriptor { selector: 0x10, kind: 0xb, limit: u32::MAX, width: Width::Bits64 };
const CODE_32: Descriptor = Descriptor { width: Width::Bits32, ..CODE_64 };
const DATA: Descriptor = Descriptor { selector: 0x18, kind: 0x3, limit: u32::MAX, width: Width::Bits32 };
/// A busy task, which the PVH protocol asks for.
const TASK: Descriptor = Descriptor { selector: 0x20, kind: 0xb, limit: 0x67, width: Width::System };

impl Descriptor {
    fn segment(self) -> kvm_segment {
        let memory = u8::from(self.width != Width::System);
        kvm_segment {
            base: 0,
            limit: self.limit,
            selector: self.selector,
            type_: self.kind,
            present: 1,
            s: memory,
            // Limits of memory are in pages.
            g: memory,
            db: u8::from(self.width == Width::Bits32),
            l: u8::from(self.width == Width::Bits64),
            ..Default::default()
        }
    }

    /// As it lies in the table, with base 0 (SDM vol. 3A §3.4.5).
    fn encode(self) -> u64 {
        let segment = self.segment();
        let limit = if segment.g == 1 { self.limit >> 12 } else { self.limit };
        let flags =
            [(segment.s, 44), (segment.present, 47), (segment.l, 53), (segment.db, 54), (segment.g, 55)];
        let flags = flags.into_iter().fold(0, |bits, (flag, at)| bits | u64::from(flag) << at);
        u64::from(limit & 0xffff) | u64::from(limit >> 16) << 48 | u64::from(self.kind) << 40 | flags
    }
}

const fn code(mode: Mode) -> Descriptor {
    match mode {
        Mode::Long { .. } => CODE_64,
        Mode::Pvh { .. } => CODE_32,
    }
}

/// The table: two places that no one uses, code, data, task.
fn descriptors(mode: Mode) -> [u64; 5] {
    [0, 0, code(mode).encode(), DATA.encode(), TASK.encode()]
}

/// Writes the tables that [`special`]'s registers point to: descriptors, and for 64-bit mode pages that map the first 4 GiB to themselves.
///
/// # Errors
/// If there is no RAM below [`LOW_MEMORY_TAKEN`](crate::boot::LOW_MEMORY_TAKEN).
pub fn write_tables(ram: &MemoryMap, mode: Mode) -> Result<(), MemoryFault> {
    ram.write(IoAddr(GDT), descriptors(mode).map(u64::to_le_bytes).as_flattened())?;
    match mode {
        Mode::Long { .. } => write_pages(ram),
        Mode::Pvh { .. } => Ok(()),
    }
}

/// Three levels of tables (SDM vol. 3A §4.5): one entry for all, four of 1 GiB, and for each 512 pages of 2 MiB.
fn write_pages(ram: &MemoryMap) -> Result<(), MemoryFault> {
    const TABLE_LEN: u64 = 4096;
    const PRESENT_WRITABLE: u64 = 0b11;
    const LARGE: u64 = 1 << 7;
    const GIGABYTES: u64 = 4;
    let pointers = PAGE_TABLES + TABLE_LEN;
    let directories = pointers + TABLE_LEN;
    let top = pointers | PRESENT_WRITABLE;
    ram.write(IoAddr(PAGE_TABLES), &top.to_le_bytes())?;
    let below =
        (0..GIGABYTES).flat_map(|place| ((directories + place * TABLE_LEN) | PRESENT_WRITABLE).to_le_bytes());
    ram.write(IoAddr(pointers), &below.collect::<Vec<_>>())?;
    let pages = (0..GIGABYTES << 9).flat_map(|page| (page << 21 | LARGE | PRESENT_WRITABLE).to_le_bytes());
    ram.write(IoAddr(directories), &pages.collect::<Vec<_>>())
}

/// The special registers, made from those of a processor in reset (`KVM_GET_SREGS`).
///
/// For 64-bit mode: boot.rst, "64-bit Boot Protocol"; for PVH: Xen, docs/misc/pvh.pandoc, which wants CR0 and CR4 empty but for protected mode.
#[must_use]
pub fn special(reset: &kvm_sregs, mode: Mode) -> kvm_sregs {
    let data = DATA.segment();
    let mut special = kvm_sregs {
        cs: code(mode).segment(),
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        tr: TASK.segment(),
        gdt: kvm_dtable {
            base: GDT,
            limit: size_of_val(&descriptors(mode)) as u16 - 1,
            ..Default::default()
        },
        // No exception can be taken until the kernel has a table of its own.
        idt: kvm_dtable::default(),
        ..*reset
    };
    match mode {
        Mode::Long { .. } => {
            special.cr0 = CR0_PE | CR0_ET | CR0_PG;
            special.cr3 = PAGE_TABLES;
            special.cr4 = CR4_PAE;
            special.efer = EFER_LME | EFER_LMA;
        }
        Mode::Pvh { .. } => {
            // ET cannot be cleared.
            special.cr0 = CR0_PE | CR0_ET;
            special.cr3 = 0;
            special.cr4 = 0;
            special.efer = 0;
        }
    }
    special
}

/// The general registers: where to begin, and with what in RSI (boot.rst, "64-bit Boot Protocol") or EBX (pvh.pandoc).
#[must_use]
pub fn general(entry: &Entry) -> kvm_regs {
    let registers = kvm_regs { rip: entry.instruction_pointer, rflags: RFLAGS, ..Default::default() };
    match entry.mode {
        Mode::Long { boot_params } => kvm_regs { rsi: boot_params, ..registers },
        Mode::Pvh { start_info } => kvm_regs { rbx: start_info, ..registers },
    }
}

/// The floating-point unit, as `FNINIT` leaves it: every exception masked (SDM vol. 1 §8.1.5, §10.2.3).
#[must_use]
pub fn floating_point() -> kvm_fpu {
    kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..Default::default() }
}

/// The model-specific registers that a firmware would have set, on every processor.
#[must_use]
pub fn model_specific() -> [kvm_msr_entry; 2] {
    let entry = |index, data| kvm_msr_entry { index, data, ..Default::default() };
    [entry(MISC_ENABLE, FAST_STRINGS), entry(MTRR_DEF_TYPE, MTRR_ENABLED | WRITE_BACK)]
}
