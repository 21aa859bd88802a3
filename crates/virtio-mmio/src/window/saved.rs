//! The window as bytes, to go on elsewhere.

use super::{Mmio, Selectors};
use vioduct_spec::mmio::{INTERRUPT_CONFIG, INTERRUPT_QUEUE};
use vioduct_state::{Kind, LoadError, Reader, Writer};
use vioduct_virtio_device::{Backend, BackendError, RestoreError};

const KIND: Kind = Kind(*b"MMIO");
const VERSION: u16 = 1;

impl<B: Backend> Mmio<B> {
    /// Pauses, and returns the window and its device, as a state to be sealed ([`vioduct_state::seal`]).
    /// [`Endpoint::resume`](vioduct_virtio_device::Endpoint::resume) goes on here; [`restore`](Self::restore) and `resume` go on
    /// elsewhere.
    ///
    /// # Errors
    /// If the back-end cannot say what its state is.
    pub fn save(&mut self) -> Result<Vec<u8>, BackendError> {
        let Self { endpoint, interrupts, selected } = self;
        let mut device = Writer::default();
        endpoint.save_to(&mut device)?;
        let Selectors { device_features, driver_features, queue } = *selected;
        let mut writer = Writer::default();
        writer.block(KIND, VERSION, |block| {
            block.u32(device_features);
            block.u32(driver_features);
            block.u16(queue);
            block.u8(interrupts.status());
            block.bytes(&device.into_bytes());
        });
        Ok(writer.into_bytes())
    }

    /// Takes over what [`save`](Self::save) has returned, and stays paused. The line follows the interrupt status.
    ///
    /// # Errors
    /// If it is damaged, or of a device that this one cannot stand in for. A window that was not in use is then in reset; one that
    /// was is as it was.
    pub fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        let mut reader = Reader::new(state);
        let mut block = reader.block(KIND, VERSION)?;
        let (device_features, driver_features) = (block.u32()?, block.u32()?);
        let selectors = Selectors { device_features, driver_features, queue: block.u16()? };
        let status = block.u8()?;
        if status & !(INTERRUPT_QUEUE | INTERRUPT_CONFIG) != 0 {
            return Err(LoadError::Value("the interrupt status has bits that there are not").into());
        }
        let device = block.bytes()?;
        block.finish()?;
        reader.finish()?;
        let Self { endpoint, interrupts, selected } = self;
        endpoint.restore_from(device)?;
        *selected = selectors;
        interrupts.restore(status);
        Ok(())
    }
}
