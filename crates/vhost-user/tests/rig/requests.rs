//! Every request, written out once more.

use crate::rig::payloads::{inflight, slot, span, table};
use crate::rig::peer::*;
use crate::rig::running::Running;

/// Request, its payload's length, and its number of descriptors; all of them, as the specification has them.
pub(crate) const REQUESTS: &[(u32, usize, usize)] = &[
    (GET_FEATURES, 0, 0),
    (SET_FEATURES, 8, 0),
    (SET_OWNER, 0, 0),
    (RESET_OWNER, 0, 0),
    (SET_MEM_TABLE, 40, 1),
    (SET_LOG_BASE, 16, 1),
    (SET_LOG_FD, 0, 1),
    (SET_VRING_NUM, 8, 0),
    (SET_VRING_ADDR, 40, 0),
    (SET_VRING_BASE, 8, 0),
    (GET_VRING_BASE, 8, 0),
    (SET_VRING_KICK, 8, 1),
    (SET_VRING_CALL, 8, 1),
    (SET_VRING_ERR, 8, 1),
    (GET_PROTOCOL_FEATURES, 0, 0),
    (SET_PROTOCOL_FEATURES, 8, 0),
    (GET_QUEUE_NUM, 0, 0),
    (SET_VRING_ENABLE, 8, 0),
    (SET_BACKEND_REQ_FD, 0, 1),
    (GET_CONFIG, 16, 0),
    (SET_CONFIG, 16, 0),
    (GET_INFLIGHT_FD, 20, 0),
    (SET_INFLIGHT_FD, 20, 1),
    (RESET_DEVICE, 0, 0),
    (VRING_KICK, 8, 0),
    (GET_MAX_MEM_SLOTS, 0, 0),
    (ADD_MEM_REG, 40, 1),
    (REM_MEM_REG, 40, 0),
    (SET_STATUS, 8, 0),
    (GET_STATUS, 0, 0),
    (SET_DEVICE_STATE_FD, 8, 1),
    (CHECK_DEVICE_STATE, 0, 0),
];

pub(crate) const ALL_PROTOCOL: u64 = REPLY_ACK
    | MQ
    | LOG_SHMFD
    | INFLIGHT_SHMFD
    | BACKEND_REQ
    | CONFIG
    | RESET_DEVICE_FEATURE
    | IN_BAND
    | MEM_SLOTS
    | STATUS
    | DEVICE_STATE;

pub(crate) fn agreed(running: &Running) -> Peer {
    let peer = running.peer();
    peer.agree(ALL_PROTOCOL);
    peer
}

/// A payload that is as good as can be for its length: one region of one page, or zeros.
pub(crate) fn payload(request: u32, len: usize) -> Vec<u8> {
    match request {
        SET_MEM_TABLE => table(&[[0, 0x1000, 0, 0]]),
        ADD_MEM_REG | REM_MEM_REG => slot([0x10_0000, 0x1000, 0x10_0000, 0]),
        SET_PROTOCOL_FEATURES => longs(&[ALL_PROTOCOL]),
        GET_CONFIG | SET_CONFIG => span(0, 4, 0, &[0; 4]),
        SET_LOG_BASE => longs(&[0x1000, 0]),
        GET_INFLIGHT_FD | SET_INFLIGHT_FD => inflight(0x1000, 0, 1, 16),
        _ => vec![0; len],
    }
}
