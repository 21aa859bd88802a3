//! Servers that harm the front-end, or try to. These tests count this process's descriptors: alone in it, and one at a time.
#![allow(clippy::unwrap_used)]

#[path = "../rig/mod.rs"]
mod rig;

mod channel;
mod client;
mod table;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

/// Waits until as many descriptors are open as before.
fn expect_descriptors(before: usize, name: &str) {
    let began = Instant::now();
    while open_descriptors() != before {
        let now = open_descriptors();
        assert!(began.elapsed() < rig::peer::PATIENCE, "{name}: {now} descriptors, {before} before");
        std::thread::yield_now();
    }
}
