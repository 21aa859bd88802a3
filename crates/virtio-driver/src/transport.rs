//! What every way to a device offers its driver (virtio 1.3 §4), and what can go wrong with it.

pub(crate) mod config_access;

use alloc::boxed::Box;
use core::fmt;
use vioduct_spec::mmio::{INTERRUPT_CONFIG, INTERRUPT_QUEUE};
use vioduct_spec::{Features, Status};
use vioduct_virtqueue::RingLayout;

/// Reads of a register that a driver makes while it waits for a device to finish a reset.
pub const RESET_POLLS: u32 = 100_000;

/// Why the device asked for attention.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Interrupts {
    /// A queue has used buffers, or may have.
    pub queue: bool,
    /// The configuration changed, or the device needs a reset, or may do.
    pub config: bool,
}

impl Interrupts {
    /// From the bits that virtio-mmio's interrupt status and virtio-pci's ISR have in common.
    pub(crate) const fn from_reasons(reasons: u8) -> Self {
        Self { queue: reasons & INTERRUPT_QUEUE != 0, config: reasons & INTERRUPT_CONFIG != 0 }
    }
}

/// The 32 bits of a notification: queue index or identifier, and position when that is negotiated (virtio 1.3 §2.9, §4.1.5.2,
/// §4.2.3.3).
pub(crate) fn notification_word(negotiated: Features, queue: u16, next: u16) -> u32 {
    if negotiated.contains(Features::NOTIFICATION_DATA) {
        u32::from(queue) | u32::from(next) << 16
    } else {
        u32::from(queue)
    }
}

/// Why a transport could not do what was asked of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransportError {
    /// The device has no such queue.
    NoQueue(u16),
    /// A queue size that the device or the layout does not take.
    QueueSize {
        /// The queue.
        queue: u16,
        /// Size asked for, in descriptors.
        wanted: u16,
        /// Largest size that the device takes, in descriptors.
        max: u16,
    },
    /// The queue is in use already (virtio 1.3 §4.1.5.1.3, §4.2.3.2).
    QueueInUse(u16),
    /// The device did not take the queue into use.
    QueueRefused(u16),
    /// The place at which to notify the queue lies outside of the notification structure (virtio 1.3 §4.1.4.4).
    NotifyOffset(u16),
    /// The device has no interrupt vector left for a queue, or with `None` for configuration changes
    /// (virtio 1.3 §4.1.5.1.2).
    NoVector(Option<u16>),
    /// An access outside of the device's configuration space.
    ConfigRange {
        /// First byte of the access.
        offset: u64,
        /// Bytes accessed.
        len: usize,
        /// Bytes that there are.
        space: u64,
    },
    /// The configuration changed at every try to read it (virtio 1.3 §2.5.1).
    ConfigUnstable,
    /// What was asked for needs features that were not negotiated.
    NotNegotiated(Features),
    /// The transport cannot carry these features.
    Unsupported(Features),
    /// The device did not finish its reset.
    ResetTimeout,
    /// The device did not finish the reset of a queue.
    QueueResetTimeout(u16),
    /// The connection to the device is gone.
    Disconnected,
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoQueue(queue) => write!(f, "the device has no queue {queue}"),
            Self::QueueSize { queue, wanted, max } => {
                write!(f, "queue {queue}: size {wanted} is not possible, the device takes up to {max}")
            }
            Self::QueueInUse(queue) => write!(f, "queue {queue} is in use already: reset the device first"),
            Self::QueueRefused(queue) => write!(f, "the device did not enable queue {queue}"),
            Self::NotifyOffset(queue) => {
                write!(f, "queue {queue}: its notification offset lies outside of the notification structure")
            }
            Self::NoVector(Some(queue)) => write!(f, "the device took no interrupt vector for queue {queue}"),
            Self::NoVector(None) => {
                f.write_str("the device took no interrupt vector for configuration changes")
            }
            Self::ConfigRange { offset, len, space } => {
                write!(f, "{len} bytes at {offset} of a configuration space of {space} bytes")
            }
            Self::ConfigUnstable => f.write_str("the configuration changed at every try to read it"),
            Self::NotNegotiated(features) => write!(f, "needs features that were not negotiated: {features}"),
            Self::Unsupported(features) => write!(f, "the transport cannot carry features: {features}"),
            Self::ResetTimeout => f.write_str("the device did not finish its reset"),
            Self::QueueResetTimeout(queue) => {
                write!(f, "the device did not finish the reset of queue {queue}")
            }
            Self::Disconnected => f.write_str("the connection to the device is gone"),
        }
    }
}

impl core::error::Error for TransportError {}

/// A way to one device, from its driver's side. Drivers do not use it directly for initialization: [`Device`](crate::Device)
/// keeps the order of virtio 1.3 §3.1.1.
///
/// Whatever a device answers, an implementation neither panics nor accesses anything out of bounds.
pub trait Transport {
    /// The device's type (virtio 1.3 §5).
    fn device_type(&self) -> u32;

    /// The features that the device offers.
    fn device_features(&mut self) -> Features;

    /// Tells the device which features the driver uses. The transport remembers them: they decide what a notification carries.
    ///
    /// # Errors
    /// [`TransportError::Unsupported`] for features that need something of the transport that it, or this device, has not.
    fn set_driver_features(&mut self, features: Features) -> Result<(), TransportError>;

