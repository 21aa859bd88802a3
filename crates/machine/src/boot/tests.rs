//! Kernels made here byte by byte: whole ones, cut ones, damaged ones.

mod bzimages;
mod damage;
mod elves;

use super::*;
use rustix::fs::{CWD, FileType, Mode as FileMode, mknodat};
use std::fs;
use tempfile::TempDir;
use vioduct_virtqueue::{IoAddr, Memory};

pub(super) const MIB: u64 = 1 << 20;
const RSDP: u64 = 0xe_0000;

/// A folder with a kernel in it, and RAM to load it into.
struct Rig {
    folder: TempDir,
    ram: MemoryMap,
    sources: BootSources,
}

impl Rig {
    fn new(kernel: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kernel");
        fs::write(&path, kernel).unwrap();
        let sources = BootSources { kernel: path, initrd: None, command_line: "console=ttyS0".to_owned() };
        Self { folder, ram: MemoryMap::anonymous(16 * MIB).unwrap(), sources }
    }

    fn with_initrd(mut self, initrd: &[u8]) -> Self {
        let path = self.folder.path().join("initrd");
        fs::write(&path, initrd).unwrap();
        self.sources.initrd = Some(path);
        self
    }

    fn load(&self) -> Result<Entry, BootError> {
        load(&self.ram, &self.sources, RSDP)
    }

    /// The one line that the user reads, with the folder's name left out.
    fn error(&self) -> String {
        let text = self.load().expect_err("it loads").to_string();
        assert!(!text.contains('\n'), "{text}");
        text.replace(&format!("{}/", self.folder.path().display()), "")
    }

    fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.ram.read(IoAddr(at), &mut bytes).unwrap();
        bytes
    }

    fn u32(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.bytes(at, 4).try_into().unwrap())
    }

    fn u64(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.bytes(at, 8).try_into().unwrap())
    }

    /// The command line at `at`, up to its zero.
    fn text(&self, at: u64) -> String {
        let bytes = self.bytes(at, 4096);
        let len = bytes.iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    }
}

/// RAM as both protocols tell it, for 16 MiB: address, length, type.
const TOLD: [(u64, u64, u32); 4] =
    [(0, 0xa_0000, 1), (0xa_0000, 0x6_0000, 2), (MIB, 15 * MIB, 1), (0xe000_0000, MIB, 2)];

fn put(bytes: &mut [u8], at: usize, data: &[u8]) {
    bytes[at..at + data.len()].copy_from_slice(data);
}

#[test]
fn what_is_no_file_is_refused() {
    let mut rig = Rig::new(&[]);
    rig.sources.kernel = rig.folder.path().join("absent");
    let error = rig.error();
    assert!(error.starts_with("cannot read the kernel absent: No such file"), "{error}");
    rig.sources.kernel = rig.folder.path().to_owned();
    assert!(rig.error().contains("is not a regular file: name the file itself"));
    rig.sources.kernel = "/dev/zero".into();
    assert!(rig.error().contains("/dev/zero is not a regular file"));
    // To open a pipe is to wait for somebody at its other end.
    let pipe = rig.folder.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, FileMode::RUSR, 0).unwrap();
    rig.sources.kernel = pipe;
    assert_eq!(rig.error(), "the kernel pipe is not a regular file: name the file itself");
}

#[test]
fn a_file_that_is_no_kernel_is_refused() {
    let expected =
        "kernel is not a kernel: give a bzImage (such as /boot/vmlinuz) or an ELF vmlinux with a PVH entry";
    assert_eq!(Rig::new(&[0; 0x1000]).error(), expected);
    assert_eq!(Rig::new("no kernel".repeat(100).as_bytes()).error(), expected);
    let error = Rig::new(&[]).error();
    assert_eq!(
        error,
        "the kernel kernel is truncated: it has 0 bytes of at least 518: copy or build it again"
    );
}

#[test]
fn a_jump_to_the_reset_vector_resets_the_machine() {
    let rig = Rig::new(&elves::elf());
    rig.load().unwrap();
    // mov al, 0xfe; out 0x64, al; hlt; jmp to the hlt
    let command = [0xb0, 0xfe, 0xe6, 0x64, 0xf4, 0xeb, 0xfd];
    assert_eq!(rig.bytes(0xf_fff0, command.len()), command);
    assert!(
        TOLD.iter().any(|(at, len, kind)| (*at..at + len).contains(&0xf_fff0) && *kind == 2),
        "not for use"
    );
}
