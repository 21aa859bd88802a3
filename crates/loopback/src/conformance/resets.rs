//! Reset of the device (virtio 1.3 §2.4) and of one queue (§2.6.1), with requests in flight.

use vioduct_spec::Features;
use vioduct_virtio_device::Step;

use super::{Subject, Variant, recovers};
use crate::failure::{Outcome, same};
use crate::rig::Rig;

const QUEUE: u16 = 0;

/// Makes a few buffers available, of which any device makes something, or nothing.
pub(super) fn fill(rig: &mut Rig) -> Outcome {
    for _ in 0..2 {
        rig.submit(QUEUE, &[&[0; 8]], &[8])?;
    }
    rig.kick(QUEUE).map(drop)
}

/// After a reset the device touches nothing that it was given, whether or not it had begun, and works again when it is brought
/// up.
///
/// # Errors
/// If it does not.
pub fn reset_takes_requests_back(subject: &Subject, variant: Variant) -> Outcome {
    variant.with_each_set(|features| {
        let mut rig = variant.running(subject, features, u16::MAX)?;
        for steps in 0..3 {
            fill(&mut rig)?;
            for _ in 0..steps {
                let (Step::Worked | Step::Idle) = rig.device().step();
            }
            rig.reset()?;
            silent(&mut rig)?;
            recovers(subject, &mut rig)?;
        }
        Ok(())
    })
}

/// After the reset of a queue the device touches nothing of it, and serves it when it is enabled again.
///
/// # Errors
/// If it does not.
pub fn a_queue_is_reset_alone(subject: &Subject, variant: Variant) -> Outcome {
    variant.with_each_set(|features| {
        let mut rig = variant.running(subject, features | Features::RING_RESET, variant.small())?;
        for _ in 0..3 {
            // Other queues have been started too, which their handlers are told.
            rig.run();
            fill(&mut rig)?;
            rig.transport().reset_queue(QUEUE)?;
            rig.forget_queue(QUEUE);
            silent(&mut rig)?;
            rig.check_live()?;
            rig.enable_queue(QUEUE)?;
            (subject.exercise)(&mut rig)?;
        }
        recovers(subject, &mut rig)
    })
}

/// The device has nothing to do, and does not interrupt.
fn silent(rig: &mut Rig) -> Outcome {
    let before = rig.machine().traffic().interrupts;
    same("steps that worked in a device that was reset", rig.run(), 0)?;
    same("interrupts of a device that was reset", rig.machine().traffic().interrupts - before, 0)
}
