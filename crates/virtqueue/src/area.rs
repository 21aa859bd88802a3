//! Access to the three areas of a ring, which the other side reads and writes at the same time.
//!
//! This module holds `unsafe` pointer accesses: all ring fields are read and written as atomics of their natural width, at
//! offsets that are checked here against the length that was validated when the queue was set up.
#![allow(unsafe_code)]

use crate::error::SetupError;
use crate::fetch;
use crate::memory::{Access, IoAddr, Memory, MemoryFault};
use alloc::sync::Arc;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
use vioduct_spec::ring::DESCRIPTOR_SIZE;

/// Bytes of a cache line, as far as this crate depends on it: for what is fetched ahead.
pub(crate) const LINE: usize = 64;

/// A descriptor as it lies in memory, of either layout: read once, used from this copy. Two words, so that it travels in two
/// registers: as four fields it goes through the stack, where it is stored and loaded in pieces that do not match
/// (docs/decisions/0003).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) addr: u64,
    rest: u64,
}

impl Descriptor {
    #[inline(always)]
    pub(crate) const fn new(addr: u64, len: u32, third: u16, fourth: u16) -> Self {
        Self { addr, rest: len as u64 | (third as u64) << 32 | (fourth as u64) << 48 }
    }

    #[inline(always)]
    pub(crate) const fn len(self) -> u32 {
        self.rest as u32
    }

    /// Split: flags. Packed: buffer id.
    #[inline(always)]
    pub(crate) const fn third(self) -> u16 {
        (self.rest >> 32) as u16
    }

    /// Split: next. Packed: flags.
    #[inline(always)]
    pub(crate) const fn fourth(self) -> u16 {
        (self.rest >> 48) as u16
    }

    /// The same with another last field.
    #[inline(always)]
    pub(crate) const fn with_fourth(self, fourth: u16) -> Self {
        Self::new(self.addr, self.len(), self.third(), fourth)
    }

    /// A descriptor from its 16 bytes.
    pub(crate) const fn from_bytes(bytes: [u8; DESCRIPTOR_SIZE]) -> Self {
        let both = u128::from_le_bytes(bytes);
        Self { addr: both as u64, rest: (both >> 64) as u64 }
    }
}

/// One area of a ring. Offsets are bytes from its start; an offset outside of it is a fault, never an access.
pub(crate) trait Area {
    /// A field of 16 bits.
    fn load_u16(&self, at: usize, order: Ordering) -> Result<u16, MemoryFault>;
    /// Writes a field of 16 bits.
    fn store_u16(&self, at: usize, value: u16, order: Ordering) -> Result<(), MemoryFault>;
    /// Writes two neighbouring fields of 32 bits, `low` first, neither torn.
    fn store_u32_pair(&self, at: usize, low: u32, high: u32) -> Result<(), MemoryFault>;
    /// Reads two neighbouring fields of 32 bits.
    fn load_u32_pair(&self, at: usize) -> Result<(u32, u32), MemoryFault>;
    /// Reads descriptor `index`: its last field with `order`, the others after that.
    fn load_descriptor(&self, index: usize, order: Ordering) -> Result<Descriptor, MemoryFault>;
    /// Writes descriptor `index`: its last field with `order`, the others before that.
    fn store_descriptor(
        &self,
        index: usize,
        descriptor: Descriptor,
        order: Ordering,
    ) -> Result<(), MemoryFault>;
    /// Writes all of descriptor `index` but its address: its last field with `order`, the others before that.
    fn store_descriptor_tail(
        &self,
        index: usize,
        descriptor: Descriptor,
        order: Ordering,
    ) -> Result<(), MemoryFault>;
    /// Has the processor fetch the cache line of what lies at `at`, which is read soon.
    fn fetch_to_read(&self, at: usize);
    /// The same of what is written soon.
    fn fetch_to_write(&self, at: usize);
    /// A sequentially consistent fence between this side's last store and its next load.
    fn fence(&self);
}

