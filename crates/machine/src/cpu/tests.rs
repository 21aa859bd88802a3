//! What processors are told, for several numbers of them, and the registers that the protocols ask for.

use super::*;
use crate::boot::{Entry, GDT, Mode, PAGE_TABLES};
use kvm_bindings::{kvm_cpuid_entry2, kvm_sregs};
use vioduct_virtio_device::MemoryMap;
use vioduct_virtqueue::{IoAddr, Memory};

const LONG: Mode = Mode::Long { boot_params: 0x7000 };
const PVH: Mode = Mode::Pvh { start_info: 0x6000 };

fn entry(function: u32, index: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 { function, index, eax, ebx, ecx, edx, ..Default::default() }
}

fn name(text: &[u8; 12]) -> [u32; 3] {
    let word = |at: usize| u32::from_le_bytes(text[at..at + 4].try_into().unwrap());
    [word(0), word(4), word(8)]
}

/// What a host of 8 cores of 2 threads would report, with everything wrong that a guest must not see.
fn host(vendor: &[u8; 12]) -> Vec<kvm_cpuid_entry2> {
    let [ebx, edx, ecx] = name(vendor);
    let mut entries = vec![
        entry(0, 0, [0x1f, ebx, ecx, edx]),
        entry(1, 0, [0x906ea, 0x0910_0800, 0x76fa_3203, 0x0f8b_fbff]),
        entry(0xb, 0, [1, 2, 0x100, 9]),
        entry(0xb, 1, [4, 16, 0x201, 9]),
        entry(0x4000_0000, 0, [0x4000_0001, 0x4b4d_564b, 0x564b_4d56, 0x4d]),
        entry(0x4000_0001, 0, [0x0100_7efb, 0, 0, 0]),
        entry(0x8000_0000, 0, [0x8000_0026, 0, 0, 0]),
        entry(0x8000_0001, 0, [0, 0, 0x21, 0x2c10_0800]),
        entry(0x8000_0008, 0, [0x3027, 0x100d000, 0x400f, 0]),
    ];
    if vendor == b"AuthenticAMD" {
        entries.push(entry(0x8000_001d, 0, [0x4121, 0x1c0003f, 0x3f, 0]));
        entries.push(entry(0x8000_001d, 3, [0x3c163, 0x3c0003f, 0x3fff, 1]));
        entries.push(entry(0x8000_001d, 4, [0, 0, 0, 0]));
        entries.push(entry(0x8000_001e, 0, [9, 0x104, 0x301, 0]));
        entries.push(entry(0x8000_0026, 0, [1, 2, 0x100, 9]));
    } else {
        entries.push(entry(4, 0, [0x1c00_4121, 0x1c0_003f, 0x3f, 0]));
        entries.push(entry(4, 3, [0x1c03_c163, 0x3c0_003f, 0x3fff, 6]));
        entries.push(entry(4, 4, [0, 0, 0, 0]));
        entries.push(entry(0x1f, 0, [1, 2, 0x100, 9]));
    }
    entries
}

