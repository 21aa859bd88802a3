//! What it costs to have a device in another process: to start it, to keep it, to send it a request, to access its registers.
//!
//! | module | what is in it |
//! |---|---|
//! | [`program`] | `vioduct serve` as a process: built, started, measured, ended |
//! | [`requests`] | round trips to virtio-demo, over vhost-user and in this process |
//! | [`access`] | accesses to a BAR over vfio-user: against the crate `vfio_user` |
//! | [`measure`] | figures with goals, as a table or as JSON |

pub mod access;
pub mod measure;
pub mod program;
pub mod requests;
