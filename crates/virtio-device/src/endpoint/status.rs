//! The device status field as an explicit state machine (virtio 1.3 §2.1, §3.1.1).

use super::Endpoint;
use crate::backend::{Backend, HostEvents};
use vioduct_spec::{Features, Status};

/// What a write to the status field did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatusWrite {
    /// The device was reset. A transport now clears its own registers and interrupt state.
    Reset,
    /// The bits are set.
    Accepted,
    /// Nothing new was written.
    Unchanged,
    /// The write was out of order, or FEATURES_OK was denied; the status is as it was.
    Refused,
}

/// Where initialization stands, by the bits that the driver has set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Reset,
    Acknowledged,
    Driver,
    FeaturesOk,
    Live,
    Failed,
}

/// What a write asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Nothing,
    Acknowledge,
    Negotiate,
    GoLive,
    GiveUp,
    Refuse,
}

impl Phase {
    fn of(status: Status) -> Self {
        match status {
            s if s.contains(Status::FAILED) => Self::Failed,
            s if s.contains(Status::DRIVER_OK) => Self::Live,
            s if s.contains(Status::FEATURES_OK) => Self::FeaturesOk,
            s if s.contains(Status::DRIVER) => Self::Driver,
            s if s.contains(Status::ACKNOWLEDGE) => Self::Acknowledged,
            _ => Self::Reset,
        }
    }

    /// The order of virtio 1.3 §3.1.1. ACKNOWLEDGE and DRIVER may come in one write, for nothing lies between them; the later
    /// bits may not, for the driver must look at the device in between.
    fn step(self, added: Status) -> Step {
        const FOUND: Status = Status::ACKNOWLEDGE.with(Status::DRIVER);
        match (self, added) {
            (_, Status::RESET) => Step::Nothing,
            (Self::Failed, _) => Step::Refuse,
            (_, added) if added.contains(Status::FAILED) => Step::GiveUp,
            (Self::Reset, Status::ACKNOWLEDGE | FOUND) => Step::Acknowledge,
            (Self::Acknowledged, Status::DRIVER) => Step::Acknowledge,
            (Self::Driver, Status::FEATURES_OK) => Step::Negotiate,
            (Self::FeaturesOk, Status::DRIVER_OK) => Step::GoLive,
            _ => Step::Refuse,
        }
    }
}

impl<B: Backend> Endpoint<B> {
    /// The driver writes the status field; 0 resets. NEEDS_RESET is the device's own bit: the driver can neither set nor clear
    /// it. A write that clears another bit is refused (virtio 1.3 §2.1.1: a driver must not).
    pub fn write_status(&mut self, value: u8) -> StatusWrite {
        if value == 0 {
            self.reset();
            return StatusWrite::Reset;
        }
        let current = self.status().without(Status::NEEDS_RESET);
        let wanted = Status(value).without(Status::NEEDS_RESET);
        let added = wanted.without(current);
        let step = if wanted.contains(current) || added.contains(Status::FAILED) {
            Phase::of(current).step(added)
        } else {
            Step::Refuse
        };
        match step {
            Step::Nothing => StatusWrite::Unchanged,
            Step::Acknowledge => self.accept(added),
            Step::Negotiate => self.negotiate(),
            Step::GoLive => self.go_live(),
            Step::GiveUp => self.give_up(),
            Step::Refuse => {
                self.refuse(&format_args!("status {wanted} written when it was {current}"));
                StatusWrite::Refused
            }
        }
    }

    fn accept(&self, bits: Status) -> StatusWrite {
        self.events.set_status(bits);
        StatusWrite::Accepted
    }

    /// virtio 1.3 §2.2.2: the device does not accept features that it did not offer, by leaving FEATURES_OK clear; §6.2: nor a
    /// driver without VERSION_1.
    fn negotiate(&mut self) -> StatusWrite {
        match self.check_features(self.driver_features) {
            Ok(()) => self.accept(Status::FEATURES_OK),
            Err(reason) => {
                self.refuse(&format_args!("FEATURES_OK: {reason}"));
                StatusWrite::Refused
            }
        }
    }

    pub(super) fn check_features(&mut self, wanted: Features) -> Result<(), String> {
        let extra = wanted.without(self.offered);
        if !extra.is_empty() {
            return Err(format!("the driver took features that were not offered: {extra}"));
        }
        if !wanted.contains(Features::VERSION_1) {
            return Err("the driver did not take VERSION_1: legacy drivers are not supported".into());
        }
        self.backend.set_features(wanted).map_err(|error| error.to_string())
    }

    /// DRIVER_OK is set before the first queue starts: virtio 1.3 §2.1.2 has nothing consumed or signalled before it.
    fn go_live(&mut self) -> StatusWrite {
        self.events.set_status(Status::DRIVER_OK);
        self.start_enabled_queues();
        StatusWrite::Accepted
    }

    /// The driver has given up (virtio 1.3 §2.1): it may take its memory back, so nothing touches that any more.
    fn give_up(&mut self) -> StatusWrite {
        self.events.set_status(Status::FAILED);
        self.halt_queues();
        StatusWrite::Accepted
    }

    /// Back to the state after creation (virtio 1.3 §2.1.2, §2.4). If the back-end cannot stop, the status reads as
    /// NEEDS_RESET and not as 0: by §2.4 the driver then knows that the reset has not completed, and may try again.
    pub fn reset(&mut self) {
        let Self {
            backend,
            info: _,
            offered: _,
            driver_features,
            queues,
            config_seen: _,
            activity: _,
            events,
            log: _,
        } = self;
        *driver_features = Features::NONE;
        let outcome = backend.reset();
        queues.iter_mut().for_each(|queue| queue.reset());
        events.replace_status(Status::RESET);
        if let Err(error) = outcome {
            events.needs_reset(&format_args!("its reset failed: {error}"));
        }
    }
}

/// Whether `status` is one that the state machine can be in: for restored state.
pub(super) fn is_reachable(status: Status) -> bool {
    let driver_bits = status.without(Status::NEEDS_RESET | Status::FAILED);
    let in_order = [0, 1, 3, 11, 15].contains(&driver_bits.0);
    let known = status.0 & !0xcf == 0;
    in_order && known
}
