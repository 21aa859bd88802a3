//! Memory that a device may access: the [`Dma`] trait, and buffers that own such memory.
//!
//! This module holds `unsafe` because implementors of [`Dma`] promise memory behind raw pointers, and [`DmaBuffer`] copies to
//! and from it by volatile accesses: a device may change it at any moment, so no reference to it is ever made.
#![allow(unsafe_code)]

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::sync::Arc;
use core::fmt;
use core::ptr::{NonNull, read_volatile, write_volatile};
use vioduct_virtqueue::{Buffer, IoAddr};

/// Alignment, in bytes, of memory that [`Dma::alloc`] gives, on both the driver's and the device's side.
pub const PAGE_LEN: usize = 4096;

/// Which way the data of a mapping goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The device reads.
    ToDevice,
    /// The device writes.
    FromDevice,
    /// Both.
    Both,
}

/// Why memory cannot be given to a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DmaError {
    /// No memory of this length in bytes, or none that the device can reach.
    Exhausted(usize),
    /// The bytes cannot be mapped for this device.
    Unmappable,
    /// An access or a piece outside of a buffer.
    Range {
        /// First byte.
        offset: usize,
        /// Length in bytes.
        len: usize,
        /// Length of the buffer in bytes.
        buffer: usize,
    },
}

impl fmt::Display for DmaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted(len) => write!(f, "no {len} bytes left of memory that the device can reach"),
            Self::Unmappable => f.write_str("the bytes cannot be mapped for this device"),
            Self::Range { offset, len, buffer } => {
                write!(f, "{len} bytes at {offset} of a DMA buffer of {buffer} bytes")
            }
        }
    }
}

impl core::error::Error for DmaError {}

/// Memory that the driver and one device share.
#[derive(Debug, PartialEq, Eq)]
pub struct DmaRegion {
    /// Where the driver sees it.
    pub host: NonNull<u8>,
    /// Where the device sees it.
    pub addr: IoAddr,
    /// Length in bytes, as asked for.
    pub len: usize,
}

// SAFETY: a region is a description; the contract of `Dma` lets any thread use the memory.
unsafe impl Send for DmaRegion {}

/// The memory that one device can reach. Each device has its own, so that devices in different IOMMU domains live side by side;
/// handles to one are `&D`, `Rc<D>` or `Arc<D>`.
///
/// # Safety
/// A region that [`alloc`](Self::alloc) returns is zeroed, [`PAGE_LEN`]-aligned on both sides, valid for reads and writes of `len`
/// bytes from any thread, referred to by nothing else, and stays so until it is freed, whichever handle to this object it is
/// freed by and however many handles are gone by then.
pub unsafe trait Dma {
    /// `len` zeroed bytes (at least 1) that the device can read and write.
    ///
    /// # Errors
    /// [`DmaError::Exhausted`].
    fn alloc(&self, len: usize) -> Result<DmaRegion, DmaError>;

    /// Gives a region back.
    ///
    /// # Safety
    /// The region came from this object's `alloc`, is not used any more by the driver, and the device cannot access it any more.
    unsafe fn free(&self, region: DmaRegion);

    /// Lets the device access memory of the driver's, and returns where the device sees it.
    ///
    /// # Errors
    /// [`DmaError::Unmappable`] if it cannot reach these bytes.
    ///
    /// # Safety
    /// The bytes stay valid, and no reference to them is used, until they are unmapped.
    unsafe fn map(&self, bytes: NonNull<[u8]>, direction: Direction) -> Result<IoAddr, DmaError>;

    /// Ends a mapping.
    ///
    /// # Safety
    /// All arguments are those of one call of [`map`](Self::map), and the device has given the bytes back.
    unsafe fn unmap(&self, addr: IoAddr, bytes: NonNull<[u8]>, direction: Direction);
}

macro_rules! forward_dma {
    ($($pointer:ty),*) => {$(
        // SAFETY: the object behind the handle keeps the promise.
        unsafe impl<D: Dma + ?Sized> Dma for $pointer {
            fn alloc(&self, len: usize) -> Result<DmaRegion, DmaError> {
                (**self).alloc(len)
            }
            // SAFETY: as the trait has it, for the caller to keep.
            unsafe fn free(&self, region: DmaRegion) {
                // SAFETY: the caller's promise.
                unsafe { (**self).free(region) }
            }
            // SAFETY: as the trait has it, for the caller to keep.
            unsafe fn map(&self, bytes: NonNull<[u8]>, direction: Direction) -> Result<IoAddr, DmaError> {
                // SAFETY: the caller's promise.
                unsafe { (**self).map(bytes, direction) }
            }
            // SAFETY: as the trait has it, for the caller to keep.
            unsafe fn unmap(&self, addr: IoAddr, bytes: NonNull<[u8]>, direction: Direction) {
                // SAFETY: the caller's promise.
                unsafe { (**self).unmap(addr, bytes, direction) }
            }
        }
    )*};
}

forward_dma!(&D, Box<D>, Rc<D>, Arc<D>);

/// DMA memory with an owner: freed when dropped. Its owner drops it only when no device uses it (queues see to that, and leak it
/// otherwise).
#[derive(Debug)]
pub struct DmaBuffer<D: Dma> {
    dma: D,
    region: DmaRegion,
}

