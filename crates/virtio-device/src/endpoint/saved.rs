//! A whole device as bytes: the endpoint's state and its back-end's, in a block that every transport puts into its own.

use super::state::{EndpointState, QueueState, RestoreError};
use super::{Activity, Endpoint};
use crate::backend::{Backend, BackendError};
use vioduct_spec::Status;
use vioduct_state::{Kind, LoadError, Reader, Writer};
use vioduct_virtqueue::{QueuePosition, RingIndex, Wrap};

const KIND: Kind = Kind(*b"VDEV");
const VERSION: u16 = 1;

impl<B: Backend> Endpoint<B> {
    /// Pauses, and writes the device: its type, what [`save`](Self::save) returns, and the state of its model.
    /// [`resume`](Self::resume) goes on here, [`restore_from`](Self::restore_from) and `resume` elsewhere.
    ///
    /// # Errors
    /// If a queue cannot be stopped, so that the device goes on to change memory, or the back-end cannot say what its state is.
    /// Nothing has been written then.
    pub fn save_to(&mut self, writer: &mut Writer) -> Result<(), BackendError> {
        let state = self.save();
        if let Some(queue) = self.queues.iter().position(|queue| queue.run.is_with_backend()) {
            let reason = format!("queue {queue} does not stop: save the device once its I/O has ended");
            return Err(BackendError::Other(reason));
        }
        let model = self.backend.save_state()?;
        writer.block(KIND, VERSION, |block| {
            block.u32(self.info.device_type);
            block.u64(self.info.config_len as u64);
            state.write(block);
            block.bytes(&model);
        });
        Ok(())
    }

    /// Takes over what [`save_to`](Self::save_to) has written, which is all of `saved`, and stays paused.
    ///
    /// # Errors
    /// If it is damaged, or of a device that this one cannot stand in for. The endpoint is then in reset, and so are features and
    /// model; one that was in use is as it was.
    pub fn restore_from(&mut self, saved: &[u8]) -> Result<(), RestoreError> {
        if self.status() != Status::RESET {
            return Err(RestoreError::InUse);
        }
        self.activity = Activity::Paused;
        let outcome = self.take_over_all(saved);
        if outcome.is_err() {
            self.reset();
        }
        outcome
    }

    fn take_over_all(&mut self, saved: &[u8]) -> Result<(), RestoreError> {
        let mut reader = Reader::new(saved);
        let mut block = reader.block(KIND, VERSION)?;
        let (saved, device) = (block.u32()?, self.info.device_type);
        if saved != device {
            return Err(RestoreError::DeviceType { saved, device });
        }
        let (saved, device) = (block.u64()?, self.info.config_len as u64);
        if saved != device {
            return Err(RestoreError::ConfigLen { saved, device });
        }
        let state = EndpointState::read(&mut block, self.queues.len())?;
        let model = block.bytes()?;
        block.finish()?;
        reader.finish()?;
        self.take_over(&state)?;
        self.backend.restore_state(model).map_err(|error| RestoreError::Model(error.to_string()))
    }
}

impl EndpointState {
    fn write(&self, writer: &mut Writer) {
        let Self { status, driver_features, generation, queues } = self;
        writer.u8(*status);
        writer.u64(*driver_features);
        writer.u32(*generation);
        writer.u64(queues.len() as u64);
        queues.iter().for_each(|queue| queue.write(writer));
    }

    /// The queues are counted before any is read.
    fn read(reader: &mut Reader<'_>, count: usize) -> Result<Self, RestoreError> {
        let (status, driver_features, generation) = (reader.u8()?, reader.u64()?, reader.u32()?);
        let saved = usize::try_from(reader.u64()?).unwrap_or(usize::MAX);
        if saved != count {
            return Err(RestoreError::QueueCount { saved, count });
        }
        let queues = (0..count).map(|_| QueueState::read(reader)).collect::<Result<_, _>>()?;
        Ok(Self { status, driver_features, generation, queues })
    }
}

impl QueueState {
    fn write(&self, writer: &mut Writer) {
        let Self { size, descriptor_area, driver_area, device_area, position } = *self;
        writer.u16(size);
        [descriptor_area, driver_area, device_area].into_iter().for_each(|address| writer.u64(address));
        writer.u8(position.is_some().into());
        if let Some(QueuePosition { available, used }) = position {
            [available, used].into_iter().for_each(|at| write_index(at, writer));
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, LoadError> {
        let size = reader.u16()?;
        let (descriptor_area, driver_area, device_area) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let position = match reader.u8()? {
            0 => None,
            1 => Some(QueuePosition { available: read_index(reader)?, used: read_index(reader)? }),
            _ => return Err(LoadError::Value("a queue is neither enabled nor disabled")),
        };
        Ok(Self { size, descriptor_area, driver_area, device_area, position })
    }
}

/// Split rings count in all 16 bits of the index, so the wrap counter has a byte of its own.
fn write_index(at: RingIndex, writer: &mut Writer) {
    let RingIndex { index, wrap } = at;
    writer.u16(index);
    writer.u8(u8::from(wrap == Wrap::Set));
}

fn read_index(reader: &mut Reader<'_>) -> Result<RingIndex, LoadError> {
    let index = reader.u16()?;
    match reader.u8()? {
        bit @ (0 | 1) => Ok(RingIndex { index, wrap: Wrap::from_bit(bit.into()) }),
        _ => Err(LoadError::Value("a wrap counter has more than one bit")),
    }
}
