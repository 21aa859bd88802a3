//! The socket device, and packets of every kind.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = vioduct_fuzz::vsock::run(bytes);
});
