//! What is lent to a device must outlive the device's use of it.
//!
//! This module holds `unsafe` because it drops a value by hand: only once the device was seen to be reset. A device that never
//! finishes its reset may still write to memory, which is leaked then rather than given to somebody else.
#![allow(unsafe_code)]

use alloc::sync::Arc;
use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

/// Whether a device may access what it was lent since its last reset. Clones are handles to one state.
#[derive(Clone, Debug)]
pub(crate) struct DeviceAccess(Arc<AtomicBool>);

impl DeviceAccess {
    /// A device that was lent nothing yet.
    pub(crate) fn none() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    /// The device is told to start.
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// The device has been reset.
    pub(crate) fn end(&self) {
        self.0.store(false, Ordering::Release);
    }

    fn is_open(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Something whose memory a device may access: leaked if it goes out of scope while that is so.
pub(crate) struct Lent<V> {
    value: ManuallyDrop<V>,
    access: DeviceAccess,
}

impl<V> Lent<V> {
    pub(crate) fn new(value: V, access: &DeviceAccess) -> Self {
        Self { value: ManuallyDrop::new(value), access: access.clone() }
    }
}

impl<V> Deref for Lent<V> {
    type Target = V;
    fn deref(&self) -> &V {
        &self.value
    }
}

impl<V> DerefMut for Lent<V> {
    fn deref_mut(&mut self) -> &mut V {
        &mut self.value
    }
}

impl<V> Drop for Lent<V> {
    fn drop(&mut self) {
        if !self.access.is_open() {
            // SAFETY: the value is dropped here only, and not used after.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}

impl<V> fmt::Debug for Lent<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("device_has_access", &self.access.is_open()).finish_non_exhaustive()
    }
}
