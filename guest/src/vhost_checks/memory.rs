//! Memory that the kernel's worker reads and writes beside this program: the guest's, as it were.
//!
//! Unsafe code maps it, and reaches it by volatile and atomic accesses alone, within its bounds.
#![allow(unsafe_code)]

use std::io::Error;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

/// A mapping, with as much that nobody may touch on either side.
#[derive(Debug)]
pub(super) struct Memory {
    first: NonNull<u8>,
    len: usize,
}

// SAFETY: it is a mapping of the process's, and all access goes as the module's header says.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// `len` bytes of zeros, in whole pages.
    pub(super) fn new(len: usize) -> Result<Self, Error> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, which nothing else is at.
        let all = unsafe { libc::mmap(ptr::null_mut(), len * 3, libc::PROT_NONE, flags, -1, 0) };
        if all == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        // SAFETY: within the mapping.
        let first = unsafe { all.byte_add(len) };
        // SAFETY: the middle third of the mapping is opened, and nothing refers to it yet.
        if unsafe { libc::mprotect(first, len, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            return Err(Error::last_os_error());
        }
        Ok(Self { first: NonNull::new(first.cast()).ok_or_else(Error::last_os_error)?, len })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The address in this process; `len` and beyond is in what nobody may touch.
    pub(super) fn address(&self, offset: usize) -> u64 {
        self.first.as_ptr() as u64 + offset as u64
    }

    pub(super) fn write(&self, offset: usize, bytes: &[u8]) {
        for (at, byte) in bytes.iter().enumerate() {
            // SAFETY: `at` checks the bounds.
            unsafe { self.at(offset + at, 1).write_volatile(*byte) };
        }
    }

    pub(super) fn read(&self, offset: usize, bytes: &mut [u8]) {
        for (at, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: `at` checks the bounds.
            *byte = unsafe { self.at(offset + at, 1).read_volatile() };
        }
    }

    /// What the other side wrote before this is seen after it.
    pub(super) fn load(&self, offset: usize) -> u16 {
        self.word(offset).load(Ordering::SeqCst)
    }

    /// What was written before this is seen by the other side, if it sees this.
    pub(super) fn store(&self, offset: usize, value: u16) {
        self.word(offset).store(value, Ordering::SeqCst);
    }

    fn word(&self, offset: usize) -> &AtomicU16 {
        let word: *mut u16 = self.at(offset, 2).cast();
        assert!(word.is_aligned(), "{offset:#x} is odd");
        // SAFETY: in bounds, aligned, and mapped for as long as `self` is.
        unsafe { AtomicU16::from_ptr(word) }
    }

    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset + len <= self.len, "{offset:#x} is not in this memory");
        self.first.as_ptr().wrapping_add(offset)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let all = self.first.as_ptr().wrapping_sub(self.len);
        // SAFETY: the mapping is what `new` made, and nothing refers to it any more.
        unsafe { libc::munmap(all.cast(), self.len * 3) };
    }
}
