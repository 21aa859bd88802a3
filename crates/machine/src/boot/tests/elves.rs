//! The PVH protocol.

use super::*;
use crate::boot::places::START_INFO;

pub(super) const TABLE_AT: usize = 64;
pub(super) const NOTES_AT: usize = 0x100;
const CODE_AT: usize = 0x200;
const CODE_LEN: usize = 0x300;
const LOAD_AT: u64 = 3 * MIB;
const MEMORY_LEN: u64 = 0x5000;
const ENTRY: u64 = LOAD_AT + 0x10;

/// Two program headers: code with some memory behind it, and notes of which the second names the entry.
pub(super) fn elf() -> Vec<u8> {
    let mut file = vec![0; CODE_AT];
    put(&mut file, 0, b"\x7fELF\x02\x01\x01");
    put(&mut file, 16, &2u16.to_le_bytes());
    put(&mut file, 18, &62u16.to_le_bytes());
    put(&mut file, 32, &(TABLE_AT as u64).to_le_bytes());
    put(&mut file, 54, &56u16.to_le_bytes());
    put(&mut file, 56, &2u16.to_le_bytes());
    let notes = notes();
    let segments = [
        (1u32, CODE_AT, LOAD_AT, CODE_LEN as u64, MEMORY_LEN),
        (4, NOTES_AT, 0, notes.len() as u64, notes.len() as u64),
    ];
    for (place, (kind, at, to, len, memory_len)) in segments.into_iter().enumerate() {
        let header = TABLE_AT + place * 56;
        put(&mut file, header, &kind.to_le_bytes());
        put(&mut file, header + 8, &(at as u64).to_le_bytes());
        // The virtual address is the kernel's own affair.
        put(&mut file, header + 16, &0xffff_ffff_8100_0000u64.to_le_bytes());
        put(&mut file, header + 24, &to.to_le_bytes());
        put(&mut file, header + 32, &len.to_le_bytes());
        put(&mut file, header + 40, &memory_len.to_le_bytes());
    }
    put(&mut file, NOTES_AT, &notes);
    file.extend((0..CODE_LEN).map(|place| (place % 249) as u8 + 1));
    file
}

fn notes() -> Vec<u8> {
    let note = |name: &[u8], kind: u32, description: &[u8]| {
        let lengths = [name.len() as u32, description.len() as u32, kind];
        let mut note = lengths.map(u32::to_le_bytes).as_flattened().to_vec();
        for part in [name, description] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    };
    // Of the same type, but somebody else's; its parts have padding.
    let mut notes = note(b"Linux\0", 18, &[1, 2, 3]);
    notes.extend(note(b"Xen\0", 18, &(ENTRY as u32).to_le_bytes()));
    notes
}

fn changed(at: usize, data: &[u8]) -> Rig {
    let mut file = elf();
    put(&mut file, at, data);
    Rig::new(&file)
}

#[test]
fn the_kernel_is_loaded_and_what_is_behind_it_is_zero() {
    let rig = Rig::new(&elf());
    let dirty = vec![0xee; MEMORY_LEN as usize + 1];
    rig.ram.write(IoAddr(LOAD_AT), &dirty).unwrap();
    let entry = rig.load().unwrap();
    assert_eq!(entry, Entry { instruction_pointer: ENTRY, mode: Mode::Pvh { start_info: START_INFO } });
    assert_eq!(rig.bytes(LOAD_AT, CODE_LEN), elf()[CODE_AT..]);
    let behind = MEMORY_LEN as usize - CODE_LEN;
    assert_eq!(rig.bytes(LOAD_AT + CODE_LEN as u64, behind), vec![0; behind]);
    assert_eq!(rig.bytes(LOAD_AT + MEMORY_LEN, 1), [0xee], "and no more than that");
}

#[test]
fn the_start_info_is_as_xen_says() {
    let rig = Rig::new(&elf()).with_initrd(&[9; 5000]);
    rig.load().unwrap();
    let at = START_INFO;
    assert_eq!((rig.u32(at), rig.u32(at + 4), rig.u32(at + 8)), (0x336e_c578, 1, 0));
    assert_eq!(rig.u32(at + 12), 1, "modules");
    let module = rig.u64(at + 16);
    assert_eq!((rig.u64(module), rig.u64(module + 8)), (16 * MIB - 0x2000, 5000));
    assert_eq!((rig.u64(module + 16), rig.u64(module + 24)), (0, 0));
    assert_eq!(rig.bytes(16 * MIB - 0x2000, 5000), [9; 5000]);
    assert_eq!(rig.text(rig.u64(at + 24)), "console=ttyS0");
    assert_eq!(rig.u64(at + 32), RSDP);
    let (map, entries) = (rig.u64(at + 40), u64::from(rig.u32(at + 48)));
    let told = (0..entries).map(|entry| map + entry * 24);
    let told: Vec<_> = told.map(|at| (rig.u64(at), rig.u64(at + 8), rig.u32(at + 16))).collect();
    assert_eq!(told, TOLD);
}

#[test]
fn without_an_initrd_there_is_no_module() {
    let rig = Rig::new(&elf());
    rig.load().unwrap();
    assert_eq!(rig.u32(START_INFO + 12), 0);
}

#[test]
fn an_elf_file_without_an_entry_is_refused() {
    let no_entry = "the kernel kernel has no PVH entry: build it with CONFIG_PVH=y, or give the bzImage";
    // No notes, no name, another type, an end before the description's.
    for (at, data) in
        [(TABLE_AT + 56, [6, 0, 0, 0]), (NOTES_AT + 36, *b"Yen\0"), (NOTES_AT + 32, [17, 0, 0, 0])]
    {
        assert_eq!(changed(at, &data).error(), no_entry);
    }
    assert_eq!(changed(NOTES_AT + 28, &[5, 0, 0, 0]).error(), no_entry);
    let elsewhere = changed(NOTES_AT + 40, &[0; 4]).error();
    assert!(elsewhere.contains("its entry is not in it"), "{elsewhere}");
}

#[test]
fn an_elf_file_of_another_kind_is_refused() {
    let other = "the kernel kernel is an ELF file for another processor: give a vmlinux for x86-64";
    for (at, data) in [(4, &[1][..]), (5, &[2]), (18, &[183, 0])] {
        assert_eq!(changed(at, data).error(), other);
    }
    assert!(changed(54, &[57, 0]).error().contains("its program headers are"));
}

#[test]
fn segments_that_cannot_be_loaded_are_refused() {
    let to = |address: u64| changed(TABLE_AT + 24, &address.to_le_bytes()).error();
    let impossible = "asks for an impossible address";
    assert!(to(0x7000).contains(impossible), "where boot data lies");
    assert!(to(u64::MAX).contains(impossible), "where addresses end");
    assert!(
        changed(TABLE_AT + 40, &1u64.to_le_bytes()).error().contains(impossible),
        "less memory than file"
    );
    let huge = changed(TABLE_AT + 40, &(1u64 << 40).to_le_bytes()).error();
    assert!(huge.contains("needs memory up to 1048579 MiB, the guest has 16 MiB"), "{huge}");
    let mut rig = Rig::new(&elf());
    rig.sources.command_line = "x".repeat(2048);
    assert_eq!(rig.error(), "the command line has 2048 bytes, this kernel takes 2047: shorten it");
}
