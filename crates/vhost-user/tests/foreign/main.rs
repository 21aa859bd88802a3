//! Clients that are not ours, on our server: `virtio-demo` by requests that others have put into rings, or have carried.
#![allow(clippy::unwrap_used)]

#[path = "../rig/mod.rs"]
mod rig;

mod rust_vmm;
mod virtio_driver_crate;

use rig::running::Running;
use vioduct_spec::demo;
use vioduct_vhost_user::{Limits, SharedFiles};
use vioduct_virtio_demo::VirtioDemo;

/// How many requests each client sends.
const REQUESTS: u32 = 500;

/// A server of `virtio-demo`. Other clients keep memory in files that they can shrink.
fn demo_server() -> Running {
    Running::with_limits(Limits { shared_files: SharedFiles::Any, ..Limits::default() }, VirtioDemo::default)
}

/// One half of a request or of a reply.
fn half(opcode: u32, operand: u32) -> [u8; demo::HALF_LEN] {
    (u64::from(opcode) | u64::from(operand) << 32).to_le_bytes()
}
