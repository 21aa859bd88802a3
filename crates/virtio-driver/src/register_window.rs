//! Registers at byte offsets: real ones behind a pointer, or a model of them.
//!
//! This module holds `unsafe` because [`VolatileWindow`] accesses device memory through a pointer that its maker vouches for.
#![allow(unsafe_code)]

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::sync::Arc;
use core::ptr::{NonNull, read_volatile, write_volatile};

/// Width of one register access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// One byte.
    U8,
    /// Two bytes.
    U16,
    /// Four bytes.
    U32,
    /// Eight bytes.
    U64,
}

impl Width {
    /// The width in bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::U32 => 4,
            Self::U64 => 8,
        }
    }

    /// All ones in this width: what a bus answers for a device that does not.
    #[must_use]
    pub const fn ones(self) -> u64 {
        match self {
            Self::U8 => 0xff,
            Self::U16 => 0xffff,
            Self::U32 => 0xffff_ffff,
            Self::U64 => u64::MAX,
        }
    }
}

/// A range of device registers. Offsets are in bytes from its start, values are in the machine's own order: an implementation
/// converts from and to the little-endian order of the wire.
///
/// Accesses do not fail: where there is no register, or no device any more, a read gives all ones and a write does nothing, as
/// buses have it. Each call is one access of the given width, in program order.
pub trait RegisterWindow {
    /// Size of the window in bytes.
    fn window_len(&self) -> u64;

    /// Reads a register of `width` at `offset`, which is aligned to it.
    fn read(&self, offset: u64, width: Width) -> u64;

    /// Writes the low bytes of `value` to a register of `width` at `offset`, which is aligned to it.
    fn write(&self, offset: u64, width: Width, value: u64);

    /// Reads one byte.
    fn read_u8(&self, offset: u64) -> u8 {
        self.read(offset, Width::U8) as u8
    }

    /// Reads two bytes.
    fn read_u16(&self, offset: u64) -> u16 {
        self.read(offset, Width::U16) as u16
    }

    /// Reads four bytes.
    fn read_u32(&self, offset: u64) -> u32 {
        self.read(offset, Width::U32) as u32
    }

    /// Reads eight bytes.
    fn read_u64(&self, offset: u64) -> u64 {
        self.read(offset, Width::U64)
    }

    /// Writes one byte.
    fn write_u8(&self, offset: u64, value: u8) {
        self.write(offset, Width::U8, u64::from(value));
    }

    /// Writes two bytes.
    fn write_u16(&self, offset: u64, value: u16) {
        self.write(offset, Width::U16, u64::from(value));
    }

    /// Writes four bytes.
    fn write_u32(&self, offset: u64, value: u32) {
        self.write(offset, Width::U32, u64::from(value));
    }

    /// Writes eight bytes.
    fn write_u64(&self, offset: u64, value: u64) {
        self.write(offset, Width::U64, value);
    }
}

macro_rules! forward_window {
    ($($pointer:ty),*) => {$(
        impl<W: RegisterWindow + ?Sized> RegisterWindow for $pointer {
            fn window_len(&self) -> u64 {
                (**self).window_len()
            }
            fn read(&self, offset: u64, width: Width) -> u64 {
                (**self).read(offset, width)
            }
            fn write(&self, offset: u64, width: Width, value: u64) {
                (**self).write(offset, width, value);
            }
        }
    )*};
}

forward_window!(&W, Box<W>, Rc<W>, Arc<W>);

/// Device registers that are mapped into this address space.
#[derive(Debug)]
pub struct VolatileWindow {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: every access is one volatile load or store; `new` was promised a mapping that any thread may use.
unsafe impl Send for VolatileWindow {}

impl VolatileWindow {
    /// A window over `len` bytes of device registers at `start`.
    ///
    /// # Safety
    /// The bytes stay mapped for as long as this object lives, may be accessed from any thread, and are device registers or
    /// memory that nothing in this program refers to; `start` is 8-byte aligned.
    #[must_use]
    pub const unsafe fn new(start: NonNull<u8>, len: usize) -> Self {
        Self { start, len }
    }

    /// Where a register is, if it is within the window and aligned.
    fn at(&self, offset: u64, width: Width) -> Option<*mut u8> {
        let end = offset.checked_add(width.bytes() as u64)?;
        if end > self.len as u64 || !offset.is_multiple_of(width.bytes() as u64) {
            return None;
        }
        // SAFETY: the whole register is within the `len` bytes that are mapped.
        Some(unsafe { self.start.as_ptr().add(offset as usize) })
    }
}

impl RegisterWindow for VolatileWindow {
    fn window_len(&self) -> u64 {
        self.len as u64
    }

    fn read(&self, offset: u64, width: Width) -> u64 {
        let Some(at) = self.at(offset, width) else { return width.ones() };
        // SAFETY: `at` is mapped and aligned to the width, for every arm.
        unsafe {
            match width {
                Width::U8 => u64::from(read_volatile(at)),
                Width::U16 => u64::from(u16::from_le(read_volatile(at.cast()))),
                Width::U32 => u64::from(u32::from_le(read_volatile(at.cast()))),
                Width::U64 => u64::from_le(read_volatile(at.cast())),
            }
        }
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        let Some(at) = self.at(offset, width) else { return };
        // SAFETY: `at` is mapped and aligned to the width, for every arm.
        unsafe {
            match width {
                Width::U8 => write_volatile(at, value as u8),
                Width::U16 => write_volatile(at.cast(), (value as u16).to_le()),
                Width::U32 => write_volatile(at.cast(), (value as u32).to_le()),
                Width::U64 => write_volatile(at.cast(), value.to_le()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{RegisterWindow, VolatileWindow, Width};
    use core::ptr::NonNull;

    #[test]
    fn volatile_accesses_are_little_endian_and_stay_within_the_window() {
        let mut registers = [0u64; 3];
        // SAFETY: two of the three aligned words, which live longer than the window and are looked at after its last use.
        let window = unsafe { VolatileWindow::new(NonNull::from(&mut registers).cast(), 16) };
        window.write_u64(0, 0x8877_6655_4433_2211);
        window.write_u32(8, 0xddcc_bbaa);
        window.write_u16(12, 0xffee);
        window.write_u8(14, 0x99);
        assert_eq!((window.read_u8(1), window.read_u16(2), window.read_u32(4)), (0x22, 0x4433, 0x8877_6655));
        assert_eq!(window.read_u64(8), 0x0099_ffee_ddcc_bbaa);
        for (offset, width) in [(16, Width::U8), (12, Width::U64), (2, Width::U32), (u64::MAX, Width::U16)] {
            window.write(offset, width, 0);
            assert_eq!(window.read(offset, width), width.ones(), "at {offset}");
        }
        assert_eq!(registers, [0x8877_6655_4433_2211, 0x0099_ffee_ddcc_bbaa, 0]);
    }
}