impl<D: Dma> DmaBuffer<D> {
    /// `len` zeroed bytes, at least 1.
    ///
    /// # Errors
    /// What [`Dma::alloc`] says.
    pub fn new(dma: D, len: usize) -> Result<Self, DmaError> {
        let region = dma.alloc(len)?;
        Ok(Self { dma, region })
    }

    /// Length in bytes.
    #[must_use]
    pub const fn byte_len(&self) -> usize {
        self.region.len
    }

    /// Where the device sees it.
    #[must_use]
    pub const fn io_addr(&self) -> IoAddr {
        self.region.addr
    }

    /// Where the driver sees it. The device may change it at any moment.
    #[must_use]
    pub const fn host(&self) -> NonNull<u8> {
        self.region.host
    }

    /// `len` bytes at `offset`, as a piece to put into a queue.
    ///
    /// # Errors
    /// [`DmaError::Range`].
    pub fn piece(&self, offset: usize, len: u32) -> Result<Buffer, DmaError> {
        self.at(offset, len as usize)?;
        Ok(Buffer { addr: IoAddr(self.region.addr.0 + offset as u64), len })
    }

    /// Copies `out.len()` bytes from `offset`.
    ///
    /// # Errors
    /// [`DmaError::Range`].
    pub fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), DmaError> {
        let mut from = self.at(offset, out.len())?;
        let mut rest = out;
        while !rest.is_empty() {
            let len = stride(from, rest.len());
            let (here, behind) = rest.split_at_mut(len);
            // SAFETY: `at` checked that as many bytes are within the region; `stride` says what is aligned.
            unsafe {
                match here {
                    [byte] => *byte = read_volatile(from),
                    [_, _, _, _] => here.copy_from_slice(&read_volatile(from.cast::<u32>()).to_ne_bytes()),
                    _ => here.copy_from_slice(&read_volatile(from.cast::<u64>()).to_ne_bytes()),
                }
                from = from.add(len);
            }
            rest = behind;
        }
        Ok(())
    }

    /// Copies `data` to `offset`.
    ///
    /// # Errors
    /// [`DmaError::Range`].
    pub fn write(&mut self, offset: usize, data: &[u8]) -> Result<(), DmaError> {
        let mut to = self.at(offset, data.len())?;
        let mut rest = data;
        while !rest.is_empty() {
            let (here, behind) = rest.split_at(stride(to, rest.len()));
            // SAFETY: `at` checked that as many bytes are within the region; `stride` says what is aligned.
            unsafe {
                match *here {
                    [byte] => write_volatile(to, byte),
                    [a, b, c, d] => write_volatile(to.cast::<u32>(), u32::from_ne_bytes([a, b, c, d])),
                    [a, b, c, d, e, f, g, h] => {
                        write_volatile(to.cast::<u64>(), u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
                    }
                    _ => {}
                }
                to = to.add(here.len());
            }
            rest = behind;
        }
        Ok(())
    }

    /// The word at `offset`.
    #[inline]
    pub(crate) fn read_word<W: Word>(&self, offset: usize) -> Result<W, DmaError> {
        let from: *const W = self.at(offset, size_of::<W>())?.cast();
        // SAFETY: `at` checked that the word is within the region.
        Ok(unsafe { if from.is_aligned() { read_volatile(from) } else { from.read_unaligned() } })
    }

    /// Makes `word` the one at `offset`.
    #[inline]
    pub(crate) fn write_word<W: Word>(&mut self, offset: usize, word: W) -> Result<(), DmaError> {
        let to: *mut W = self.at(offset, size_of::<W>())?.cast();
        // SAFETY: as in `read_word`.
        unsafe { if to.is_aligned() { write_volatile(to, word) } else { to.write_unaligned(word) } };
        Ok(())
    }

    /// Has the processor fetch what lies at `offset`, where the driver is to write soon.
    #[inline]
    pub(crate) fn fetch_to_write(&self, offset: usize) {
        if let Ok(at) = self.at(offset, 1) {
            vioduct_virtqueue::fetch::to_write(at);
        }
    }

    fn at(&self, offset: usize, len: usize) -> Result<*mut u8, DmaError> {
        let buffer = self.region.len;
        if offset > buffer || len > buffer - offset {
            return Err(DmaError::Range { offset, len, buffer });
        }
        // SAFETY: `offset` is within the region, or one past its end for an empty access.
        Ok(unsafe { self.region.host.as_ptr().add(offset) })
    }
}

/// What is accessed at once.
pub(crate) trait Word: Copy {}
impl Word for u32 {}
impl Word for u64 {}

/// How many bytes at `at` are accessed at a time, of `len` that there are: 8 or 4 where they are aligned, or 1.
#[inline]
fn stride(at: *mut u8, len: usize) -> usize {
    match at as usize % 8 {
        0 if len >= 8 => 8,
        0 | 4 if len >= 4 => 4,
        _ => 1,
    }
}

impl<D: Dma> Drop for DmaBuffer<D> {
    fn drop(&mut self) {
        let DmaRegion { host, addr, len } = self.region;
        let region = DmaRegion { host, addr, len };
        // SAFETY: the region came from `alloc`, and is freed once, here; that no device uses it is the owner's duty.
        unsafe { self.dma.free(region) };
    }
}
