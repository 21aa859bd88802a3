// SPDX-License-Identifier: GPL-2.0

//! A virtio device as its driver sees it while it is bound.
//!
//! Unsafe code follows the pointer to the device, which is lent for the length of a callback.
#![allow(unsafe_code)]

use super::bindings as c;
use super::message::Message;
use super::queue::Queue;
use core::marker::PhantomData;
use core::ptr::{NonNull, null_mut};
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::sync::Arc;

/// A device, lent to its driver: it cannot be kept, for devices go at any time.
///
/// # Invariants
///
/// The pointer is to a live device for `'a`, and its driver is bound or being bound.
pub(crate) struct Device<'a> {
    raw: NonNull<c::virtio_device>,
    _lent: PhantomData<&'a ()>,
}

impl Device<'_> {
    /// # Safety
    ///
    /// `raw` is a live device for the chosen lifetime, whose driver is bound or being bound.
    pub(super) unsafe fn new(raw: NonNull<c::virtio_device>) -> Self {
        // INVARIANT: as the caller promises.
        Self { raw, _lent: PhantomData }
    }

    /// The negotiated feature bits 0 to 63.
    pub(crate) fn features(&self) -> u64 {
        // SAFETY: the device is live, by the type's invariant; negotiation is over before a driver sees it.
        unsafe { c::vioduct_features(self.raw.as_ptr()) }
    }

    /// A 32-bit field of the configuration space; zero where the transport cannot reach it. May sleep.
    pub(crate) fn config_u32(&self, offset: usize) -> u32 {
        // SAFETY: the device is live, by the type's invariant.
        unsafe { c::vioduct_config_read32(self.raw.as_ptr(), offset as u32) }
    }

    /// Writes a 32-bit field of the configuration space, where the transport can. May sleep.
    pub(crate) fn set_config_u32(&self, offset: usize, value: u32) {
        // SAFETY: the device is live, by the type's invariant.
        unsafe { c::vioduct_config_write32(self.raw.as_ptr(), offset as u32, value) }
    }

    pub(super) fn raw(&self) -> *mut c::virtio_device {
        self.raw.as_ptr()
    }
}

/// A device whose driver is being bound, and the queues that were found.
pub(crate) struct Setup<'a, C: Send + 'static> {
    device: Device<'a>,
    callback: unsafe extern "C" fn(*mut c::virtqueue),
    queues: KVec<Arc<Queue<C>>>,
    found: Found,
}

/// Whether the transport has made queues, which are to be deleted then.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    No,
    Yes,
}

impl<'a, C: Send + 'static> Setup<'a, C> {
    pub(super) fn new(device: Device<'a>, callback: unsafe extern "C" fn(*mut c::virtqueue)) -> Self {
        Self { device, callback, queues: KVec::new(), found: Found::No }
    }

    /// The device.
    pub(crate) fn device(&self) -> &Device<'a> {
        &self.device
    }

    /// Finds the first `N` queues, for each of which the driver's `used` is called from now on.
    ///
    /// # Errors
    ///
    /// `EBUSY` when queues were found before, `ENOENT` when the device has fewer, and the transport's own.
    pub(crate) fn find_queues<const N: usize>(
        &mut self,
        names: [&'static CStr; N],
    ) -> Result<[Arc<Queue<C>>; N]> {
        if self.found == Found::Yes {
            return Err(EBUSY);
        }
        let (raw, callback) = (self.device.raw(), Some(self.callback));
        let mut infos =
            names.map(|name| c::virtqueue_info { name: name.as_char_ptr(), callback, ctx: false });
        let mut found = [null_mut::<c::virtqueue>(); N];
        // SAFETY: the device is live, and both arrays have as many elements as is said.
        to_result(unsafe { c::vioduct_find_vqs(raw, N as u32, found.as_mut_ptr(), infos.as_mut_ptr()) })?;
        self.found = Found::Yes;
        for vq in found {
            // SAFETY: the queue was just found, and is given to nobody else; `Resources` closes what is in
            // `self.queues` before it deletes them.
            let queue = unsafe { Queue::new(NonNull::new(vq).ok_or(ENOENT)?) }?;
            self.queues.push(queue, GFP_KERNEL)?;
        }
        Ok(core::array::from_fn(|at| self.queues[at].clone()))
    }

    /// The device and its queues, for the time after the set-up.
    pub(super) fn into_parts(self) -> (Device<'a>, Resources<C>) {
        (self.device, Resources { queues: self.queues, found: self.found })
    }
}

/// The queues of a device, to be given back when its driver leaves it.
pub(super) struct Resources<C: Send + 'static> {
    queues: KVec<Arc<Queue<C>>>,
    found: Found,
}

impl<C: Send + 'static> Resources<C> {
    /// The queue with this number.
    pub(super) fn queue(&self, index: u32) -> Option<&Queue<C>> {
        self.queues.get(index as usize).map(|queue| &**queue)
    }

    /// Takes the device out of use: requests end, the device is reset, what it held comes to `lost`, its queues go.
    ///
    /// No callback runs when this returns.
    pub(super) fn release(&self, device: &Device<'_>, mut lost: impl FnMut(KBox<Message<C>>)) {
        // First nobody can kick any more: a device that was reset must not be notified.
        self.queues.iter().for_each(|queue| queue.close());
        // SAFETY: the device is live, and no notification is under way.
        unsafe { c::virtio_reset_device(device.raw()) };
        for queue in &self.queues {
            // SAFETY: the device was reset just now, and the queues are still there.
            unsafe { queue.detach(&mut lost) };
        }
        if self.found == Found::Yes {
            // SAFETY: the queues were found, and none of ours is in use: each was closed and detached.
            unsafe { c::vioduct_del_vqs(device.raw()) };
        }
    }
}
