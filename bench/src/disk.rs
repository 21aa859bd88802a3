//! A disk in another process: reads by a client of others, from our server and from QEMU's storage daemon.
//!
//! | module | what is in it |
//! |---|---|
//! | [`client`] | the crate `virtio-driver` over vhost-user, so many reads in flight |
//! | [`servers`] | `vioduct serve block` and `qemu-storage-daemon` as processes |

pub mod client;
pub mod servers;