/// Reads descriptor `index` of a table at `host`: its second half with `order`, the first after that.
///
/// # Safety
/// `host` is 8-byte aligned, and valid for reads of `index + 1` descriptors; all sides access them as atomics.
#[inline(always)]
pub(crate) unsafe fn load_descriptor_at(host: NonNull<u8>, index: usize, order: Ordering) -> Descriptor {
    // SAFETY: by this function's contract.
    let (addr, rest) = unsafe {
        let words = host.as_ptr().cast::<u64>().add(2 * index);
        (AtomicU64::from_ptr(words), AtomicU64::from_ptr(words.add(1)))
    };
    let rest = u64::from_le(rest.load(order));
    Descriptor { addr: u64::from_le(addr.load(Ordering::Relaxed)), rest }
}

/// An area that is mapped into this process.
pub(crate) struct Mapped {
    host: NonNull<u8>,
    len: usize,
    /// Keeps the mapping alive on the device end; the driver end's owner answers for its own.
    _memory: Option<Arc<dyn Memory>>,
}

// SAFETY: the pointer is to shared memory that is accessed by atomics only; the owner of a queue moves it as a whole.
unsafe impl Send for Mapped {}

impl Mapped {
    /// Maps `len` bytes at `at`, if one region holds them all.
    pub(crate) fn find(memory: &Arc<dyn Memory>, at: IoAddr, len: usize, access: Access) -> Option<Self> {
        let region = memory.region(at)?;
        if !region.access.allows(access) {
            return None;
        }
        let host = region.translate(at, len as u64)?;
        if host.as_ptr() as usize % 2 != at.0 as usize % 2 {
            return None;
        }
        Some(Self { host, len, _memory: Some(Arc::clone(memory)) })
    }

    /// An area of the driver end, in memory of its owner.
    ///
    /// # Safety
    /// `host` is valid for reads and writes of `len` bytes for as long as this object lives, and is 16-byte aligned or as the
    /// layout asks for the area.
    pub(crate) unsafe fn from_raw(host: NonNull<u8>, len: usize) -> Self {
        Self { host, len, _memory: None }
    }

    /// `COUNT` fields of type `T` from `at`.
    #[inline(always)]
    fn fields<T, const COUNT: usize>(&self, at: usize) -> Result<*mut T, MemoryFault> {
        let len = COUNT * size_of::<T>();
        // One comparison where the compiler knows that `at`, made from 16 bits, is far below the largest `usize`.
        let inside = at.checked_add(len).is_some_and(|end| end <= self.len);
        if !inside || !at.is_multiple_of(size_of::<T>()) {
            return Err(MemoryFault { at: IoAddr(at as u64), len: len as u64 });
        }
        // SAFETY: `at` is within the `len` bytes that are mapped.
        Ok(unsafe { self.host.as_ptr().add(at) }.cast())
    }

    fn u64(&self, at: usize) -> Result<&AtomicU64, MemoryFault> {
        let field = self.fields::<u64, 1>(at)?;
        if !field.is_aligned() {
            return Err(MemoryFault { at: IoAddr(at as u64), len: size_of::<u64>() as u64 });
        }
        // SAFETY: `field` is mapped for as long as `self`, and aligned (both checked above). All sides access it as atomics.
        Ok(unsafe { AtomicU64::from_ptr(field) })
    }

    /// A word of an area that is 16-byte aligned.
    pub(crate) fn load_u64(&self, at: usize) -> Result<u64, MemoryFault> {
        Ok(u64::from_le(self.u64(at)?.load(Ordering::Acquire)))
    }

    /// Writes a word of an area that is 16-byte aligned.
    pub(crate) fn store_u64(&self, at: usize, value: u64) -> Result<(), MemoryFault> {
        self.u64(at)?.store(value.to_le(), Ordering::Release);
        Ok(())
    }

