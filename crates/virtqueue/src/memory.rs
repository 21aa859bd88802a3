//! The memory that a device reaches: addresses, faults, and the [`Memory`] trait that a queue is bound to once.
//!
//! This module is where `unsafe` enters: implementors of [`Memory`] promise that what [`Memory::region`] returns can be
//! accessed through raw pointers, because a lookup per access is what makes other queues slow.
#![allow(unsafe_code)]

use core::fmt;
use core::ptr::NonNull;

/// An address as the driver writes it into descriptors: guest-physical, or an I/O virtual address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct IoAddr(pub u64);

impl IoAddr {
    /// The address `bytes` further, unless that wraps.
    #[must_use]
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(address) => Some(Self(address)),
            None => None,
        }
    }
}

impl fmt::Debug for IoAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for IoAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// What may be done with a region, or is wanted of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Access {
    /// The device may read only.
    Read = 1,
    /// The device may write only (a vfio-user client can map so).
    Write = 2,
    /// The device may read and write.
    ReadWrite = 3,
}

impl Access {
    /// Whether everything `wanted` asks for is allowed.
    #[must_use]
    pub const fn allows(self, wanted: Self) -> bool {
        self as u8 & wanted as u8 == wanted as u8
    }
}

/// An access outside of the memory that the device may reach: the driver's fault, never a reason to panic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryFault {
    /// First byte of the access.
    pub at: IoAddr,
    /// Length of the access in bytes.
    pub len: u64,
}

impl fmt::Display for MemoryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no accessible memory for {} bytes at {}", self.len, self.at)
    }
}

impl core::error::Error for MemoryFault {}

/// A contiguous range of device addresses that is contiguous in this process too.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// First address.
    pub at: IoAddr,
    /// Length in bytes; `at + len` does not wrap.
    pub len: u64,
    /// Where `at` is mapped in this process.
    pub host: NonNull<u8>,
    /// What the device may do there.
    pub access: Access,
}

// SAFETY: a region is a description; whoever dereferences `host` does so under the contract of `Memory`, which is Sync.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Where `len` bytes at `at` are mapped, if all of them are in this region.
    #[must_use]
    #[inline]
    pub fn translate(&self, at: IoAddr, len: u64) -> Option<NonNull<u8>> {
        let offset = at.0.wrapping_sub(self.at.0);
        if offset > self.len || len > self.len - offset {
            return None;
        }
        // SAFETY: `offset` is within the region (or one past its end for an empty access), and by the contract of `Memory`
        // the region is one mapped object.
        Some(unsafe { self.host.add(offset as usize) })
    }
}

/// Memory that a device can reach, shared with a peer that writes to it at any moment.
///
/// A queue is bound to its memory once, when it is started. Whoever changes the mapping first stops the queues that use it, so
/// the data path needs no guard (docs/decisions/0002).
///
/// # Safety
/// For every [`Region`] that [`region`](Memory::region) returns, the bytes `host .. host + len` stay mapped, and accessible as
/// `access` says, for as long as this object lives; `host` is aligned as `at` is, modulo 16. Nothing in this process holds a
/// Rust reference into those bytes.
pub unsafe trait Memory: Send + Sync {
    /// Copies `out.len()` bytes from `at`.
    ///
    /// # Errors
    /// If any of them is not readable by the device; `out` may then be partly written.
    fn read(&self, at: IoAddr, out: &mut [u8]) -> Result<(), MemoryFault>;

    /// Copies `data` to `at`.
    ///
    /// # Errors
    /// If any byte there is not writable by the device; the memory may then be partly written.
    fn write(&self, at: IoAddr, data: &[u8]) -> Result<(), MemoryFault>;

    /// The region that contains `at`, or `None` where memory can be reached by [`read`](Memory::read) and
    /// [`write`](Memory::write) only, or not at all.
    fn region(&self, at: IoAddr) -> Option<Region>;

    /// Whether `len` bytes at `at`, which no [`region`](Memory::region) holds, can be reached by read and write.
    /// Memory that is always mapped keeps the default.
    fn reaches(&self, _at: IoAddr, _len: u64, _access: Access) -> bool {
        false
    }

    /// Whether [`written`](Memory::written) wants to be told; queues ask once per batch.
    fn logs_writes(&self) -> bool {
        false
    }

    /// `len` bytes at `at` were written by the device, through whatever way: for dirty logs.
    fn written(&self, _at: IoAddr, _len: u64) {}
}
