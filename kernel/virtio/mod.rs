// SPDX-License-Identifier: GPL-2.0

//! A safe layer over Linux's virtio core, for drivers that are kernel modules.
//!
//! It is one folder that any module can take: `mod virtio;` in the crate root, and in its Kbuild the rule for
//! `virtio/bindings.rs`, the variable `VIODUCT_VIRTIO_BINDINGS`, and one C file that includes `virtio/inlines.c`.
//!
//! | file | what |
//! |---|---|
//! | [`driver`] | [`Driver`], and [`Registration`] on the virtio bus |
//! | [`device`] | [`Device`]: features and configuration space, while a driver is bound |
//! | [`queue`] | [`Queue`]: messages in flight, callbacks, what happens when the device goes |
//! | [`message`] | [`Message`]: the memory of one request, owned by driver or queue, never by both |
//! | [`irq_lock`] | [`IrqLock`]: a spin lock that interrupt handlers may share |
//!
//! What it promises to safe code:
//!
//! - The device's memory accesses stay within memory that lives: a message that was sent belongs to its queue until
//!   the device returns it, or until the device was reset. A sender that stops waiting frees nothing.
//! - Whatever the device says of lengths is clamped to the message's size; tokens are checked by Linux's ring code.
//! - A driver's data may outlive its device, as open files demand: its queues then answer ENODEV.
//!
//! A driver need not use all of it.
#![allow(dead_code, unused_imports)]

mod bindings;
mod device;
mod driver;
mod irq_lock;
mod message;
mod queue;

pub(crate) use device::{Device, Setup};
pub(crate) use driver::{DeviceTable, Driver, Registration, device_table};
pub(crate) use irq_lock::IrqLock;
pub(crate) use message::Message;
pub(crate) use queue::Queue;
