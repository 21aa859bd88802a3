//! Initialization in order (virtio 1.3 §3.1.1), and what a device refuses (§2.2.2, §6.2).

use vioduct_spec::{Features, Status};
use vioduct_virtio_driver::TransportError;

use super::{Subject, Variant, recovers};
use crate::failure::{Outcome, same};
use crate::rig::Rig;

const FOUND: Status = Status::ACKNOWLEDGE.with(Status::DRIVER);

/// The device takes no feature that it did not offer, and no driver without `VERSION_1`; it shows so by FEATURES_OK, and takes
/// no later step before that.
///
/// # Errors
/// If it does not.
pub fn initialization_is_in_order(subject: &Subject, variant: Variant) -> Outcome {
    let mut rig = variant.rig(subject, Features::NONE, u16::MAX)?;
    same("the status at first", rig.status(), Status::RESET)?;
    let offered = rig.transport().device_features();
    same("VERSION_1 offered", offered.contains(Features::VERSION_1), true)?;
    let foreign = (0..64).map(Features::bit).filter(|bit| !offered.contains(*bit));
    for bit in foreign {
        refused(&mut rig, Features::VERSION_1 | bit).map_err(|failure| failure.within(format!("{bit}")))?;
    }
    refused(&mut rig, offered.without(Features::VERSION_1))?;
    steps_are_not_left_out(&mut rig)?;
    recovers(subject, &mut rig)
}

/// Negotiates `features`, which must fail and leave the device as it was.
fn refused(rig: &mut Rig, features: Features) -> Outcome {
    rig.reset()?;
    rig.raise(Status::ACKNOWLEDGE);
    rig.raise(Status::DRIVER);
    match rig.transport().set_driver_features(features) {
        Ok(()) => {}
        // The transport has no such feature: its driver cannot even try.
        Err(TransportError::Unsupported(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    rig.raise(Status::FEATURES_OK);
    same("the status after FEATURES_OK, refused", rig.status(), FOUND)
}

/// virtio 1.3 §3.1.1: no DRIVER_OK before FEATURES_OK, nor that before the driver has found the device.
fn steps_are_not_left_out(rig: &mut Rig) -> Outcome {
    rig.reset()?;
    rig.raise(Status::FEATURES_OK);
    same("FEATURES_OK first of all", rig.status(), Status::RESET)?;
    rig.raise(Status::ACKNOWLEDGE);
    rig.raise(Status::DRIVER);
    rig.raise(Status::DRIVER_OK);
    same("DRIVER_OK before FEATURES_OK", rig.status(), FOUND)?;
    rig.reset()?;
    rig.negotiate()?;
    let status = rig.status();
    rig.transport().set_driver_features(Features::VERSION_1)?;
    let in_force = rig.device().with_endpoint(|endpoint| endpoint.negotiated());
    same("features written after FEATURES_OK", in_force, rig.negotiated())?;
    // virtio 1.3 §2.1.1: the driver must not clear a bit.
    rig.transport().set_status(Status::ACKNOWLEDGE);
    same("the status, a bit of which the driver clears", rig.status(), status)
}
