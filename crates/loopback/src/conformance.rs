//! What every device must pass, whatever it is: [`conformance!`](crate::conformance!) makes the tests of one device.
//!
//! | module | what is tried |
//! |---|---|
//! | `initialization` | order, refusal of features, FEATURES_OK |
//! | `requests` | real requests, by every feature set and queue size |
//! | `resets` | reset of the device, and of one queue, with requests in flight |
//! | `positions` | stop and start, save and restore, across the ring's wrap |
//! | `configuration` | bounds and generation of the configuration space |
//! | `notifications` | notifications of queues that do not exist, and too early |
//! | `malformed` | chains that break the rules, written straight into the ring |
//! | `faults` | memory that is not there, or goes away |
//! | `logging` | the log of pages that the device writes |

mod configuration;
mod faults;
mod initialization;
mod logging;
mod malformed;
mod notifications;
mod positions;
mod requests;
mod resets;

use vioduct_spec::Features;
use vioduct_virtqueue::RingFormat;

use crate::Depth;
use crate::failure::Outcome;
use crate::rig::{AnyModel, Rig, Setup};

pub use configuration::configuration_is_bounded;
pub use faults::memory_faults_need_one_reset;
pub use initialization::initialization_is_in_order;
pub use logging::writes_are_logged;
pub use malformed::malformed_chains_need_one_reset;
pub use notifications::stray_notifications_do_nothing;
pub use positions::positions_are_carried_over;
pub use requests::requests_are_answered;
pub use resets::{a_queue_is_reset_alone, reset_takes_requests_back};

/// A device, and how to see that it works.
#[derive(Clone, Copy)]
pub struct Subject {
    /// A new one.
    pub model: fn() -> AnyModel,
    /// Sends requests to a running device that has just been brought up, by [`Rig::request`] or its parts, and checks the
    /// replies. No request has more than four descriptors, and none is left in flight.
    pub exercise: fn(&mut Rig) -> Outcome,
}

/// A transport and a ring format; what else there is, each test goes through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Variant {
    /// What lies between driver and device.
    pub depth: Depth,
    /// Split or packed.
    pub format: RingFormat,
}

/// All that ring and transport can do, but for the format, at every depth.
const EVERYTHING: Features = Features::INDIRECT_DESC
    .with(Features::EVENT_IDX)
    .with(Features::IN_ORDER)
    .with(Features::NOTIFICATION_DATA)
    .with(Features::RING_RESET);

/// The sets of features that each test is run with.
pub const FEATURE_SETS: [Features; 5] =
    [Features::NONE, Features::INDIRECT_DESC, Features::EVENT_IDX, Features::IN_ORDER, EVERYTHING];

impl Variant {
    /// A device in reset.
    fn rig(self, subject: &Subject, features: Features, queue_size: u16) -> Outcome<Rig> {
        let format = match self.format {
            RingFormat::Split => Features::NONE,
            RingFormat::Packed => Features::RING_PACKED,
        };
        Rig::new((subject.model)(), Setup { depth: self.depth, features: features | format, queue_size })
    }

    /// A device that has been brought up.
    fn running(self, subject: &Subject, features: Features, queue_size: u16) -> Outcome<Rig> {
        let mut rig = self.rig(subject, features, queue_size)?;
        rig.bring_up()?;
        Ok(rig)
    }

    /// A small queue, of a size that only this format has where there is one.
    fn small(self) -> u16 {
        match self.format {
            RingFormat::Split => 4,
            RingFormat::Packed => 5,
        }
    }

    /// Runs `test` with every feature set, and says which failed.
    fn with_each_set(self, mut test: impl FnMut(Features) -> Outcome) -> Outcome {
        FEATURE_SETS.into_iter().try_for_each(|features| {
            test(features).map_err(|failure| failure.within(format!("with {features}")))
        })
    }
}

/// Brings the device up anew, and sees that it works.
fn recovers(subject: &Subject, rig: &mut Rig) -> Outcome {
    let attempt = |rig: &mut Rig| {
        rig.bring_up()?;
        (subject.exercise)(rig)?;
        rig.check_live()
    };
    attempt(rig).map_err(|failure| failure.within("afterwards, brought up anew"))
}

/// Makes a module of tests that puts a device through all of [`conformance`](mod@crate::conformance), at every depth and with both
/// ring formats.
///
/// ```
/// use vioduct_loopback::{Outcome, Rig, conformance, failure::same};
/// # use vioduct_virtio_device::*;
/// # struct Capitals;
/// # impl DeviceModel for Capitals {
/// #     fn info(&self) -> DeviceInfo { DeviceInfo::new(63, "capitals", vec![16]) }
/// #     fn handlers(&mut self, _negotiated: Features) -> Handlers { vec![(0..1, Box::new(Capitals))] }
/// # }
/// # impl QueueHandler for Capitals {
/// #     fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
/// #         let Wake::Kick(q) = why else { return Ok(()) };
/// #         io.serve(q, |chain| {
/// #             let mut text = [0; 32];
/// #             let len = chain.reader().read(&mut text)?;
/// #             text.make_ascii_uppercase();
/// #             chain.writer().write_all(&text[..len])?;
/// #             Ok(len as u32)
/// #         })
/// #     }
/// # }
/// fn hello(rig: &mut Rig) -> Outcome {
///     let reply = rig.request(0, &[b"hel", b"lo"], &[5])?;
///     same("the reply", reply.bytes.as_slice(), &b"HELLO"[..])
/// }
///
/// conformance!(capitals, || Box::new(Capitals), hello);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! conformance {
    ($module:ident, $model:expr, $exercise:expr) => {
        mod $module {
            #[allow(unused_imports, reason = "the model and the exercise may be written in full")]
            use super::*;

            fn subject() -> $crate::conformance::Subject {
                $crate::conformance::Subject { model: $model, exercise: $exercise }
            }

            $crate::conformance!(@variant verbs_split Verbs Split);
            $crate::conformance!(@variant verbs_packed Verbs Packed);
            $crate::conformance!(@variant mmio_split Mmio Split);
            $crate::conformance!(@variant mmio_packed Mmio Packed);
            $crate::conformance!(@variant pci_split Pci Split);
            $crate::conformance!(@variant pci_packed Pci Packed);
            $crate::conformance!(@variant vhost_user_split VhostUser Split);
            $crate::conformance!(@variant vhost_user_packed VhostUser Packed);
        }
    };
    (@variant $name:ident $depth:ident $format:ident) => {
        mod $name {
            use super::subject;
            use $crate::conformance::Variant;

            const VARIANT: Variant =
                Variant { depth: $crate::Depth::$depth, format: $crate::RingFormat::$format };

            $crate::conformance!(@tests
                initialization_is_in_order
                requests_are_answered
                reset_takes_requests_back
                a_queue_is_reset_alone
                positions_are_carried_over
                configuration_is_bounded
                stray_notifications_do_nothing
                malformed_chains_need_one_reset
                memory_faults_need_one_reset
                writes_are_logged
            );
        }
    };
    (@tests $($test:ident)*) => {
        $(
            #[test]
            fn $test() -> $crate::Outcome {
                $crate::conformance::$test(&subject(), VARIANT)
            }
        )*
    };
}
