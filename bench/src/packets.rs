//! Packets through another process: our network card before a mirror, and our driver, against DPDK's ends of vhost-user.
//!
//! | module | what is in it |
//! |---|---|
//! | [`testpmd`] | DPDK's program that forwards packets, as a process |
//! | [`circuit`] | two processes between which packets go round |
//! | [`forwarder`] | our driver in DPDK's place |
//! | [`pages`] | huge pages, without which DPDK has no memory |

pub mod circuit;
pub mod forwarder;
pub mod pages;
pub mod testpmd;
