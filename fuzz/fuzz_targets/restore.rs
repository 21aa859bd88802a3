//! Any saved state, restored.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vioduct_fuzz::restore::run(bytes));
