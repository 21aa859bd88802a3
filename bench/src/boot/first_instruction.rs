//! A kernel whose first instructions give a sign on the serial line: how soon a guest runs at all.
//!
//! It is an ELF file with a PVH entry (Xen, docs/misc/pvh.pandoc), which every monitor here boots.

/// What it writes.
pub const SIGN: &[u8] = b"V";

/// Where it is loaded and entered, a guest-physical address.
const LOAD_AT: u64 = 0x10_0000;
const HEADER_LEN: usize = 64;
const SEGMENT_LEN: usize = 56;
/// Its note: lengths of the name and of the entry, type `XEN_ELFNOTE_PHYS32_ENTRY`, name, entry.
const NOTE_LEN: usize = 20;
const PHYS32_ENTRY: u32 = 18;
const NOTE_AT: usize = HEADER_LEN + 2 * SEGMENT_LEN;
const CODE_AT: usize = NOTE_AT + NOTE_LEN;

/// `mov dx, 0x3f8; mov al, 'V'; out dx, al; 1: hlt; jmp 1b`, in 32-bit mode.
const CODE: [u8; 10] = [0x66, 0xba, 0xf8, 0x03, 0xb0, b'V', 0xee, 0xf4, 0xeb, 0xfd];

const LOAD: u32 = 1;
const NOTE: u32 = 4;

/// The file.
#[must_use]
pub fn kernel() -> Vec<u8> {
    let entry = LOAD_AT + CODE_AT as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    // An executable for x86-64.
    file.extend([2u16, 62].map(u16::to_le_bytes).as_flattened());
    file.extend(1u32.to_le_bytes());
    file.extend([entry, HEADER_LEN as u64, 0].map(u64::to_le_bytes).as_flattened());
    file.extend(0u32.to_le_bytes());
    file.extend([HEADER_LEN as u16, SEGMENT_LEN as u16, 2, 0, 0, 0].map(u16::to_le_bytes).as_flattened());
    // All of the file.
    file.extend(segment(LOAD, 0, CODE_AT + CODE.len()));
    file.extend(segment(NOTE, NOTE_AT, NOTE_LEN));
    file.extend([4, 4, PHYS32_ENTRY].map(u32::to_le_bytes).as_flattened());
    file.extend(b"Xen\0");
    file.extend((entry as u32).to_le_bytes());
    file.extend(CODE);
    file
}

/// A program header (ELF-64 Object File Format, §7) of `len` bytes from `at` on.
fn segment(kind: u32, at: usize, len: usize) -> Vec<u8> {
    const READ_EXECUTE: u32 = 5;
    const ALIGNMENT: u64 = 4;
    let (at, len) = (at as u64, len as u64);
    let address = LOAD_AT + at;
    let mut bytes = [kind, READ_EXECUTE].map(u32::to_le_bytes).as_flattened().to_vec();
    bytes.extend([at, address, address, len, len, ALIGNMENT].map(u64::to_le_bytes).as_flattened());
    bytes
}

#[cfg(test)]
mod tests {
    use super::{CODE, CODE_AT, HEADER_LEN, NOTE_AT, SEGMENT_LEN, kernel};

    #[test]
    fn the_note_names_the_code() {
        let file = kernel();
        assert_eq!(file.len(), CODE_AT + CODE.len());
        assert_eq!((HEADER_LEN, SEGMENT_LEN, NOTE_AT), (64, 56, 176));
        let note = &file[NOTE_AT..CODE_AT];
        assert_eq!(&note[12..16], b"Xen\0");
        assert_eq!(note[16..], (0x10_0000 + CODE_AT as u32).to_le_bytes());
        assert!(file[CODE_AT..].starts_with(&[0x66, 0xba, 0xf8, 0x03]));
    }
}
