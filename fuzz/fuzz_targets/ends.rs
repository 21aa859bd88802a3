//! Both ends of a ring, honest, against a model of a queue.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vioduct_fuzz::ends::run(bytes));
