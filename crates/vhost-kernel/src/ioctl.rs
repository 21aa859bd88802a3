//! The requests that this crate makes: a sandbox allows these.

use vioduct_spec::vhost::*;
use vioduct_spec::vhost_demo;

/// What is asked when a device is made, before its driver is there.
pub const SET_UP: &[u32] = &[GET_FEATURES, SET_OWNER, NEW_WORKER, ATTACH_VRING_WORKER, VSOCK_SET_GUEST_CID];

/// What is asked while a driver uses the device, from whichever thread it traps into.
pub const RUNNING: &[u32] = &[
    SET_FEATURES,
    GET_BACKEND_FEATURES,
    SET_BACKEND_FEATURES,
    SET_MEM_TABLE,
    SET_LOG_BASE,
    SET_LOG_FD,
    SET_VRING_NUM,
    SET_VRING_ADDR,
    SET_VRING_BASE,
    GET_VRING_BASE,
    SET_VRING_KICK,
    SET_VRING_CALL,
    SET_VRING_ERR,
    NET_SET_BACKEND,
    VSOCK_SET_RUNNING,
    vhost_demo::SET_RUNNING,
    vhost_demo::GET_VALUE,
    vhost_demo::SET_VALUE,
];
