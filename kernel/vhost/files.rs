// SPDX-License-Identifier: GPL-2.0

//! A node's file operations: every file that is opened is a device of its own.

use super::device::{Backend, Device};
use crate::node::Named;
use core::marker::PhantomData;
use kernel::fs::File;
use kernel::miscdevice::{MiscDevice, MiscDeviceRegistration};
use kernel::prelude::*;

/// For [`Node`](crate::node::Node): `Node<Files<B>>` is a back-end's place in `/dev`.
pub(crate) struct Files<B>(PhantomData<B>);

impl<B: Backend> Named for Files<B> {
    const NAME: &'static CStr = B::NAME;
    type Shared = ();
}

#[vtable]
impl<B: Backend> MiscDevice for Files<B> {
    type Ptr = Pin<KBox<Device<B>>>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        Device::new()
    }

    fn ioctl(device: Pin<&Device<B>>, _file: &File, number: u32, argument: usize) -> Result<isize> {
        device.ioctl(number, argument)
    }
}
