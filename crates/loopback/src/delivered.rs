//! What stands between a driver and its transport: it counts doorbells, and delivers messages as an interrupt controller does.

use std::sync::Arc;

use vioduct_spec::{Features, Status};
use vioduct_virtio_driver::{Interrupts, Transport, TransportError};
use vioduct_virtqueue::RingLayout;

use crate::inbox::Inbox;
use crate::traffic::{Crossing, Recorder};

/// A transport whose messages arrive by themselves: `take_interrupts` first passes on the vectors that fired.
pub(crate) struct Delivered<T> {
    pub(crate) transport: T,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) recorder: Arc<Recorder>,
}

impl<T: Transport> Transport for Delivered<T> {
    fn device_type(&self) -> u32 {
        self.transport.device_type()
    }
    fn device_features(&mut self) -> Features {
        self.transport.device_features()
    }
    fn set_driver_features(&mut self, features: Features) -> Result<(), TransportError> {
        self.transport.set_driver_features(features)
    }
    fn status(&mut self) -> Status {
        self.transport.status()
    }
    fn set_status(&mut self, status: Status) {
        self.transport.set_status(status);
    }
    fn queue_count(&mut self) -> u16 {
        self.transport.queue_count()
    }
    fn queue_size_max(&mut self, queue: u16) -> u16 {
        self.transport.queue_size_max(queue)
    }
    fn enable_queue(&mut self, queue: u16, layout: RingLayout) -> Result<(), TransportError> {
        self.transport.enable_queue(queue, layout)
    }
    fn reset_queue(&mut self, queue: u16) -> Result<(), TransportError> {
        self.transport.reset_queue(queue)
    }
    fn notify(&mut self, queue: u16, next: u16) -> Result<(), TransportError> {
        self.recorder.record(Crossing::Doorbell { queue });
        self.transport.notify(queue, next)
    }
    fn config_generation(&mut self) -> u32 {
        self.transport.config_generation()
    }
    fn read_config_field(&mut self, offset: u64, out: &mut [u8]) -> Result<(), TransportError> {
        self.transport.read_config_field(offset, out)
    }
    fn write_config_field(&mut self, offset: u64, data: &[u8]) -> Result<(), TransportError> {
        self.transport.write_config_field(offset, data)
    }
    fn take_interrupts(&mut self) -> Interrupts {
        for vector in self.inbox.take_messages() {
            self.transport.vector_fired(vector);
        }
        self.transport.take_interrupts()
    }
    fn vector_fired(&mut self, vector: u16) {
        self.transport.vector_fired(vector);
    }
    fn enable_config_interrupt(&mut self) -> Result<(), TransportError> {
        self.transport.enable_config_interrupt()
    }
}
