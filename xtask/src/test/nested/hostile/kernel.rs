//! Kernels of some instructions: an ELF file with a PVH entry, which is 32-bit code without paging.

/// Where the code is in memory, and in the file.
const CODE: u32 = 0x10_0000;
const CODE_AT: usize = 0x200;
/// Where an access of the code is a fault's: there are zeros.
const ZEROS: u32 = 0x9_0000;
/// The serial line's port for output.
const SERIAL: u16 = 0x3f8;
/// The end of the RAM that these guests have.
const RAM_END: u32 = 64 << 20;
/// From one address that is written to the next: a page of every device, and every register in some page.
const STRIDE: u32 = 0x1_0004;

/// Our machine's first virtio-mmio window.
const WINDOW: u32 = 0xf000_0000;
/// Its doorbell.
pub(super) const DOORBELL: u32 = WINDOW + 0x50;

/// Instructions.
#[derive(Debug, Default)]
pub(super) struct Code(Vec<u8>);

impl Code {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn then(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// Writes text to the serial line.
    pub(super) fn say(self, text: &str) -> Self {
        let [low, high] = SERIAL.to_le_bytes();
        // mov dx, SERIAL; then mov al, BYTE; out dx, al
        let start = self.then(&[0x66, 0xba, low, high]);
        text.bytes().fold(start, |code, byte| code.then(&[0xb0, byte, 0xee]))
    }

    /// Writes 4 bytes to an address: `mov dword [ADDRESS], VALUE`
    pub(super) fn store(self, address: u32, value: u32) -> Self {
        self.then(&[0xc7, 0x05]).then(&address.to_le_bytes()).then(&value.to_le_bytes())
    }

    /// Runs code again and again: jmp
    pub(super) fn forever(self, code: impl FnOnce(Self) -> Self) -> Self {
        let start = self.0.len();
        let code = code(self);
        let back = start as i32 - (code.0.len() as i32 + 5);
        code.then(&[0xe9]).then(&back.to_le_bytes())
    }

    /// Has no interrupt table, and then a fault: lidt [ZEROS]; ud2
    pub(super) fn triple_fault(self) -> Self {
        self.then(&[0x0f, 0x01, 0x1d]).then(&ZEROS.to_le_bytes()).then(&[0x0f, 0x0b])
    }

    /// Writes the same byte to addresses from the end of RAM on, and to every fifth port: the serial line prints it as a Z.
    pub(super) fn write_everywhere(self) -> Self {
        // mov eax, 5a5a5a5a; mov edi, RAM_END; next: mov [edi], eax; add edi, STRIDE; jnc next
        let memory = self.then(&[0xb8, 0x5a, 0x5a, 0x5a, 0x5a, 0xbf]).then(&RAM_END.to_le_bytes());
        let memory = memory.then(&[0x89, 0x07, 0x81, 0xc7]).then(&STRIDE.to_le_bytes()).then(&[0x73, 0xf6]);
        // xor edx, edx; inc edx; next: out dx, al; add dx, 5; jnc next
        memory.then(&[0x31, 0xd2, 0x42, 0xee, 0x66, 0x83, 0xc2, 0x05, 0x73, 0xf9])
    }
}

/// Puts the entropy device in the first window to use, with 8 descriptors of zeros in its queue. The driver area's second half, the
/// index, is as given.
pub(super) fn entropy_driver(available: u16) -> Code {
    const DRIVER_AREA: u32 = 0x20_1000;
    const REGISTERS: [(u32, u32); 15] = [
        // Status: reset, acknowledge, driver.
        (0x70, 0),
        (0x70, 1),
        (0x70, 3),
        // The features' upper half: VERSION_1.
        (0x24, 1),
        (0x20, 1),
        (0x24, 0),
        (0x20, 0),
        // Status: features ok.
        (0x70, 11),
        // The queue: its number, its size, its three areas.
        (0x30, 0),
        (0x38, 8),
        (0x80, 0x20_0000),
        (0x90, DRIVER_AREA),
        (0xa0, 0x20_2000),
        (0x44, 1),
        // Status: driver ok.
        (0x70, 15),
    ];
    let ring = Code::new().store(DRIVER_AREA, u32::from(available) << 16);
    REGISTERS.iter().fold(ring, |code, (register, value)| code.store(WINDOW + register, *value))
}

/// The file.
#[derive(Debug)]
pub(super) struct Kernel;

impl Kernel {
    pub(super) fn of(Code(code): Code) -> Vec<u8> {
        let mut file = vec![0; CODE_AT];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        // The header: class 64, x86-64, two program headers of 56 bytes behind it.
        put(0, b"\x7fELF\x02\x01\x01");
        put(16, &[2, 0, 62, 0]);
        put(32, &64u64.to_le_bytes());
        put(54, &[56, 0, 2, 0]);
        // What is loaded.
        let len = (code.len() as u64).to_le_bytes();
        put(64, &1u32.to_le_bytes());
        put(72, &(CODE_AT as u64).to_le_bytes());
        [80, 88].iter().for_each(|at| put(*at, &u64::from(CODE).to_le_bytes()));
        [96, 104].iter().for_each(|at| put(*at, &len));
        // The note, of the owner `Xen`, that names the entry (XEN_ELFNOTE_PHYS32_ENTRY).
        put(120, &4u32.to_le_bytes());
        put(128, &0x100u64.to_le_bytes());
        [152, 160].iter().for_each(|at| put(*at, &20u64.to_le_bytes()));
        put(0x100, &[4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]);
        put(0x10c, b"Xen\0");
        put(0x110, &CODE.to_le_bytes());
        file.extend(code);
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_goes_back_to_its_start() {
        let Code(code) = Code::new().say("").forever(|code| code.store(1, 2));
        assert_eq!(code[4..14], [0xc7, 5, 1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(code[14..], [0xe9, 0xf1, 0xff, 0xff, 0xff]);
    }
}
