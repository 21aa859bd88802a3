//! The vioduct command line.
fn main() {}
