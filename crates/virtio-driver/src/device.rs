//! A device on its way from reset to running, in the order of virtio 1.3 §3.1.1, by types: a step left out does not compile.

use crate::dma::Dma;
use crate::error::{InitError, RequestError};
use crate::lent::DeviceAccess;
use crate::transport::{Interrupts, RESET_POLLS, Transport, TransportError};
use crate::virtqueue::{QueueSetup, Virtqueue};
use core::fmt;
use core::hint::spin_loop;
use core::marker::PhantomData;
use vioduct_spec::{Features, Status};

/// The device is reset, and has been told nothing (virtio 1.3 §3.1.1 step 1).
#[derive(Debug)]
pub enum Reset {}
/// The driver has noticed the device (step 2).
#[derive(Debug)]
pub enum Acknowledged {}
/// The driver knows how to drive the device; features are to be negotiated (steps 3 and 4).
#[derive(Debug)]
pub enum Identified {}
/// Features are settled; queues are set up (steps 5 to 7).
#[derive(Debug)]
pub enum Negotiated {}
/// The device is live (step 8).
#[derive(Debug)]
pub enum Running {}

/// What dropping the device does to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Nothing: it is reset.
    Idle,
    /// Writes `FAILED`.
    Starting,
    /// Resets it.
    Live,
}

/// The features that a driver needs and takes. `VERSION_1` is always needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// Without these the driver cannot go on.
    pub required: Features,
    /// These are used where the device offers them.
    pub optional: Features,
}

/// Transport, status written so far and what is to be done at the end; apart from [`Device`] so that its state can change.
struct Held<T: Transport> {
    transport: T,
    status: Status,
    phase: Phase,
    negotiated: Features,
    access: DeviceAccess,
}

impl<T: Transport> Held<T> {
    /// virtio 1.3 §2.1.1: the driver sets bits, and clears none but by a reset.
    fn raise(&mut self, bits: Status) {
        self.status = self.status | bits;
        self.transport.set_status(self.status);
    }

    /// virtio 1.3 §2.4.2: a driver considers a reset complete when it reads the status as 0; §4.1.4.3.2 and §4.2.3.1 the same.
    fn reset(&mut self) -> Result<(), TransportError> {
        self.transport.set_status(Status::RESET);
        for _ in 0..RESET_POLLS {
            if self.transport.status() == Status::RESET {
                self.status = Status::RESET;
                self.phase = Phase::Idle;
                self.negotiated = Features::NONE;
                self.access.end();
                return Ok(());
            }
            spin_loop();
        }
        Err(TransportError::ResetTimeout)
    }
}

impl<T: Transport> Drop for Held<T> {
    fn drop(&mut self) {
        match self.phase {
            Phase::Idle => {}
            // virtio 1.3 §3.1.1: the driver tells the device that it has given up. Before DRIVER_OK the device uses no buffer
            // (§3.1.2), so nothing is lent to it yet.
            Phase::Starting => self.raise(Status::FAILED),
            // A device that does not finish keeps its access, and the rings and buffers are leaked.
            Phase::Live => _ = self.reset(),
        }
    }
}

/// A device in one of the states [`Reset`], [`Acknowledged`], [`Identified`], [`Negotiated`], [`Running`]. Dropped on the way, it
/// is marked `FAILED`; dropped while running, it is reset.
#[must_use = "dropping a device marks it failed, or resets it"]
pub struct Device<T: Transport, S> {
    held: Held<T>,
    state: PhantomData<fn() -> S>,
}

impl<T: Transport, S> Device<T, S> {
    fn into_state<N>(self) -> Device<T, N> {
        Device { held: self.held, state: PhantomData }
    }

    /// The device's type (virtio 1.3 §5).
    pub fn device_type(&self) -> u32 {
        self.held.transport.device_type()
    }
}

impl<T: Transport> Device<T, Reset> {
    /// Resets the device and waits until it is (step 1).
    ///
    /// # Errors
    /// [`TransportError::ResetTimeout`].
    pub fn new(transport: T) -> Result<Self, InitError> {
        let access = DeviceAccess::none();
        let status = Status::RESET;
        let mut held = Held { transport, status, phase: Phase::Idle, negotiated: Features::NONE, access };
        held.reset()?;
        Ok(Self { held, state: PhantomData })
    }

    /// Tells the device that it was noticed (step 2).
    pub fn acknowledge(mut self) -> Device<T, Acknowledged> {
        self.held.access = DeviceAccess::none();
        self.held.phase = Phase::Starting;
        self.held.raise(Status::ACKNOWLEDGE);
        self.into_state()
    }

    /// Steps 2 to 6 for a driver of devices of type `device_type`.
    ///
    /// # Errors
    /// [`InitError`], after the device was marked `FAILED`.
    pub fn negotiate(self, device_type: u32, wanted: Wanted) -> Result<Device<T, Negotiated>, InitError> {
        self.acknowledge().identify(device_type)?.negotiate(wanted)
    }
}

