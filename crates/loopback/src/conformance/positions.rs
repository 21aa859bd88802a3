//! Stop and start, save and restore: a queue goes on where it stood, wrap counters included.

use super::{Subject, Variant, recovers};
use crate::failure::{Failure, Outcome, same};
use crate::rig::Rig;

const QUEUE: u16 = 0;

/// A device that is stopped between any two requests, and with requests waiting, or whose state is saved and restored, answers
/// as if nothing had been.
///
/// # Errors
/// If it does not.
pub fn positions_are_carried_over(subject: &Subject, variant: Variant) -> Outcome {
    variant.with_each_set(|features| {
        let mut rig = variant.running(subject, features, variant.small())?;
        // Small queues wrap every few requests: this is more than two times around.
        for round in 0..3 * u32::from(variant.small()) {
            let outcome = one_round(subject, &mut rig);
            outcome.map_err(|failure| failure.within(format!("round {round}")))?;
        }
        recovers(subject, &mut rig)
    })
}

fn one_round(subject: &Subject, rig: &mut Rig) -> Outcome {
    rig.device().pause();
    rig.submit(QUEUE, &[&[0; 8]], &[8])?;
    let _ = rig.kick(QUEUE)?;
    same("steps that worked in a paused device", rig.run(), 0)?;
    same("a reply of a paused device", rig.take(QUEUE)?, None)?;
    rig.device().resume();
    rig.run();
    rig.take(QUEUE)?.ok_or_else(|| Failure::new("no reply to what came while the device was paused"))?;
    save_and_restore(rig)?;
    (subject.exercise)(rig)?;
    rig.check_live()
}

/// The state goes out of the device, which is reset, and in again.
fn save_and_restore(rig: &mut Rig) -> Outcome {
    let device = rig.device();
    device.pause();
    device.with_endpoint(|endpoint| {
        let state = endpoint.save();
        endpoint.reset();
        endpoint.restore(&state)
    })?;
    device.resume();
    Ok(())
}
