//! A virtio-mmio window under any accesses.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vioduct_fuzz::window::run(bytes));