fn leaf(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> [u32; 4] {
    let mut found = entries.iter().filter(|entry| (entry.function, entry.index) == (function, index));
    let entry = found.next().unwrap_or_else(|| panic!("no leaf {function:#x}.{index}"));
    assert!(found.next().is_none(), "two leaves {function:#x}.{index}");
    [entry.eax, entry.ebx, entry.ecx, entry.edx]
}

/// Processors, and the bits that tell them apart.
const COUNTS: [(u8, u32); 4] = [(1, 0), (2, 1), (3, 2), (16, 4)];

#[test]
fn each_processor_has_its_apic_id_and_knows_how_many_there_are() {
    for (cpus, bits) in COUNTS {
        for cpu in 0..cpus {
            let entries = cpuid(&host(b"GenuineIntel"), cpu, cpus, TscDeadline::Offered);
            let [_, ebx, _, edx] = leaf(&entries, 1, 0);
            assert_eq!(ebx, u32::from(cpu) << 24 | 1 << (bits + 16) | 0x0800);
            assert_eq!(edx >> 28 & 1, u32::from(cpus > 1), "HTT");
            for topology in [0xb, 0x1f] {
                let id = u32::from(cpu);
                assert_eq!(leaf(&entries, topology, 0), [0, 1, 0x100, id]);
                assert_eq!(leaf(&entries, topology, 1), [bits, u32::from(cpus), 0x201, id]);
                assert_eq!(leaf(&entries, topology, 2), [0, 0, 2, id]);
            }
        }
    }
}

#[test]
fn intel_caches_are_a_cores_own_but_for_the_last() {
    for (cpus, bits) in COUNTS {
        let entries = cpuid(&host(b"GenuineIntel"), 0, cpus, TscDeadline::Offered);
        let most = (1 << bits) - 1;
        assert_eq!(leaf(&entries, 4, 0), [most << 26 | 0x121, 0x1c0_003f, 0x3f, 0]);
        assert_eq!(leaf(&entries, 4, 3)[0], most << 26 | most << 14 | 0x163);
        assert_eq!(leaf(&entries, 4, 4), [0; 4], "the end of the list stays one");
    }
}

#[test]
fn amd_leaves_say_the_same() {
    for (cpus, bits) in COUNTS {
        let (cpu, count) = (cpus - 1, u32::from(cpus));
        let entries = cpuid(&host(b"AuthenticAMD"), cpu, cpus, TscDeadline::Offered);
        let id = u32::from(cpu);
        assert_eq!(leaf(&entries, 0x8000_0008, 0), [0x3027, 0x100_d000, bits << 12 | (count - 1), 0]);
        assert_eq!(leaf(&entries, 0x8000_001e, 0), [id, id, 0, 0]);
        assert_eq!(leaf(&entries, 0x8000_0001, 0)[2], 0x21 | u32::from(cpus > 1) << 1, "CmpLegacy");
        assert_eq!(leaf(&entries, 0x8000_001d, 0)[0], 0x121);
        assert_eq!(leaf(&entries, 0x8000_001d, 3)[0], ((1 << bits) - 1) << 14 | 0x163);
        assert_eq!(leaf(&entries, 0xb, 1), [bits, count, 0x201, id]);
        let left = entries.iter().filter(|entry| matches!(entry.function, 0x1f | 0x8000_0026));
        assert_eq!(left.count(), 0, "leaves that describe the host");
    }
}

#[test]
fn features_of_a_virtual_machine_are_offered() {
    let supported = host(b"GenuineIntel");
    let with = leaf(&cpuid(&supported, 0, 1, TscDeadline::Offered), 1, 0)[2];
    let without = leaf(&cpuid(&supported, 0, 1, TscDeadline::Absent), 1, 0)[2];
    assert_eq!(with, 0x76fa_3203 | 1 << 21 | 1 << 24 | 1 << 31, "x2APIC, TSC deadline, hypervisor");
    assert_eq!(without, with & !(1 << 24));
    let entries = cpuid(&supported, 0, 1, TscDeadline::Absent);
    assert_eq!(leaf(&entries, 0x4000_0000, 0)[1..], [0x4b4d_564b, 0x564b_4d56, 0x4d], "KVMKVMKVM");
    assert_eq!(leaf(&entries, 0x4000_0001, 0), [0x0100_7efb, 0, 0, 0]);
    assert_eq!(leaf(&entries, 0, 0), leaf(&supported, 0, 0));
}

/// A processor that is too old for a leaf would read the last basic one in its place.
#[test]
fn leaves_beyond_the_last_are_not_added() {
    let mut supported = host(b"GenuineIntel");
    supported[0].eax = 0xd;
    let entries = cpuid(&supported, 0, 2, TscDeadline::Offered);
    assert_eq!(leaf(&entries, 0xb, 1), [1, 2, 0x201, 0]);
    assert!(entries.iter().all(|entry| entry.function != 0x1f));
    assert!(cpuid(&[], 0, 1, TscDeadline::Offered).is_empty());
}

#[test]
fn sixty_four_bit_entry_is_as_the_boot_protocol_says() {
    let reset = kvm_sregs { apic_base: 0xfee0_0900, cr2: 7, ..Default::default() };
    let special = special(&reset, LONG);
    assert_eq!((special.cs.selector, special.cs.l, special.cs.db, special.cs.type_), (0x10, 1, 0, 0xb));
    for data in [special.ds, special.es, special.ss] {
        assert_eq!((data.selector, data.base, data.limit, data.type_, data.g), (0x18, 0, u32::MAX, 3, 1));
    }
    assert_eq!((special.cr0, special.cr4, special.efer), (0x8000_0011, 0x20, 0x500));
    assert_eq!((special.cr3, special.gdt.base, special.gdt.limit), (PAGE_TABLES, GDT, 39));
    assert_eq!((special.apic_base, special.cr2), (0xfee0_0900, 7), "the rest stays as it was");
    let general = general(&Entry { instruction_pointer: 0x100_0200, mode: LONG });
    assert_eq!((general.rip, general.rsi, general.rflags), (0x100_0200, 0x7000, 2));
}

#[test]
fn pvh_entry_is_as_xen_says() {
    let special = special(&kvm_sregs { efer: 0x500, cr4: 0x20, ..Default::default() }, PVH);
    assert_eq!((special.cs.l, special.cs.db, special.cs.limit), (0, 1, u32::MAX));
    assert_eq!((special.cr0, special.cr4, special.efer), (0x11, 0, 0));
    assert_eq!((special.tr.base, special.tr.limit, special.tr.type_, special.tr.s), (0, 0x67, 0xb, 0));
    let general = general(&Entry { instruction_pointer: 0x100_0000, mode: PVH });
    assert_eq!((general.rip, general.rbx, general.rsi, general.rflags), (0x100_0000, 0x6000, 0, 2));
}

fn u64_at(ram: &MemoryMap, at: u64) -> u64 {
    let mut bytes = [0; 8];
    ram.read(IoAddr(at), &mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

/// Follows the tables as a processor does.
#[test]
fn the_first_four_gigabytes_are_mapped_to_themselves() {
    const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    let ram = MemoryMap::anonymous(1 << 20).unwrap();
    write_tables(&ram, LONG).unwrap();
    for address in [0, 0x10_0000, 0x1ff_ffff, 0xbfff_ffff, 0xfee0_0000, 0xffff_ffff_u64] {
        let mut table = PAGE_TABLES;
        for shift in [39, 30] {
            let entry = u64_at(&ram, table + (address >> shift & 0x1ff) * 8);
            assert_eq!(entry & 0xfff, 3);
            table = entry & ADDRESS;
        }
        let entry = u64_at(&ram, table + (address >> 21 & 0x1ff) * 8);
        assert_eq!(entry, address & !0x1f_ffff | 0x83);
    }
    assert_eq!(u64_at(&ram, PAGE_TABLES + 8), 0, "nothing above 512 GiB");
    assert_eq!(u64_at(&ram, PAGE_TABLES + 0x1000 + 32), 0, "nothing above 4 GiB");
    assert!(write_tables(&MemoryMap::anonymous(0x1000).unwrap(), LONG).is_err());
}

/// The table in memory says what the registers hold, or the kernel loads something else at its first far jump.
#[test]
fn descriptors_in_memory_are_those_in_the_registers() {
    let ram = MemoryMap::anonymous(1 << 20).unwrap();
    for (mode, code) in [(LONG, 0x00af_9b00_0000_ffff), (PVH, 0x00cf_9b00_0000_ffff)] {
        write_tables(&ram, mode).unwrap();
        let table: Vec<_> = (0..5).map(|place| u64_at(&ram, GDT + place * 8)).collect();
        assert_eq!(table, [0, 0, code, 0x00cf_9300_0000_ffff, 0x0000_8b00_0000_0067]);
    }
}

#[test]
fn the_rest_is_as_a_firmware_leaves_it() {
    assert_eq!((floating_point().fcw, floating_point().mxcsr), (0x37f, 0x1f80));
    let registers = model_specific().map(|entry| (entry.index, entry.data));
    assert_eq!(registers, [(0x1a0, 1), (0x2ff, 0x806)]);
}