    /// The device status.
    fn status(&mut self) -> Status;

    /// Writes the device status; [`Status::RESET`] asks for a reset, which is done when [`status`](Self::status) gives it back.
    fn set_status(&mut self, status: Status);

    /// Number of queues; of a device that does not say so, the queues are counted up to the first that there is not.
    fn queue_count(&mut self) -> u16;

    /// Largest size of a queue in descriptors, or 0 if there is no such queue. A device may say anything up to 65535.
    fn queue_size_max(&mut self, queue: u16) -> u16;

    /// Tells the device where a queue lies, gives it its interrupt vector where there is one, and takes it into use.
    ///
    /// # Errors
    /// [`TransportError`] if there is no such queue, it is in use, or the device refuses its size or vector.
    fn enable_queue(&mut self, queue: u16, layout: RingLayout) -> Result<(), TransportError>;

    /// Resets one queue, which the device then touches no more (virtio 1.3 §2.6.1), and waits until that is done.
    ///
    /// # Errors
    /// [`TransportError::NotNegotiated`] without `RING_RESET`, [`TransportError::QueueResetTimeout`].
    fn reset_queue(&mut self, queue: u16) -> Result<(), TransportError>;

    /// Tells the device that buffers are available. `next` is the queue's [notification data], which is sent when
    /// `NOTIFICATION_DATA` is negotiated (virtio 1.3 §2.9).
    ///
    /// [notification data]: vioduct_virtqueue::DriverQueue::notification_data
    ///
    /// # Errors
    /// [`TransportError::NoQueue`] for a queue that was not enabled.
    fn notify(&mut self, queue: u16, next: u16) -> Result<(), TransportError>;

    /// Counts changes of the configuration (virtio 1.3 §2.5.1).
    fn config_generation(&mut self) -> u32;

    /// Reads one field of the configuration as its little-endian bytes, once: 1, 2 or 4 bytes at an aligned offset are one access,
    /// 8 are two of 4, anything else is an array of bytes (virtio 1.3 §4.1.3.1, §4.2.2.2). [`config`](crate::config) has what
    /// reads several fields, or a long one, of one generation.
    ///
    /// # Errors
    /// [`TransportError::ConfigRange`].
    fn read_config_field(&mut self, offset: u64, out: &mut [u8]) -> Result<(), TransportError>;

    /// Writes one field of the configuration, in the same accesses.
    ///
    /// # Errors
    /// [`TransportError::ConfigRange`].
    fn write_config_field(&mut self, offset: u64, data: &[u8]) -> Result<(), TransportError>;

    /// Why the device interrupted, which is acknowledged by asking.
    fn take_interrupts(&mut self) -> Interrupts;

    /// A message-signalled interrupt came in at `vector`; the next [`take_interrupts`](Self::take_interrupts) says what for.
    /// Nothing happens on a transport without messages.
    fn vector_fired(&mut self, _vector: u16) {}

    /// Gives the device its interrupt vector for configuration changes, on a transport that has vectors: after each reset, before
    /// `DRIVER_OK`.
    ///
    /// # Errors
    /// [`TransportError::NoVector`].
    fn enable_config_interrupt(&mut self) -> Result<(), TransportError> {
        Ok(())
    }
}

macro_rules! forward_transport {
    ($($pointer:ty),*) => {$(
        impl<T: Transport + ?Sized> Transport for $pointer {
            fn device_type(&self) -> u32 {
                (**self).device_type()
            }
            fn device_features(&mut self) -> Features {
                (**self).device_features()
            }
            fn set_driver_features(&mut self, features: Features) -> Result<(), TransportError> {
                (**self).set_driver_features(features)
            }
            fn status(&mut self) -> Status {
                (**self).status()
            }
            fn set_status(&mut self, status: Status) {
                (**self).set_status(status);
            }
            fn queue_count(&mut self) -> u16 {
                (**self).queue_count()
            }
            fn queue_size_max(&mut self, queue: u16) -> u16 {
                (**self).queue_size_max(queue)
            }
            fn enable_queue(&mut self, queue: u16, layout: RingLayout) -> Result<(), TransportError> {
                (**self).enable_queue(queue, layout)
            }
            fn reset_queue(&mut self, queue: u16) -> Result<(), TransportError> {
                (**self).reset_queue(queue)
            }
            fn notify(&mut self, queue: u16, next: u16) -> Result<(), TransportError> {
                (**self).notify(queue, next)
            }
            fn config_generation(&mut self) -> u32 {
                (**self).config_generation()
            }
            fn read_config_field(&mut self, offset: u64, out: &mut [u8]) -> Result<(), TransportError> {
                (**self).read_config_field(offset, out)
            }
            fn write_config_field(&mut self, offset: u64, data: &[u8]) -> Result<(), TransportError> {
                (**self).write_config_field(offset, data)
            }
            fn take_interrupts(&mut self) -> Interrupts {
                (**self).take_interrupts()
            }
            fn vector_fired(&mut self, vector: u16) {
                (**self).vector_fired(vector);
            }
            fn enable_config_interrupt(&mut self) -> Result<(), TransportError> {
                (**self).enable_config_interrupt()
            }
        }
    )*};
}

forward_transport!(&mut T, Box<T>);