    #[inline(always)]
    fn u16(&self, at: usize) -> Result<&AtomicU16, MemoryFault> {
        let field = self.fields::<u16, 1>(at)?;
        // SAFETY: `field` is mapped for as long as `self`, and aligned: the area is to at least 2 bytes (checked at set-up)
        // and the offset was checked above. All sides access it as atomics.
        Ok(unsafe { AtomicU16::from_ptr(field) })
    }

    #[inline(always)]
    fn u32_pair(&self, at: usize) -> Result<(&AtomicU32, &AtomicU32), MemoryFault> {
        let pair = self.fields::<u32, 2>(at)?;
        // SAFETY: both fields are mapped (checked above) and 4-byte aligned: the used ring is, at an offset checked above.
        Ok(unsafe { (AtomicU32::from_ptr(pair), AtomicU32::from_ptr(pair.add(1))) })
    }

    #[inline(always)]
    fn descriptor(&self, index: usize) -> Result<(&AtomicU64, &AtomicU64), MemoryFault> {
        let at = index * DESCRIPTOR_SIZE;
        if at + DESCRIPTOR_SIZE > self.len {
            return Err(MemoryFault { at: IoAddr(at as u64), len: DESCRIPTOR_SIZE as u64 });
        }
        // SAFETY: 16 bytes at `at` are mapped for as long as `self` (checked above); the area is 16-byte aligned (checked at
        // set-up; host and device addresses agree modulo 16 by the contract of `Memory`).
        unsafe {
            let field = self.host.as_ptr().add(at).cast::<u64>();
            Ok((AtomicU64::from_ptr(field), AtomicU64::from_ptr(field.add(1))))
        }
    }
}

impl Area for Mapped {
    #[inline(always)]
    fn load_u16(&self, at: usize, order: Ordering) -> Result<u16, MemoryFault> {
        Ok(u16::from_le(self.u16(at)?.load(order)))
    }

    #[inline(always)]
    fn store_u16(&self, at: usize, value: u16, order: Ordering) -> Result<(), MemoryFault> {
        self.u16(at)?.store(value.to_le(), order);
        Ok(())
    }

    #[inline(always)]
    fn store_u32_pair(&self, at: usize, low: u32, high: u32) -> Result<(), MemoryFault> {
        let (first, second) = self.u32_pair(at)?;
        first.store(low.to_le(), Ordering::Relaxed);
        second.store(high.to_le(), Ordering::Relaxed);
        Ok(())
    }

    #[inline(always)]
    fn load_u32_pair(&self, at: usize) -> Result<(u32, u32), MemoryFault> {
        let (first, second) = self.u32_pair(at)?;
        Ok((u32::from_le(first.load(Ordering::Relaxed)), u32::from_le(second.load(Ordering::Relaxed))))
    }

    #[inline(always)]
    fn load_descriptor(&self, index: usize, order: Ordering) -> Result<Descriptor, MemoryFault> {
        let (addr, rest) = self.descriptor(index)?;
        let rest = u64::from_le(rest.load(order));
        Ok(Descriptor { addr: u64::from_le(addr.load(Ordering::Relaxed)), rest })
    }

    #[inline(always)]
    fn store_descriptor(
        &self,
        index: usize,
        descriptor: Descriptor,
        order: Ordering,
    ) -> Result<(), MemoryFault> {
        let (addr, rest) = self.descriptor(index)?;
        addr.store(descriptor.addr.to_le(), Ordering::Relaxed);
        rest.store(descriptor.rest.to_le(), order);
        Ok(())
    }

    #[inline(always)]
    fn store_descriptor_tail(
        &self,
        index: usize,
        descriptor: Descriptor,
        order: Ordering,
    ) -> Result<(), MemoryFault> {
        let (_, rest) = self.descriptor(index)?;
        rest.store(descriptor.rest.to_le(), order);
        Ok(())
    }

    #[inline(always)]
    fn fetch_to_read(&self, at: usize) {
        fetch::to_read(self.host.as_ptr().wrapping_add(at));
    }

    #[inline(always)]
    fn fetch_to_write(&self, at: usize) {
        fetch::to_write(self.host.as_ptr().wrapping_add(at));
    }

