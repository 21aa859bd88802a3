//! The log of what the kernel writes.
//!
//! This module holds `unsafe` to write to the log as the kernel does: by its address.
#![allow(unsafe_code)]

use super::fake::{Fake, demo};
use std::sync::atomic::{AtomicU64, Ordering};
use vioduct_virtqueue::IoAddr;

#[test]
fn what_the_kernel_logs_is_in_the_memorys_log() {
    let fake = Fake::new();
    let mut rig = demo(&fake);
    rig.endpoint.pause();
    rig.memory.start_log();
    fake.asked();
    rig.endpoint.resume();
    let asked = fake.asked();
    assert_eq!(asked[1..4], ["SetLogBase", "SetLogFd", "SetFeatures 0x104000000"]);
    assert!(asked.contains(&"SetVringAddr 0 logged".to_owned()), "{asked:?}");
    let log = fake.state().log as *mut u64;
    // SAFETY: the address is that of the log's first word, which the device keeps while it is there; both ends use it as an atomic.
    let word = unsafe { AtomicU64::from_ptr(log) };
    word.store(1 << 5 | 1, Ordering::Release);
    rig.endpoint.pause();
    assert_eq!(rig.memory.take_dirty(), [IoAddr(0), IoAddr(5 << 12)]);
    rig.memory.stop_log();
    rig.endpoint.resume();
    let asked = fake.asked();
    assert!(asked.contains(&"SetFeatures 0x100000000".to_owned()), "{asked:?}");
    assert!(asked.contains(&"SetVringAddr 0".to_owned()), "{asked:?}");
}
