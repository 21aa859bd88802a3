//! The driver end of a packed ring against a hostile device.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vioduct_fuzz::driver::run(
    vioduct_virtqueue::RingFormat::Packed,
    bytes
));
