#![no_main]
#![allow(missing_docs)]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    vioduct_fuzz::vhost_user::run(bytes);
});
