// SPDX-License-Identifier: GPL-2.0

//! Linux's virtio core as bindgen sees it: unsafe to call, and not to be formatted or judged as our code.
#![allow(clippy::all, dead_code, missing_docs, unreachable_pub)]
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals)]
#![allow(improper_ctypes, unnecessary_transmutes, unsafe_op_in_unsafe_fn)]

include!(env!("VIODUCT_VIRTIO_BINDINGS"));

const _: () = assert!(core::mem::size_of::<virtio_device>() == vioduct_sizeof_virtio_device as usize);
const _: () = assert!(core::mem::size_of::<virtio_driver>() == vioduct_sizeof_virtio_driver as usize);
const _: () = assert!(core::mem::size_of::<virtqueue>() == vioduct_sizeof_virtqueue as usize);
const _: () = assert!(core::mem::offset_of!(virtio_device, priv_) == vioduct_offsetof_priv as usize);
