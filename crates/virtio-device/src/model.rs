//! What the author of a device writes: [`DeviceModel`], and what it declares up front: [`DeviceInfo`].

use crate::handler::QueueHandler;
use std::borrow::Cow;
use std::ops::Range;
use vioduct_spec::Features;

/// What a device declares before anything runs; none of it changes later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceInfo {
    /// The device type number (virtio 1.3 §5), as in [`vioduct_spec::device_type`].
    pub device_type: u32,
    /// A short name for logs and thread names.
    pub name: &'static str,
    /// The feature bits of the device type that this device offers. Bits that concern the ring or the transport are not the
    /// model's: whoever runs it adds those that it implements.
    pub features: Features,
    /// The largest size of each virtqueue, in descriptors; as many as there are queues.
    pub queue_sizes: Vec<u16>,
    /// Length of the device-specific configuration space in bytes.
    pub config_len: usize,
    /// Whether the driver may write to the configuration space.
    pub config_access: ConfigAccess,
}

impl DeviceInfo {
    /// A device without features of its own and without configuration space.
    #[must_use]
    pub fn new(device_type: u32, name: &'static str, queue_sizes: Vec<u16>) -> Self {
        let (features, config_len, config_access) = (Features::NONE, 0, ConfigAccess::ReadOnly);
        Self { device_type, name, features, queue_sizes, config_len, config_access }
    }
}

/// What the driver may do with the device-specific configuration space (virtio 1.3 §2.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigAccess {
    /// Writes are ignored.
    ReadOnly,
    /// Writes within it reach [`DeviceModel::write_config`], from when the driver has found the device (virtio 1.3 §3.1.1).
    Writable,
    /// The same at any time, as virtio 1.3 §5.3.5.1 demands of a console: a kernel writes its last words there before it has a driver.
    AlwaysWritable,
}

/// The handlers of a device, each with the queues that it alone serves.
pub type Handlers = Vec<(Range<u16>, Box<dyn QueueHandler>)>;

/// A virtual device: identity, configuration bytes and queue handlers. It knows no threads, addresses or transports.
///
/// A model and its handlers share state as they like (an `Arc` of atomics is usual): under [`Workers`](crate::Workers) the
/// model lives with the control path and each handler on a thread of its own.
pub trait DeviceModel: Send {
    /// What this device is; the same whenever it is asked.
    fn info(&self) -> DeviceInfo;

    /// Fills `out` with the configuration bytes from `offset` on. `offset + out.len()` is at most
    /// [`config_len`](DeviceInfo::config_len). The driver may ask before features are negotiated (virtio 1.3 §2.5.3).
    fn read_config(&self, _offset: usize, _out: &mut [u8]) {}

    /// The driver wrote `data` at `offset`, all of it within a writable configuration space.
    fn write_config(&mut self, _offset: usize, _data: &[u8]) {}

    /// Fresh handlers for the queues of a device with these features, called when negotiation is complete. A queue in no
    /// range cannot be started; ranges do not overlap.
    fn handlers(&mut self, negotiated: Features) -> Handlers;

    /// Back to the state of a device never used. Its handlers have been dropped.
    fn reset(&mut self) {}

    /// What a device of the same kind needs to go on where this one stopped, beyond its features and its queues' positions, in
    /// a form of its own. No queue is running.
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Goes on where the device stopped that has saved `state`. It may come from another host: it is to be checked as input of
    /// a peer is.
    ///
    /// # Errors
    /// If `state` is none of this kind of device, which a device without state says of any but an empty one. The device is then
    /// as it was, or reset.
    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        if state.is_empty() { Ok(()) } else { Err(StateError::none_expected()) }
    }
}

/// Why a device cannot take over a saved state.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the saved state does not suit the device: {0}")]
pub struct StateError(pub Cow<'static, str>);

impl StateError {
    pub(crate) fn none_expected() -> Self {
        Self("it has no state of its own".into())
    }
}

impl<M: DeviceModel + ?Sized> DeviceModel for Box<M> {
    fn info(&self) -> DeviceInfo {
        (**self).info()
    }
    fn read_config(&self, offset: usize, out: &mut [u8]) {
        (**self).read_config(offset, out);
    }
    fn write_config(&mut self, offset: usize, data: &[u8]) {
        (**self).write_config(offset, data);
    }
    fn handlers(&mut self, negotiated: Features) -> Handlers {
        (**self).handlers(negotiated)
    }
    fn reset(&mut self) {
        (**self).reset();
    }
    fn save(&self) -> Vec<u8> {
        (**self).save()
    }
    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        (**self).restore(state)
    }
}
