// SPDX-License-Identifier: GPL-2.0

//! Linux's vhost core as bindgen sees it: unsafe to call, and not to be formatted or judged as our code.
#![allow(clippy::all, dead_code, missing_docs, unreachable_pub)]
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals)]
#![allow(improper_ctypes, unnecessary_transmutes, unsafe_op_in_unsafe_fn)]

include!(env!("VIODUCT_VHOST_BINDINGS"));

const _: () = assert!(core::mem::size_of::<vhost_dev>() == vioduct_sizeof_vhost_dev as usize);
const _: () = assert!(core::mem::size_of::<vhost_virtqueue>() == vioduct_sizeof_vhost_virtqueue as usize);
const _: () = assert!(core::mem::offset_of!(vhost_virtqueue, log) == vioduct_offsetof_log as usize);
