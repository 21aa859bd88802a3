//! PCI configuration spaces and BARs under any accesses.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vioduct_fuzz::pci::run(bytes));
