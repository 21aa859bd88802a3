//! `virtio-test`: two request formats on one virtqueue, factorial and echo+100, and a configuration space that the driver may
//! write.

#![deny(clippy::indexing_slicing)]
#![deny(clippy::panic)]

mod handler;
mod request;
#[cfg(test)]
mod tests;

pub use request::{Format, Request};

use handler::Server;
use std::sync::{Arc, Mutex, PoisonError};
use vioduct_spec::{device_type, test};
use vioduct_virtio_device::{
    ConfigAccess, DeviceInfo, DeviceModel, Features, Handlers, OptionError, Options, StateError,
};

/// Is called with every request, on the thread that serves the queue.
pub(crate) type Observer = Arc<Mutex<dyn FnMut(&Request) + Send>>;

/// The device.
pub struct VirtioTest {
    format: Format,
    device_type: u32,
    /// `u32` `num_pages`, `actual`, `event`, little-endian.
    config: [u8; test::CONFIG_LEN],
    observer: Option<Observer>,
}

impl VirtioTest {
    /// The device that `virtio-test[,format=factorial|echo][,id=NUMBER]` describes: by default it serves factorials as device
    /// type 45. `id` is the device type, 1 to 63.
    ///
    /// # Errors
    /// If there is another option, or a value is not one of these.
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        options.accept(&["format", "id"])?;
        let formats = [("factorial", Format::Factorial), ("echo", Format::Echo)];
        let format = options.choice("format", &formats)?.unwrap_or(Format::Factorial);
        let device_type = options.number_in("id", 1..=63)?.unwrap_or(device_type::TEST);
        Ok(Self { format, device_type, config: [0; test::CONFIG_LEN], observer: None })
    }

    /// Has `observer` called with every request, on the thread that serves it.
    #[must_use]
    pub fn on_request(mut self, observer: impl FnMut(&Request) + Send + 'static) -> Self {
        self.observer = Some(Arc::new(Mutex::new(observer)));
        self
    }
}

impl DeviceModel for VirtioTest {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            features: test::F_CAN_PRINT,
            config_len: test::CONFIG_LEN,
            config_access: ConfigAccess::Writable,
            ..DeviceInfo::new(self.device_type, "virtio-test", vec![test::QUEUE_SIZE])
        }
    }

    fn read_config(&self, offset: usize, out: &mut [u8]) {
        out.iter_mut().zip(self.config.iter().skip(offset)).for_each(|(to, from)| *to = *from);
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        self.config.iter_mut().skip(offset).zip(data).for_each(|(to, from)| *to = *from);
    }

    /// Without `CAN_PRINT` the queue is not used.
    fn handlers(&mut self, negotiated: Features) -> Handlers {
        if !negotiated.contains(test::F_CAN_PRINT) {
            return Vec::new();
        }
        vec![(0..1, Box::new(Server::new(self.format, self.observer.clone())))]
    }

    fn reset(&mut self) {
        let Self { format: _, device_type: _, config, observer: _ } = self;
        *config = [0; test::CONFIG_LEN];
    }

    /// The configuration space; the rest is set-up.
    fn save(&self) -> Vec<u8> {
        let Self { format: _, device_type: _, config, observer: _ } = self;
        config.to_vec()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        self.config = state.try_into().map_err(|_| {
            StateError(
                format!("it is {} bytes, not {}: use one of a virtio-test", test::CONFIG_LEN, state.len())
                    .into(),
            )
        })?;
        Ok(())
    }
}

/// Calls the observer, if there is one.
pub(crate) fn observe(observer: Option<&Observer>, request: &Request) {
    if let Some(observer) = observer {
        let mut call = observer.lock().unwrap_or_else(PoisonError::into_inner);
        call(request);
    }
}