impl<T: Transport> Device<T, Acknowledged> {
    /// Tells the device that this driver, for devices of type `wanted`, knows how to drive it (step 3).
    ///
    /// # Errors
    /// [`InitError::DeviceType`].
    pub fn identify(mut self, wanted: u32) -> Result<Device<T, Identified>, InitError> {
        let found = self.device_type();
        if found != wanted {
            return Err(InitError::DeviceType { found, wanted });
        }
        self.held.raise(Status::DRIVER);
        Ok(self.into_state())
    }
}

impl<T: Transport> Device<T, Identified> {
    /// The features that the device offers.
    pub fn offered(&mut self) -> Features {
        self.held.transport.device_features()
    }

    /// The transport, to read configuration that features depend on (virtio 1.3 §3.1.1 step 4: the driver may read it before it
    /// accepts the device).
    pub fn transport(&mut self) -> &mut T {
        &mut self.held.transport
    }

    /// Settles the features with the device (steps 4 to 6).
    ///
    /// # Errors
    /// [`InitError::FeaturesMissing`], [`InitError::FeaturesRefused`] or of the transport.
    pub fn negotiate(mut self, wanted: Wanted) -> Result<Device<T, Negotiated>, InitError> {
        let offered = self.offered();
        // virtio 1.3 §6.1: a driver accepts VERSION_1 where it is offered; this one drives no device without it.
        let required = wanted.required | Features::VERSION_1;
        let missing = required.without(offered);
        if !missing.is_empty() {
            return Err(InitError::FeaturesMissing(missing));
        }
        // virtio 1.3 §2.2.1: nothing that the device did not offer.
        let features = offered & (required | wanted.optional);
        self.held.transport.set_driver_features(features)?;
        self.held.raise(Status::FEATURES_OK);
        // virtio 1.3 §3.1.1 step 6: only if the bit stays set has the device accepted.
        let status = self.held.transport.status();
        if !status.contains(Status::FEATURES_OK) {
            return Err(InitError::FeaturesRefused(features));
        }
        if status != self.held.status {
            return Err(InitError::Status(status));
        }
        self.held.negotiated = features;
        self.held.transport.enable_config_interrupt()?;
        Ok(self.into_state())
    }
}

impl<T: Transport> Device<T, Negotiated> {
    /// What was settled.
    pub fn negotiated(&self) -> Features {
        self.held.negotiated
    }

    /// The transport, to read configuration that the set-up depends on.
    pub fn transport(&mut self) -> &mut T {
        &mut self.held.transport
    }

    /// Allocates queue `index` and gives it to the device (step 7).
    ///
    /// # Errors
    /// [`InitError`].
    pub fn set_up_queue<D: Dma + Clone, K>(
        &mut self,
        index: u16,
        setup: QueueSetup,
        dma: &D,
    ) -> Result<Virtqueue<D, K>, InitError> {
        let Held { transport, negotiated, access, .. } = &mut self.held;
        Virtqueue::set_up(index, setup, *negotiated, dma, (transport, access))
    }

    /// Sets the device live (step 8).
    ///
    /// # Errors
    /// [`InitError::Status`] if the device gave up meanwhile.
    pub fn driver_ok(mut self) -> Result<Device<T, Running>, InitError> {
        self.held.phase = Phase::Live;
        self.held.access.begin();
        self.held.raise(Status::DRIVER_OK);
        let status = self.held.transport.status();
        if status != self.held.status {
            return Err(InitError::Status(status));
        }
        Ok(self.into_state())
    }
}

impl<T: Transport> Device<T, Running> {
    /// What was settled.
    pub fn negotiated(&self) -> Features {
        self.held.negotiated
    }

    /// The transport, to notify, and to read and write configuration.
    pub fn transport(&mut self) -> &mut T {
        &mut self.held.transport
    }

    /// Why there was an interrupt. virtio 1.3 §2.1.2: a device that comes to need a reset says so by a configuration change
    /// notification, so that its health is looked after then.
    pub(crate) fn interrupts(&mut self) -> Result<Interrupts, RequestError> {
        let interrupts = self.held.transport.take_interrupts();
        if interrupts.config {
            self.check()?;
        }
        Ok(interrupts)
    }

    /// Whether the device is still running as it was told to.
    ///
    /// # Errors
    /// [`RequestError::NeedsReset`] (virtio 1.3 §2.1.1) or [`RequestError::Gone`]: either way, start over from
    /// [`reset`](Self::reset).
    pub fn check(&mut self) -> Result<(), RequestError> {
        let status = self.held.transport.status();
        if status == self.held.status {
            return Ok(());
        }
        // A device that has left the bus reads as all ones, which looks as if it had every bit, FAILED too.
        if status.contains(self.held.status | Status::NEEDS_RESET) && !status.contains(Status::FAILED) {
            return Err(RequestError::NeedsReset);
        }
        Err(RequestError::Gone(status))
    }

    /// Resets the device, after which it can be initialized anew. Drop its queues then: they are of no use any more.
    ///
    /// # Errors
    /// [`TransportError::ResetTimeout`]; the memory of the queues is leaked then, for the device may still write to it.
    pub fn reset(mut self) -> Result<Device<T, Reset>, InitError> {
        self.held.reset()?;
        Ok(self.into_state())
    }
}

impl<T: Transport, S> fmt::Debug for Device<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("device_type", &self.held.transport.device_type())
            .field("status", &self.held.status)
            .field("negotiated", &self.held.negotiated)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
