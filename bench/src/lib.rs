//! Benchmarks against peers; never shipped
