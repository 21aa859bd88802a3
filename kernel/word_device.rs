// SPDX-License-Identifier: GPL-2.0

//! A device node of which a program reads and to which it writes one `u32` at a time.
//!
//! A read or write of fewer than 4 bytes is `EINVAL`, one of more concerns the first 4; a bad pointer is `EFAULT`.

use crate::node::{Named, Node};
use crate::spec::demo;
use core::marker::PhantomData;
use kernel::fs::{File, Kiocb};
use kernel::iov::{IovIterDest, IovIterSource};
use kernel::miscdevice::{MiscDevice, MiscDeviceRegistration};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

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

    /// A program asks how often the device was notified.
    fn doorbells(&self) -> Result<u32> {
        Err(ENOTTY)
    }
}

/// The node of a [`Word`]. Files that are open hold on to it.
pub(crate) type WordNode<T> = Node<Files<T>>;

/// Makes the node.
pub(crate) fn register<T: Word>(word: Arc<T>) -> Result<Pin<KBox<WordNode<T>>>> {
    KBox::try_pin_init(Node::register(word), GFP_KERNEL)
}

/// The file operations of a node.
pub(crate) struct Files<T>(PhantomData<T>);

impl<T: Word> Named for Files<T> {
    const NAME: &'static CStr = T::NAME;
    type Shared = Arc<T>;
}

#[vtable]
impl<T: Word> MiscDevice for Files<T> {
    type Ptr = Arc<T>;

    fn open(_file: &File, misc: &MiscDeviceRegistration<Self>) -> Result<Arc<T>> {
        Ok(Node::of(misc).clone())
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

    fn ioctl(word: ArcBorrow<'_, T>, _file: &File, number: u32, _argument: usize) -> Result<isize> {
        match number {
            demo::COUNT_DOORBELLS => Ok(word.doorbells()? as isize),
            _ => Err(ENOTTY),
        }
    }
}

/// Copying stops early where the program's memory does.
fn whole(copied: usize) -> Result<usize> {
    if copied == WORD_LEN { Ok(copied) } else { Err(EFAULT) }
}
