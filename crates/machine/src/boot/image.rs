//! A file that is loaded: opened once, read piece by piece, because a RAM disk may be larger than what this process should hold.

use super::{BootError, Role};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use vioduct_virtio_device::MemoryMap;
use vioduct_virtqueue::{IoAddr, Memory};

/// A kernel or a RAM disk.
#[derive(Debug)]
pub(super) struct Image {
    role: Role,
    path: PathBuf,
    file: File,
    len: u64,
}

/// What a kernel is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    BzImage,
    Elf,
}

/// boot.rst, "The Real-Mode Kernel Header": where the magic number of a bzImage is.
const BZIMAGE_MAGIC_AT: usize = 0x202;
const BZIMAGE_MAGIC: &[u8] = b"HdrS";
const ELF_MAGIC: &[u8] = b"\x7fELF";
const CHUNK_LEN: usize = 1 << 20;

impl Image {
    /// Opens a regular file.
    pub(super) fn open(role: Role, path: &Path) -> Result<Self, BootError> {
        let failed = |source| BootError::File { role, path: path.to_owned(), source };
        // A pipe without a writer would be waited for.
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let file = File::options().read(true).custom_flags(nonblocking).open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(BootError::NotAFile { role, path: path.to_owned() });
        }
        Ok(Self { role, path: path.to_owned(), file, len: metadata.len() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// In bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// What kind of kernel it is, by its magic number.
    pub(super) fn kind(&self) -> Result<Kind, BootError> {
        let magic_end = BZIMAGE_MAGIC_AT + BZIMAGE_MAGIC.len();
        let start = self.bytes(0, (magic_end as u64).min(self.len))?;
        if start.starts_with(ELF_MAGIC) {
            return Ok(Kind::Elf);
        }
        if start.len() < magic_end {
            return Err(self.truncated(magic_end as u64));
        }
        if start.ends_with(BZIMAGE_MAGIC) {
            return Ok(Kind::BzImage);
        }
        Err(BootError::NotAKernel(self.path.clone()))
    }

    /// `len` bytes from `at` on; the kernel is truncated if it ends before.
    pub(super) fn bytes(&self, at: u64, len: u64) -> Result<Vec<u8>, BootError> {
        self.check_end(at, len)?;
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| self.truncated(len))?];
        self.read(at, &mut bytes)?;
        Ok(bytes)
    }

    /// Copies `len` bytes from `from` on into the guest's memory at `to`.
    pub(super) fn copy(&self, from: u64, len: u64, ram: &MemoryMap, to: u64) -> Result<(), BootError> {
        self.check_end(from, len)?;
        let mut chunk = vec![0; CHUNK_LEN];
        let mut done = 0;
        while done < len {
            let count = (len - done).min(CHUNK_LEN as u64) as usize;
            chunk.truncate(count);
            self.read(from + done, &mut chunk)?;
            ram.write(IoAddr(to + done), &chunk)?;
            done += count as u64;
        }
        Ok(())
    }

    /// The error that says so.
    pub(super) fn truncated(&self, needed: u64) -> BootError {
        BootError::Truncated { path: self.path.clone(), len: self.len, needed }
    }

    /// The error that `problem` ends the sentence of.
    pub(super) fn unusable(&self, problem: &'static str) -> BootError {
        BootError::Unusable { path: self.path.clone(), problem }
    }

    fn check_end(&self, at: u64, len: u64) -> Result<(), BootError> {
        match at.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            end => Err(self.truncated(end.unwrap_or(u64::MAX))),
        }
    }

    fn read(&self, at: u64, out: &mut [u8]) -> Result<(), BootError> {
        self.file.read_exact_at(out, at).map_err(|source: io::Error| BootError::File {
            role: self.role,
            path: self.path.clone(),
            source,
        })
    }
}

/// A little-endian field of `N` bytes at `at`, if there are as many.
pub(super) fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
