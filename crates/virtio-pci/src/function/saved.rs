//! The function as bytes: what this transport holds, and the device that it shows.

use vioduct_pci::StateError;
use vioduct_state::{Kind, LoadError, Reader, Writer};
use vioduct_virtio_device::{Backend, RestoreError};

use crate::VirtioPci;
use crate::common_config::{Generation, Selectors};
use crate::lines::Events;

const KIND: Kind = Kind(*b"VPCI");
const VERSION: u16 = 1;

impl<B: Backend> VirtioPci<B> {
    /// Queues are paused meanwhile, and with them ends what changes vectors and ISR: so they are saved after the device.
    pub(crate) fn save_all(&mut self) -> Result<Vec<u8>, StateError> {
        let mut device = Writer::default();
        let outcome = self.endpoint.save_to(&mut device);
        let Self { endpoint: _, layout: _, selectors, generation, lines, bus_master: _, activity: _, log: _ } =
            self;
        let mut writer = Writer::default();
        writer.block(KIND, VERSION, |block| {
            selectors.write(block);
            generation.write(block);
            lines.save().write(block);
            block.bytes(&device.into_bytes());
        });
        self.apply_activity();
        outcome.map_err(|error| StateError::Unavailable(error.to_string()))?;
        Ok(writer.into_bytes())
    }

    /// Whether the device may run is not in the state: the host tells of bus mastering, and the device waits for that. After an
    /// error the host resets the function.
    pub(crate) fn restore_all(&mut self, state: &[u8]) -> Result<(), StateError> {
        let mut reader = Reader::new(state);
        let mut block = reader.block(KIND, VERSION)?;
        let saved_selectors = Selectors::read(&mut block)?;
        let saved_generation = Generation::read(&mut block)?;
        let events = Events::read(&mut block, &self.lines)?;
        let device = block.bytes()?;
        block.finish()?;
        reader.finish()?;
        self.endpoint.restore_from(device).map_err(refusal)?;
        let Self { endpoint: _, layout: _, selectors, generation, lines, bus_master: _, activity: _, log: _ } =
            self;
        *selectors = saved_selectors;
        *generation = saved_generation;
        lines.restore(&events);
        Ok(())
    }
}

fn refusal(error: RestoreError) -> StateError {
    match error {
        RestoreError::Form(error) => StateError::Load(error),
        other => StateError::Refused(other.to_string()),
    }
}

impl Selectors {
    fn write(self, writer: &mut Writer) {
        let Self { device_features, driver_features, queue } = self;
        writer.u32(device_features);
        writer.u32(driver_features);
        writer.u16(queue);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, LoadError> {
        let (device_features, driver_features) = (reader.u32()?, reader.u32()?);
        Ok(Self { device_features, driver_features, queue: reader.u16()? })
    }
}

impl Events {
    fn write(&self, writer: &mut Writer) {
        let Self { config, queues, isr } = self;
        writer.u16(*config);
        writer.bytes(&queues.iter().flat_map(|vector| vector.to_le_bytes()).collect::<Vec<_>>());
        writer.u8(*isr);
    }
}
