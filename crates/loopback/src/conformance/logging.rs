//! The log of what a device writes.

use super::{Subject, Variant, recovers};
use crate::failure::{Failure, Outcome};

/// Every page that a device writes while it answers requests, rings included, is in the memory's log.
///
/// # Errors
/// If one is not.
pub fn writes_are_logged(subject: &Subject, variant: Variant) -> Outcome {
    variant.with_each_set(|features| {
        let mut rig = variant.running(subject, features, variant.small())?;
        rig.start_write_check();
        (subject.exercise)(&mut rig)?;
        if rig.finish_write_check()? == 0 {
            return Err(Failure::new("the device has written nothing"));
        }
        recovers(subject, &mut rig)
    })
}
