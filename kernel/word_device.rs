// SPDX-License-Identifier: GPL-2.0

//! A device node of which a program reads and to which it writes one `u32` at a time.
//!
//! A read or write of fewer than 4 bytes is `EINVAL`, one of more concerns the first 4; a bad pointer is `EFAULT`.
//!
//! Unsafe code registers the node itself: the kernel crate's registration does not say which module its file
//! operations belong to, so that the module could be unloaded while a file is open.
#![allow(unsafe_code)]

use core::marker::PhantomData;
use kernel::bindings;
use kernel::container_of;
use kernel::error::to_result;
use kernel::fs::{File, Kiocb};
use kernel::iov::{IovIterDest, IovIterSource};
use kernel::miscdevice::{MiscDevice, MiscDeviceOptions, MiscDeviceRegistration};
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::types::Opaque;

/// Bytes of one value.
const WORD_LEN: usize = 4;

/// What reading and writing mean; open files share it, and it may outlive the device behind it.
pub(crate) trait Word: Send + Sync + Sized + 'static {
    /// The node's name below `/dev`.
    const NAME: &'static CStr;

    /// A program reads.
    fn load(&self) -> Result<u32>;

    /// A program writes.
    fn store(&self, value: u32) -> Result;
}

/// The node; dropped, it is gone from `/dev`. Files that are open stay so, and hold on to the `Word` and the module.
#[pin_data(PinnedDrop)]
pub(crate) struct Node<T: Word> {
    #[pin]
    misc: Opaque<bindings::miscdevice>,
    word: Arc<T>,
}

// SAFETY: the node is the misc core's, which locks for itself, and an `Arc` that any thread may share.
unsafe impl<T: Word> Send for Node<T> {}
// SAFETY: as above.
unsafe impl<T: Word> Sync for Node<T> {}

impl<T: Word> Node<T> {
    /// Makes the node.
    pub(crate) fn register(word: Arc<T>) -> Result<Pin<KBox<Self>>> {
        KBox::try_pin_init(
            try_pin_init!(Self {
                word,
                misc <- Opaque::try_ffi_init(move |slot: *mut bindings::miscdevice| {
                    let mut misc = Files::<T>::OPTIONS.into_raw::<Files<T>>();
                    misc.fops = Files::<T>::OPERATIONS;
                    // SAFETY: the slot is ours to write, and pinned.
                    unsafe { slot.write(misc) };
                    // SAFETY: the slot holds a complete description. `word`, which `open` needs, is in place.
                    to_result(unsafe { bindings::misc_register(slot) })
                }),
            }),
            GFP_KERNEL,
        )
    }
}

#[pinned_drop]
impl<T: Word> PinnedDrop for Node<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: it was registered, or there would be no value to drop.
        unsafe { bindings::misc_deregister(self.misc.get()) };
    }
}

/// The file operations of a node.
struct Files<T>(PhantomData<T>);

impl<T: Word> Files<T> {
    const OPTIONS: MiscDeviceOptions = MiscDeviceOptions { name: T::NAME };
    /// The kernel crate's table with the owner filled in.
    const OPERATIONS: &'static bindings::file_operations = &{
        // SAFETY: the pointer is to the crate's own constant table.
        let mut operations = unsafe { *Self::OPTIONS.into_raw::<Self>().fops };
        operations.owner = crate::THIS_MODULE.as_ptr();
        operations
    };
}

#[vtable]
impl<T: Word> MiscDevice for Files<T> {
    type Ptr = Arc<T>;

    fn open(_file: &File, misc: &MiscDeviceRegistration<Self>) -> Result<Arc<T>> {
        let misc: *mut Opaque<bindings::miscdevice> = misc.as_raw().cast();
        // SAFETY: only `Node::register` registers these operations, so the misc device lies in a node, which the misc
        // core's lock keeps from being dropped during the call.
        Ok(unsafe { (*container_of!(misc, Node<T>, misc)).word.clone() })
    }

    fn read_iter(kiocb: Kiocb<'_, Self::Ptr>, iov: &mut IovIterDest<'_>) -> Result<usize> {
        if iov.len() < WORD_LEN {
            return Err(EINVAL);
        }
        let value = kiocb.file().load()?;
        whole(iov.copy_to_iter(&value.to_le_bytes()))
    }

    fn write_iter(kiocb: Kiocb<'_, Self::Ptr>, iov: &mut IovIterSource<'_>) -> Result<usize> {
        if iov.len() < WORD_LEN {
            return Err(EINVAL);
        }
        let mut value = [0; WORD_LEN];
        whole(iov.copy_from_iter(&mut value))?;
        kiocb.file().store(u32::from_le_bytes(value))?;
        Ok(WORD_LEN)
    }
}

/// Copying stops early where the program's memory does.
fn whole(copied: usize) -> Result<usize> {
    if copied == WORD_LEN { Ok(copied) } else { Err(EFAULT) }
}
