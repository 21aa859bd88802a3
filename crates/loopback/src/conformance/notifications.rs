//! Notifications that are not to be: of queues that do not exist, and before DRIVER_OK (virtio 1.3 §3.1.1).

use vioduct_spec::{Features, mmio};
use vioduct_virtio_driver::RegisterWindow;

use super::{Subject, Variant};
use crate::failure::{Failure, Outcome, same};
use crate::rig::Rig;

const QUEUE: u16 = 0;

/// Notifications of queues that do not exist are ignored; one before DRIVER_OK too, and what was made available by then is
/// served from DRIVER_OK on.
///
/// # Errors
/// If it does not.
pub fn stray_notifications_do_nothing(subject: &Subject, variant: Variant) -> Outcome {
    variant.with_each_set(|features| {
        let mut rig = variant.rig(subject, features, u16::MAX)?;
        ring_all_bells(&mut rig)?;
        rig.negotiate()?;
        rig.enable_queues()?;
        rig.submit(QUEUE, &[&[0; 8]], &[8])?;
        let _ = rig.kick(QUEUE)?;
        ring_all_bells(&mut rig)?;
        same("a reply before DRIVER_OK", rig.take(QUEUE)?, None)?;
        rig.go_live()?;
        rig.run();
        rig.take(QUEUE)?.ok_or_else(|| Failure::new("what was available at DRIVER_OK is not served"))?;
        ring_all_bells(&mut rig)?;
        (subject.exercise)(&mut rig)?;
        rig.check_live()
    })
}

/// Every number that is no queue, straight and by registers. The device has nothing to do then.
fn ring_all_bells(rig: &mut Rig) -> Outcome {
    let count = u32::from(rig.transport().queue_count());
    let window = rig.device().window_address().map(|at| rig.machine().window(at, mmio::WINDOW_LEN));
    let mut words = vec![count, 0x7fff, 0xffff, 0x1_ffff, u32::MAX];
    if !rig.negotiated().contains(Features::NOTIFICATION_DATA) {
        // All 32 bits are the queue's number: this is not queue 0.
        words.push(0x1_0000);
    }
    for word in words {
        rig.device().with_endpoint(|endpoint| endpoint.notify(word));
        if let Some(window) = &window {
            window.write_u32(mmio::QUEUE_NOTIFY, word);
        }
    }
    let before = rig.machine().traffic().interrupts;
    same("steps that worked", rig.run(), 0)?;
    same("interrupts", rig.machine().traffic().interrupts - before, 0)
}
