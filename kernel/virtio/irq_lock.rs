// SPDX-License-Identifier: GPL-2.0

//! A spin lock that keeps interrupts off while it is held.
//!
//! The kernel crate's `SpinLock` leaves them on: taken by a request and by the callback that interrupts it on the
//! same processor, it would wait for itself for ever. Unsafe code is needed to be a back-end of the crate's `Lock`.
#![allow(unsafe_code)]

use super::bindings as c;
use kernel::bindings;
use kernel::ffi::{c_char, c_ulong};
use kernel::sync::lock::{Backend, Lock};

/// Data that interrupt handlers share with the rest.
pub(crate) type IrqLock<T> = Lock<T, InterruptsOff>;

/// The back-end of [`IrqLock`].
pub(crate) struct InterruptsOff;

// SAFETY: a `spinlock_t` excludes every other holder, on this processor too, for interrupts are off.
unsafe impl Backend for InterruptsOff {
    type State = bindings::spinlock_t;
    /// The interrupt state to go back to.
    type GuardState = c_ulong;

    unsafe fn init(ptr: *mut Self::State, name: *const c_char, key: *mut bindings::lock_class_key) {
        // SAFETY: the caller gives memory for a lock, and a name and a key that live for ever.
        unsafe { bindings::__spin_lock_init(ptr, name, key) }
    }

    unsafe fn lock(ptr: *mut Self::State) -> Self::GuardState {
        // SAFETY: the caller has initialized the lock.
        unsafe { c::vioduct_lock_irqsave(ptr) }
    }

    unsafe fn try_lock(ptr: *mut Self::State) -> Option<Self::GuardState> {
        let mut flags = 0;
        // SAFETY: the caller has initialized the lock; `flags` is written when it was free.
        unsafe { c::vioduct_trylock_irqsave(ptr, &mut flags) }.then_some(flags)
    }

    unsafe fn unlock(ptr: *mut Self::State, guard_state: &Self::GuardState) {
        // SAFETY: the caller holds the lock, and got these flags when it took it.
        unsafe { c::vioduct_unlock_irqrestore(ptr, *guard_state) }
    }

    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // SAFETY: the caller has initialized the lock.
        unsafe { bindings::spin_assert_is_held(ptr) }
    }
}
