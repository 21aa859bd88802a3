//! [`Device`]: a function as clients see it, one after the other. Its registers outlive them.

use crate::dma::ClientMemory;
use crate::error::ServeError;
use crate::feature::Migration;
use crate::function::Served;
use crate::irqs::Irqs;
use crate::wire::Refusal;
use std::sync::Arc;
use vioduct_pci::{ConfigEffect, Hosted, PciFunction, RegistersOnly, StateError};
use vioduct_state::{Kind, Reader, Writer, open, seal};
use vioduct_virtio_device::Backend;
use vioduct_virtio_pci::VirtioPci;

/// Regions by VFIO's numbers: six BARs, the expansion ROM, configuration space, VGA.
pub(crate) const REGIONS: u32 = 9;
pub(crate) const BARS: u32 = 6;
pub(crate) const CONFIG: u32 = 7;

/// A device's state: its function's, and which interrupts wait for a client.
const KIND: Kind = Kind(*b"VFUD");
const VERSION: u16 = 1;

/// A function ready to be served.
pub struct Device {
    hosted: Hosted<Box<dyn Served>>,
    irqs: Arc<Irqs>,
}

/// Part of a region, all of it within.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Bar(u8, u64),
    Config(u64),
}

impl Device {
    /// A function that uses memory. It has none before a client comes: build it over [`Device::no_memory`].
    ///
    /// # Errors
    /// If it is not as PCI demands.
    pub fn new(function: impl Served + 'static) -> Result<Self, ServeError> {
        let irqs = Arc::new(Irqs::new(&function.spec()));
        let function: Box<dyn Served> = Box::new(function);
        let mut hosted = Hosted::new(function, irqs.clone())?;
        hosted.function_mut().pause();
        Ok(Self { hosted, irqs })
    }

    /// A function that uses no memory of the guest's.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn registers(function: impl PciFunction + 'static) -> Result<Self, ServeError> {
        Self::new(RegistersOnly(function))
    }

    /// A virtio device as a PCI function.
    ///
    /// # Errors
    /// If the device cannot be one.
    pub fn virtio(backend: impl Backend + 'static) -> Result<Self, ServeError> {
        Self::new(VirtioPci::new(backend, Self::no_memory())?)
    }

    /// Memory of which there is none.
    #[must_use]
    pub fn no_memory() -> Arc<dyn vioduct_virtqueue::Memory> {
        ClientMemory::none()
    }

    pub(crate) fn function(&mut self) -> &mut dyn Served {
        &mut **self.hosted.function_mut()
    }

    pub(crate) fn irqs(&self) -> &Irqs {
        &self.irqs
    }

    /// Length of a region in bytes; 0 for one that this function does not have.
    pub(crate) fn region_len(&self, region: u32) -> Result<u64, Refusal> {
        match region {
            CONFIG => Ok(self.hosted.config_len()),
            0..REGIONS => {
                let bar = u8::try_from(region).ok().filter(|_| region < BARS);
                Ok(bar.and_then(|bar| self.hosted.spec().bar(bar)).map_or(0, |bar| bar.len))
            }
            _ => Err(Refusal::Invalid),
        }
    }

    pub(crate) fn read(&mut self, region: u32, offset: u64, out: &mut [u8]) -> Result<(), Refusal> {
        match self.place(region, offset, out.len())? {
            // An access of no bytes is none.
            _ if out.is_empty() => {}
            Place::Bar(bar, offset) => self.hosted.bar_read(bar, offset, out),
            Place::Config(offset) => self.hosted.config_read(offset, out),
        }
        Ok(())
    }

    pub(crate) fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), Refusal> {
        match self.place(region, offset, data.len())? {
            _ if data.is_empty() => {}
            Place::Bar(bar, offset) => self.hosted.bar_write(bar, offset, data),
            Place::Config(offset) => {
                if self.hosted.config_write(offset, data).contains(&ConfigEffect::Reset) {
                    self.irqs.reset();
                }
            }
        }
        Ok(())
    }

    pub(crate) fn reset(&mut self) {
        self.hosted.reset();
        self.irqs.reset();
    }

    pub(crate) fn migration(&self) -> Migration {
        if self.hosted.function().is_saveable() { Migration::Offered } else { Migration::Absent }
    }

    /// All that a client or a guest can have changed, as a sealed state. The function is paused and interrupts are held.
    pub(crate) fn save(&mut self) -> Result<Vec<u8>, StateError> {
        let Self { hosted, irqs } = self;
        let function = hosted.save()?;
        let mut writer = Writer::default();
        writer.block(KIND, VERSION, |block| {
            block.bytes(&function);
            irqs.save(block);
        });
        Ok(seal(&writer.into_bytes()))
    }

    /// Takes over a sealed state. The function is paused and interrupts are held; after an error the device is as it was, if the
    /// state was damaged, or reset.
    pub(crate) fn restore(&mut self, sealed: &[u8]) -> Result<(), StateError> {
        let mut reader = Reader::new(open(sealed)?);
        let mut block = reader.block(KIND, VERSION)?;
        let function = block.bytes()?;
        let pending = self.irqs.read_saved(&mut block)?;
        block.finish()?;
        reader.finish()?;
        self.reset();
        let outcome = self.hosted.restore(function);
        if outcome.is_ok() {
            self.irqs.restore(&pending);
        } else {
            self.reset();
        }
        outcome.map(drop)
    }

    fn place(&self, region: u32, offset: u64, len: usize) -> Result<Place, Refusal> {
        let region_len = self.region_len(region)?;
        let end = offset.checked_add(len as u64).filter(|end| *end <= region_len);
        end.ok_or(Refusal::Invalid)?;
        match (region, u8::try_from(region)) {
            (CONFIG, _) => Ok(Place::Config(offset)),
            (index, Ok(bar)) if index < BARS => Ok(Place::Bar(bar, offset)),
            _ => Err(Refusal::Invalid),
        }
    }
}
