//! What the fuzz targets do with their bytes; `fuzz_targets/` only names them.
//!
//! | module | its targets |
//! |---|---|
//! | [`device`] | `device_split`, `device_packed`: the device end against a hostile driver |
//! | [`driver`] | `driver_split`, `driver_packed`: the driver end against a hostile device |
//! | [`ends`] | `ends`: both ends, honest, against a model of a queue |
//!
//! [`input`] takes bytes apart, [`memory`] is a guest's memory of every kind. The seeds in `seeds/` are written by
//! `cargo run --example seeds`. To run a target:
//! `cargo +nightly fuzz run <target> fuzz/corpus/<target> fuzz/seeds/<target>`.

pub mod device;
pub mod driver;
pub mod ends;
pub mod input;
pub mod memory;
