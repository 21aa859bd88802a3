//! A transport that does as it is told, and logs what it was told to do.

use crate::transport::{Interrupts, Transport, TransportError};
use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;
use vioduct_spec::{Features, Status, device_type};
use vioduct_virtqueue::RingLayout;

/// What the driver did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Call {
    Status(u8),
    Features(Features),
    ConfigInterrupt,
    Enable(u16),
    ResetQueue(u16),
    Notify(u16),
}

pub(crate) struct FakeTransport {
    pub(crate) calls: Vec<Call>,
    pub(crate) device_type: u32,
    pub(crate) offered: Features,
    pub(crate) status: Status,
    /// Bits that the device takes back as soon as they are written.
    pub(crate) refused: Status,
    /// How often the status reads as nonzero after a reset was asked for.
    pub(crate) reset_polls: u32,
    polls_left: u32,
    pub(crate) queue_size_max: u16,
    pub(crate) layout: Option<RingLayout>,
    pub(crate) enable_error: Option<TransportError>,
    pub(crate) config: Vec<u8>,
    /// Generations to come; the last one stays. One that is empty changes for ever.
    pub(crate) generations: VecDeque<u32>,
    pub(crate) interrupts: Interrupts,
}

impl FakeTransport {
    pub(crate) fn new(offered: Features) -> Self {
        Self {
            calls: Vec::new(),
            device_type: device_type::DEMO,
            offered,
            status: Status::RESET,
            refused: Status::RESET,
            reset_polls: 0,
            polls_left: 0,
            queue_size_max: 256,
            layout: None,
            enable_error: None,
            config: vec![0; 16],
            generations: VecDeque::from([0]),
            interrupts: Interrupts::default(),
        }
    }
}

impl Transport for FakeTransport {
    fn device_type(&self) -> u32 {
        self.device_type
    }
    fn device_features(&mut self) -> Features {
        self.offered
    }
    fn set_driver_features(&mut self, features: Features) -> Result<(), TransportError> {
        self.calls.push(Call::Features(features));
        Ok(())
    }
    fn status(&mut self) -> Status {
        if self.polls_left > 0 {
            self.polls_left -= 1;
            return Status::ACKNOWLEDGE;
        }
        self.status
    }
    fn set_status(&mut self, status: Status) {
        self.calls.push(Call::Status(status.0));
        self.status = status.without(self.refused);
        if status == Status::RESET {
            self.polls_left = self.reset_polls;
        }
    }
    fn queue_count(&mut self) -> u16 {
        1
    }
    fn queue_size_max(&mut self, _queue: u16) -> u16 {
        self.queue_size_max
    }
    fn enable_queue(&mut self, queue: u16, layout: RingLayout) -> Result<(), TransportError> {
        self.calls.push(Call::Enable(queue));
        self.layout = Some(layout);
        self.enable_error.map_or(Ok(()), Err)
    }
    fn reset_queue(&mut self, queue: u16) -> Result<(), TransportError> {
        self.calls.push(Call::ResetQueue(queue));
        Ok(())
    }
    fn notify(&mut self, queue: u16, _next: u16) -> Result<(), TransportError> {
        self.calls.push(Call::Notify(queue));
        Ok(())
    }
    fn config_generation(&mut self) -> u32 {
        let Some(now) = self.generations.pop_front() else {
            self.config[0] = self.config[0].wrapping_add(1);
            return u32::from(self.config[0]);
        };
        if self.generations.is_empty() {
            self.generations.push_back(now);
        }
        now
    }
    fn read_config_field(&mut self, offset: u64, out: &mut [u8]) -> Result<(), TransportError> {
        let space = self.config.len() as u64;
        let range = offset as usize..offset as usize + out.len();
        let error = TransportError::ConfigRange { offset, len: out.len(), space };
        out.copy_from_slice(self.config.get(range).ok_or(error)?);
        Ok(())
    }
    fn write_config_field(&mut self, offset: u64, data: &[u8]) -> Result<(), TransportError> {
        self.config[offset as usize..offset as usize + data.len()].copy_from_slice(data);
        Ok(())
    }
    fn take_interrupts(&mut self) -> Interrupts {
        core::mem::take(&mut self.interrupts)
    }
    fn enable_config_interrupt(&mut self) -> Result<(), TransportError> {
        self.calls.push(Call::ConfigInterrupt);
        Ok(())
    }
}
