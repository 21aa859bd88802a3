// SPDX-License-Identifier: GPL-2.0

//! A device node that its module cannot leave: while a file of it is open, the module stays.
//!
//! Unsafe code registers the node itself: the kernel crate's registration does not say which module its file
//! operations belong to, so that the module could be unloaded while a file is open.
//!
//! A module need not use all of it.
#![allow(unsafe_code, dead_code)]

use core::marker::PhantomData;
use kernel::bindings;
use kernel::container_of;
use kernel::error::to_result;
use kernel::miscdevice::{MiscDevice, MiscDeviceOptions, MiscDeviceRegistration};
use kernel::prelude::*;
use kernel::types::Opaque;

/// What a node is called, and what it gives to a file that is opened.
pub(crate) trait Named: MiscDevice + 'static {
    /// The node's name below `/dev`.
    const NAME: &'static CStr;
    /// What belongs to the node, for [`MiscDevice::open`] to find by [`Node::of`].
    type Shared: Send + Sync;
}

/// The node; dropped, it is gone from `/dev`. Files that are open stay so, and hold on to the module.
#[pin_data(PinnedDrop)]
pub(crate) struct Node<F: Named> {
    #[pin]
    misc: Opaque<bindings::miscdevice>,
    shared: F::Shared,
}

// SAFETY: the node is the misc core's, which locks for itself; what is shared says for itself that threads may share it.
unsafe impl<F: Named> Send for Node<F> {}
// SAFETY: as above.
unsafe impl<F: Named> Sync for Node<F> {}

impl<F: Named> Node<F> {
    /// Makes the node.
    pub(crate) fn register(shared: F::Shared) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            shared,
            misc <- Opaque::try_ffi_init(|slot: *mut bindings::miscdevice| {
                let mut misc = Operations::<F>::OPTIONS.into_raw::<F>();
                misc.fops = Operations::<F>::TABLE;
                // SAFETY: the slot is ours to write, and pinned.
                unsafe { slot.write(misc) };
                // SAFETY: the slot holds a complete description. What is shared, which `open` needs, is in place.
                to_result(unsafe { bindings::misc_register(slot) })
            }),
        })
    }

    /// What belongs to the node that a file is being opened of.
    pub(crate) fn of(opened: &MiscDeviceRegistration<F>) -> &F::Shared {
        let misc: *mut Opaque<bindings::miscdevice> = opened.as_raw().cast();
        // SAFETY: only `register` registers these operations, so the misc device lies in a node, which the misc core's
        // lock keeps from being dropped while a file is being opened.
        unsafe { &(*container_of!(misc, Self, misc)).shared }
    }
}

#[pinned_drop]
impl<F: Named> PinnedDrop for Node<F> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: it was registered, or there would be no value to drop.
        unsafe { bindings::misc_deregister(self.misc.get()) };
    }
}

/// The file operations of a node.
struct Operations<F>(PhantomData<F>);

impl<F: Named> Operations<F> {
    const OPTIONS: MiscDeviceOptions = MiscDeviceOptions { name: F::NAME };
    /// The kernel crate's table with the owner filled in.
    const TABLE: &'static bindings::file_operations = &{
        // SAFETY: the pointer is to the crate's own constant table.
        let mut operations = unsafe { *Self::OPTIONS.into_raw::<F>().fops };
        operations.owner = crate::THIS_MODULE.as_ptr();
        operations
    };
}
