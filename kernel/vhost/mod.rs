// SPDX-License-Identifier: GPL-2.0

//! A safe layer over Linux's vhost core, for back-ends that are kernel modules.
//!
//! It is one folder that any module can take, with `node.rs` beside it: `mod node; mod vhost;` in the crate root, and in
//! its Kbuild the rule for `vhost/bindings.rs`, the variable `VIODUCT_VHOST_BINDINGS`, and one C file that includes
//! `vhost/inlines.c`. The module needs `vhost.ko` to be loaded.
//!
//! | file | what |
//! |---|---|
//! | [`device`] | [`Backend`], which a module writes, and [`Device`]: one open file, its owner, its queues |
//! | [`owned`] | [`Owned`]: a device in the hands of its owner, who alone starts and stops it |
//! | [`queue`] | [`Queue`]: a queue in the hands of its worker |
//! | [`chain`] | [`Chain`]: the driver's buffers, to be read and written once |
//! | [`files`] | [`Files`]: the node's file operations |
//!
//! A back-end says what it is called and what it offers, and answers chains:
//!
//! ```ignore
//! impl vhost::Backend for Echo {
//!     // …
//!     fn kicked(&self, queue: &mut vhost::Queue<'_>) {
//!         queue.drain(|chain| { /* read chain.readable(), write chain.writable() */ Ok(()) });
//!     }
//! }
//! ```
//!
//! What it promises to safe code, and to the kernel, whatever programs and guests do:
//!
//! - Only the owner (the process that said `VHOST_SET_OWNER`) changes a device; the core checks for its ioctls, [`Owned`] for
//!   the rest.
//! - A queue that runs has a memory table, addresses that a program may have, and a device of version 1; memory is only
//!   reached by the kernel's copying functions, in the owner's address space, so that wrong addresses are errors and no more.
//! - A worker has the queue's lock from its first look at the ring to its last. When a device has been stopped, closed or
//!   reset, no worker is in it, and no chain is half done.
//! - Every chain that is taken is completed, once, with as many bytes as were written, and what was written is logged as
//!   dirty while that is asked for. What cannot be done of it, for the owner lacks the memory, makes the ring's error event.
//! - After a weight of work the worker lets the device's other queues have their turn.
//!
//! What it does not do: an IOMMU (`VIRTIO_F_ACCESS_PLATFORM` is not offered), packed rings, which the core lacks, and chains
//! that outlast the worker's turn.
#![allow(dead_code, unused_imports)]

mod bindings;
mod chain;
mod device;
mod files;
mod owned;
mod queue;

pub(crate) use chain::Chain;
pub(crate) use device::{Backend, Device};
pub(crate) use files::Files;
pub(crate) use owned::Owned;
pub(crate) use queue::Queue;
