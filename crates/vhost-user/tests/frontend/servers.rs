//! Servers that can do less than ours.

use crate::rig::back::{Back, Deed};
use crate::rig::behind::{Behind, rings};
use crate::rig::front::Plan;
use crate::rig::peer::*;
use vioduct_vhost_user::Frontend;
use vioduct_virtio_device::{Backend, DeviceInfo, Features};
use vioduct_virtqueue::QueuePosition;

/// What a front-end says to a server that offers these features and protocol features, from the first to the last.
fn requests(features: u64, protocol: u64) -> Vec<u32> {
    let mut back = Back::new(GET_PROTOCOL_FEATURES, Deed::Answer(longs(&[protocol]), 0));
    back = if features & 1 << 30 == 0 {
        Back::new(GET_FEATURES, Deed::Answer(longs(&[features]), 0))
    } else {
        back
    };
    let info = DeviceInfo::new(63, "plain", vec![16]);
    let connect = |regions| Frontend::connect(&back.path, info, regions, crate::quick());
    let mut behind = Behind::connect(rings(Plan::new(Features::NONE)), connect);
    behind.negotiate();
    behind.start_queue(0, QueuePosition::START).unwrap();
    assert_eq!(behind.frontend.stop_queue(0).unwrap(), Some(QueuePosition::START));
    assert_eq!(behind.frontend.save_state().unwrap(), [0; 0]);
    behind.frontend.restore_state(&[]).unwrap();
    assert!(behind.frontend.restore_state(&[1]).is_err());
    behind.frontend.reset().unwrap();
    assert_eq!(behind.reports.failures(), [""; 0]);
    // The last of it may not have arrived yet.
    let told = back.told.clone();
    drop((behind, back));
    let told = told.messages.lock().unwrap();
    told.iter().map(|(request, _)| *request).collect()
}

const SET_UP: [u32; 6] =
    [SET_VRING_NUM, SET_VRING_BASE, SET_VRING_ADDR, SET_VRING_ERR, SET_VRING_CALL, SET_VRING_KICK];

/// vhost-user as it was at first: eight memory regions, rings that are enabled from the start, and no answers.
#[test]
fn a_server_without_protocol_features_is_served() {
    let mut expected = vec![SET_OWNER, GET_FEATURES, SET_MEM_TABLE, SET_FEATURES];
    expected.extend(SET_UP);
    // What has an answer shows that the rest has been done.
    expected.extend([GET_FEATURES, GET_VRING_BASE]);
    assert_eq!(requests(1 << 32, 0), expected);
}

#[test]
fn a_server_that_answers_nothing_is_served() {
    let mut expected = vec![SET_OWNER, GET_FEATURES, GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES];
    expected.extend([SET_MEM_TABLE, SET_FEATURES]);
    expected.extend(SET_UP);
    expected.extend([SET_VRING_ENABLE, GET_FEATURES, GET_VRING_BASE, SET_VRING_ENABLE]);
    assert_eq!(requests(1 << 32 | 1 << 30, 0), expected);
}

#[test]
fn a_server_is_asked_for_what_it_has_only() {
    let mut expected = vec![SET_OWNER, GET_FEATURES, GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES];
    expected.extend([GET_QUEUE_NUM, GET_MAX_MEM_SLOTS, ADD_MEM_REG, SET_STATUS, SET_FEATURES, SET_STATUS]);
    expected.extend([GET_STATUS, GET_INFLIGHT_FD, SET_INFLIGHT_FD, SET_STATUS]);
    expected.extend(SET_UP);
    expected.extend([SET_VRING_ENABLE, GET_VRING_BASE, SET_VRING_ENABLE, RESET_DEVICE]);
    let protocol = REPLY_ACK | MQ | MEM_SLOTS | STATUS | INFLIGHT_SHMFD | RESET_DEVICE_FEATURE;
    assert_eq!(requests(1 << 32 | 1 << 30, protocol), expected);
}
