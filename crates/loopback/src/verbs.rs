//! A transport without registers: the driver's verbs, straight on the device's [`Endpoint`].

use std::sync::{Arc, Mutex, MutexGuard};

use vioduct_spec::{Features, Status};
use vioduct_virtio_device::{Area, Backend, Endpoint, Half, StatusWrite};
use vioduct_virtio_driver::{Interrupts, Transport, TransportError};
use vioduct_virtqueue::RingLayout;

use crate::inbox::Inbox;
use crate::place::lock;

/// What this transport implements, of the features that need one.
pub(crate) const FEATURES: Features = Features::RING_RESET.with(Features::NOTIFICATION_DATA);

pub(crate) struct Verbs<B: Backend> {
    endpoint: Arc<Mutex<Endpoint<B>>>,
    inbox: Arc<Inbox>,
    device_type: u32,
    config_len: u64,
}

impl<B: Backend> Verbs<B> {
    pub(crate) fn new(endpoint: Arc<Mutex<Endpoint<B>>>, inbox: Arc<Inbox>) -> Self {
        let (device_type, config_len) = {
            let endpoint = lock(&endpoint);
            (endpoint.info().device_type, endpoint.info().config_len as u64)
        };
        Self { endpoint, inbox, device_type, config_len }
    }

    fn endpoint(&self) -> MutexGuard<'_, Endpoint<B>> {
        lock(&self.endpoint)
    }

    fn check_range(&self, offset: u64, len: usize) -> Result<(), TransportError> {
        let end = offset.checked_add(len as u64);
        if end.is_none_or(|end| end > self.config_len) {
            return Err(TransportError::ConfigRange { offset, len, space: self.config_len });
        }
        Ok(())
    }
}

impl<B: Backend> Transport for Verbs<B> {
    fn device_type(&self) -> u32 {
        self.device_type
    }

    fn device_features(&mut self) -> Features {
        self.endpoint().offered()
    }

    fn set_driver_features(&mut self, features: Features) -> Result<(), TransportError> {
        let mut endpoint = self.endpoint();
        (0..2).for_each(|select| endpoint.set_driver_features(select, features.word(select)));
        Ok(())
    }

    fn status(&mut self) -> Status {
        self.endpoint().status()
    }

    fn set_status(&mut self, status: Status) {
        if self.endpoint().write_status(status.0) == StatusWrite::Reset {
            self.inbox.clear_calls();
        }
    }

    fn queue_count(&mut self) -> u16 {
        self.endpoint().queue_count()
    }

    fn queue_size_max(&mut self, queue: u16) -> u16 {
        self.endpoint().queue_size_max(queue)
    }

    fn enable_queue(&mut self, queue: u16, layout: RingLayout) -> Result<(), TransportError> {
        let mut endpoint = self.endpoint();
        let max = endpoint.queue_size_max(queue);
        if max == 0 {
            return Err(TransportError::NoQueue(queue));
        }
        if endpoint.queue_enabled(queue) {
            return Err(TransportError::QueueInUse(queue));
        }
        if layout.size == 0 || layout.size > max {
            return Err(TransportError::QueueSize { queue, wanted: layout.size, max });
        }
        endpoint.set_queue_size(queue, layout.size);
        for (area, address) in [
            (Area::Descriptor, layout.descriptor_area),
            (Area::Driver, layout.driver_area),
            (Area::Device, layout.device_area),
        ] {
            endpoint.set_queue_address(queue, area, Half::Low, address.0 as u32);
            endpoint.set_queue_address(queue, area, Half::High, (address.0 >> 32) as u32);
        }
        endpoint.enable_queue(queue);
        if endpoint.queue_enabled(queue) { Ok(()) } else { Err(TransportError::QueueRefused(queue)) }
    }

    fn reset_queue(&mut self, queue: u16) -> Result<(), TransportError> {
        let mut endpoint = self.endpoint();
        if !endpoint.negotiated().contains(Features::RING_RESET) {
            return Err(TransportError::NotNegotiated(Features::RING_RESET));
        }
        endpoint.reset_queue(queue);
        if endpoint.queue_resetting(queue) { Err(TransportError::QueueResetTimeout(queue)) } else { Ok(()) }
    }

    fn notify(&mut self, queue: u16, next: u16) -> Result<(), TransportError> {
        let mut endpoint = self.endpoint();
        if !endpoint.queue_enabled(queue) {
            return Err(TransportError::NoQueue(queue));
        }
        let data = endpoint.negotiated().contains(Features::NOTIFICATION_DATA);
        let upper = if data { u32::from(next) << 16 } else { 0 };
        endpoint.notify(upper | u32::from(queue));
        Ok(())
    }

    fn config_generation(&mut self) -> u32 {
        self.endpoint().generation()
    }

    fn read_config_field(&mut self, offset: u64, out: &mut [u8]) -> Result<(), TransportError> {
        self.check_range(offset, out.len())?;
        self.endpoint().read_config(offset, out);
        Ok(())
    }

    fn write_config_field(&mut self, offset: u64, data: &[u8]) -> Result<(), TransportError> {
        self.check_range(offset, data.len())?;
        self.endpoint().write_config(offset, data);
        Ok(())
    }

    fn take_interrupts(&mut self) -> Interrupts {
        self.inbox.take_calls()
    }
}
