//! The device end of a packed ring against a hostile driver.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vioduct_fuzz::device::run(
    vioduct_virtqueue::RingFormat::Packed,
    bytes
));
