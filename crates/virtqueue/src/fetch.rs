//! Hints: what the processor is to fetch while the program goes on. Memory that the other end has just written is in the cache of its
//! processor; one line after the other, each would be waited for.
//!
//! This module holds `unsafe` for the processor's instructions, which access nothing as far as a program can tell, and do not fault.
#![allow(unsafe_code)]

/// Fetches the cache line of an address, any address, that is read soon.
#[inline]
pub fn to_read(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    // Processors of other kinds fetch when they must.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Fetches the cache line of an address, any address, that is written soon, perhaps after it was read: nobody else has it then.
#[inline]
pub fn to_write(at: *const u8) {
    // Written out: unless a program is built for processors that are known to have it, the compiler takes the hint for reading. Those that
    // do not have it do nothing.
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint.
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
