//! A hosted function as bytes: configuration space, MSI-X, and what the function says of itself.

use vioduct_state::{Kind, Reader, Writer};

use super::Hosted;
use crate::registers::COMMAND_INTX_DISABLE;
use crate::{ConfigEffect, PciFunction, StateError};

const KIND: Kind = Kind(*b"PCIF");
const VERSION: u16 = 1;

impl<F: PciFunction + ?Sized> Hosted<F> {
    /// The whole function, for another host of the same function to go on from. The function raises nothing and touches no
    /// memory meanwhile: what it does beside is not in the state.
    ///
    /// # Errors
    /// If the function cannot be saved, or not now.
    pub fn save(&mut self) -> Result<Vec<u8>, StateError> {
        let Self { config, interrupts, function } = self;
        let own = function.save()?;
        let mut writer = Writer::default();
        writer.block(KIND, VERSION, |block| {
            config.save(block);
            interrupts.save(block);
            block.bytes(&own);
        });
        Ok(writer.into_bytes())
    }

    /// Takes over what [`save`](Self::save) has returned, and says what that changed beyond bytes. This function is as it was
    /// created or reset; a host that lets it work while it is restored finds it at work afterwards, if the guest allows it.
    ///
    /// # Errors
    /// If the state is damaged, or of a function that is not the same. This one is then as after a reset.
    pub fn restore(&mut self, state: &[u8]) -> Result<Vec<ConfigEffect>, StateError> {
        let mut reader = Reader::new(state);
        let mut block = reader.block(KIND, VERSION)?;
        let config = self.config.read_saved(&mut block)?;
        let msix = self.interrupts.read_saved(&mut block)?;
        let own = block.bytes()?;
        block.finish()?;
        reader.finish()?;
        let before = self.config.decoded();
        self.config.restore(config);
        let intx_disabled = self.config.command() & COMMAND_INTX_DISABLE != 0;
        self.interrupts.restore(msix, self.config.msix_control(), intx_disabled);
        if let Err(error) = self.function.restore(own) {
            self.reset_all();
            return Err(error);
        }
        Ok(self.effects_since(&before))
    }
}
