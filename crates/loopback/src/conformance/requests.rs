//! Real requests, by every feature set and queue size.

use super::{Subject, Variant};
use crate::failure::Outcome;

/// The device answers its requests with every set of features, in queues as large as can be and in small ones, and again after
/// it was started over.
///
/// # Errors
/// If it does not.
pub fn requests_are_answered(subject: &Subject, variant: Variant) -> Outcome {
    variant.with_each_set(|features| {
        for queue_size in [u16::MAX, variant.small()] {
            let mut rig = variant.rig(subject, features, queue_size)?;
            for _ in 0..2 {
                rig.bring_up()?;
                (subject.exercise)(&mut rig)?;
                rig.check_live()?;
            }
        }
        Ok(())
    })
}