    #[inline(always)]
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

/// An area in memory that is reached by messages only.
pub(crate) struct Remote {
    at: IoAddr,
    len: usize,
    memory: Arc<dyn Memory>,
}

impl Remote {
    /// `len` bytes at `at`, if the memory reaches them.
    pub(crate) fn find(memory: &Arc<dyn Memory>, at: IoAddr, len: usize, access: Access) -> Option<Self> {
        at.checked_add(len as u64)?;
        memory.reaches(at, len as u64, access).then(|| Self { at, len, memory: Arc::clone(memory) })
    }

    fn address(&self, at: usize, len: usize) -> Result<IoAddr, MemoryFault> {
        let fault = MemoryFault { at: self.at, len: len as u64 };
        if at > self.len || len > self.len - at {
            return Err(fault);
        }
        self.at.checked_add(at as u64).ok_or(fault)
    }

    fn load<const N: usize>(&self, at: usize) -> Result<[u8; N], MemoryFault> {
        let mut bytes = [0; N];
        self.memory.read(self.address(at, N)?, &mut bytes)?;
        Ok(bytes)
    }

    fn store(&self, at: usize, bytes: &[u8]) -> Result<(), MemoryFault> {
        self.memory.write(self.address(at, bytes.len())?, bytes)
    }
}

impl Area for Remote {
    fn load_u16(&self, at: usize, _order: Ordering) -> Result<u16, MemoryFault> {
        Ok(u16::from_le_bytes(self.load(at)?))
    }

    fn store_u16(&self, at: usize, value: u16, _order: Ordering) -> Result<(), MemoryFault> {
        self.store(at, &value.to_le_bytes())
    }

    fn store_u32_pair(&self, at: usize, low: u32, high: u32) -> Result<(), MemoryFault> {
        self.store(at, &(u64::from(low) | u64::from(high) << 32).to_le_bytes())
    }

    fn load_u32_pair(&self, at: usize) -> Result<(u32, u32), MemoryFault> {
        let pair = u64::from_le_bytes(self.load(at)?);
        Ok((pair as u32, (pair >> 32) as u32))
    }

    fn load_descriptor(&self, index: usize, order: Ordering) -> Result<Descriptor, MemoryFault> {
        let at = index * DESCRIPTOR_SIZE;
        // The last field first, and from this message alone: what came before it in the peer's order is then in the second.
        let fourth = self.load_u16(at + 14, order)?;
        Ok(Descriptor::from_bytes(self.load(at)?).with_fourth(fourth))
    }

    fn store_descriptor(
        &self,
        index: usize,
        descriptor: Descriptor,
        order: Ordering,
    ) -> Result<(), MemoryFault> {
        self.store(index * DESCRIPTOR_SIZE, &descriptor.addr.to_le_bytes())?;
        self.store_descriptor_tail(index, descriptor, order)
    }

    fn store_descriptor_tail(
        &self,
        index: usize,
        descriptor: Descriptor,
        order: Ordering,
    ) -> Result<(), MemoryFault> {
        let at = index * DESCRIPTOR_SIZE + 8;
        let [a, b, c, d, e, f, g, h] = descriptor.rest.to_le_bytes();
        self.store(at, &[a, b, c, d, e, f])?;
        self.store_u16(at + 6, u16::from_le_bytes([g, h]), order)
    }

    /// There is nothing here that the processor knows of.
    fn fetch_to_read(&self, _: usize) {}

    fn fetch_to_write(&self, _: usize) {}

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

/// The three areas of a ring, all mapped or all remote.
pub(crate) struct Areas<A> {
    pub(crate) descriptors: A,
    pub(crate) driver: A,
    pub(crate) device: A,
}

/// Checks alignment as both layouts ask for it.
pub(crate) fn check_alignment(at: IoAddr, align: u64) -> Result<(), SetupError> {
    if at.0.is_multiple_of(align) { Ok(()) } else { Err(SetupError::Alignment(at, align)) }
}
