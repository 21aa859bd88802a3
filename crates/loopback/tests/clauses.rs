//! What the specification says of every device, by section: the conformance tests by their clauses, on `virtio-demo`, over every
//! transport and ring.
#![allow(clippy::unwrap_used)]

use vioduct_loopback::conformance::{self, Subject, Variant};
use vioduct_loopback::failure::same;
use vioduct_loopback::{Depth, Outcome, Rig, RingFormat};
use vioduct_spec::demo::{HALF_LEN, INITIAL_VALUE};
use vioduct_virtio_demo::VirtioDemo;

fn read_initial_value(rig: &mut Rig) -> Outcome {
    let reply = rig.request(0, &[&[0; HALF_LEN]], &[HALF_LEN as u32])?;
    same("the reply's operand", &reply.bytes[4..], &INITIAL_VALUE.to_le_bytes()[..])
}

fn everywhere(test: fn(&Subject, Variant) -> Outcome) {
    let subject = Subject { model: || Box::new(VirtioDemo::default()), exercise: read_initial_value };
    for depth in Depth::ALL {
        for format in [RingFormat::Split, RingFormat::Packed] {
            let outcome = test(&subject, Variant { depth, format });
            outcome.map_err(|failure| failure.within(format!("{depth} {format:?}"))).unwrap();
        }
    }
}

/// A device that meets an error from which only a reset recovers says so once, and serves again after that.
#[test]
fn s2_1_2_needs_reset_is_notified_once() {
    everywhere(conformance::malformed_chains_need_one_reset);
}

/// A device does not accept features that it did not offer, nor a driver without VERSION_1 (§6.2).
#[test]
fn s2_2_2_features_not_offered_are_refused() {
    everywhere(conformance::initialization_is_in_order);
}

/// After a reset, no access to the driver's memory and no notification.
#[test]
fn s2_4_1_a_reset_takes_requests_back() {
    everywhere(conformance::reset_takes_requests_back);
}

#[test]
fn row36_the_configuration_space_is_bounded() {
    everywhere(conformance::configuration_is_bounded);
}

/// After the reset of a queue the device touches nothing of it, and serves it when it is enabled anew.
#[test]
fn s2_6_1_1_a_queue_is_reset_alone() {
    everywhere(conformance::a_queue_is_reset_alone);
}

/// Before DRIVER_OK the device uses no buffer; from then on, those that are there already.
#[test]
fn s2_1_2_nothing_is_used_before_driver_ok() {
    everywhere(conformance::stray_notifications_do_nothing);
}

/// Memory that is not there is the driver's fault, wherever it is missing, and never more than that.
#[test]
fn row10_missing_memory_needs_a_reset_at_worst() {
    everywhere(conformance::memory_faults_need_one_reset);
}

/// A queue goes on where it stood, wrap counters included, after a stop and on restored state.
#[test]
fn row24_positions_are_carried_over() {
    everywhere(conformance::positions_are_carried_over);
}
