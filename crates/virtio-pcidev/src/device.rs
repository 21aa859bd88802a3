//! [`PciDev`]: a PCI function as a device model.

use crate::commands::Commands;
use crate::error::SetupError;
use crate::interrupts::{Delivery, Outbox};
use crate::protocol::{COMMAND_QUEUE, INTERRUPT_QUEUE};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vioduct_pci::{DmaFunction, Hosted, PciFunction, RegistersOnly};
use vioduct_virtio_device::{Backend, DeviceInfo, DeviceModel, Features, Handlers, MemoryMap, RateLimit};
use vioduct_virtio_pci::VirtioPci;
use vioduct_virtqueue::Memory;

pub(crate) type TunnelledFunction = Hosted<Box<dyn DmaFunction>>;
/// The control path and the thread of the command queue have it.
pub(crate) type SharedFunction = Arc<Mutex<TunnelledFunction>>;

/// A function that panicked is a bug of that function; the others of the process go on, and so does this one.
pub(crate) fn lock(function: &SharedFunction) -> MutexGuard<'_, TunnelledFunction> {
    function.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A function ready to be tunnelled. Run it by a [`Tunnel`](crate::Tunnel), or it has no memory and stays paused.
pub struct PciDev {
    device_type: u32,
    function: SharedFunction,
    outbox: Arc<Outbox>,
}

impl PciDev {
    /// The device type unless told otherwise: none is assigned, and Linux is built with one of its user's choice
    /// (`CONFIG_UML_PCI_OVER_VIRTIO_DEVICE_ID`).
    pub const DEVICE_TYPE: u32 = 62;
    /// User-Mode Linux uses this size whatever a device says.
    const QUEUE_SIZE: u16 = 256;

    /// A function that uses memory. It has none before it runs: build it over [`no_memory`](Self::no_memory).
    ///
    /// # Errors
    /// If it is not as PCI demands.
    pub fn new(function: impl DmaFunction + 'static) -> Result<Self, SetupError> {
        let outbox = Arc::new(Outbox::new(&function.spec()).map_err(SetupError::Bell)?);
        let function: Box<dyn DmaFunction> = Box::new(function);
        let mut hosted = Hosted::new(function, outbox.clone())?;
        hosted.function_mut().pause();
        Ok(Self { device_type: Self::DEVICE_TYPE, function: Arc::new(Mutex::new(hosted)), outbox })
    }

    /// A function that uses no memory of the guest's.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn registers(function: impl PciFunction + 'static) -> Result<Self, SetupError> {
        Self::new(RegistersOnly(function))
    }

    /// A virtio device as a PCI function.
    ///
    /// # Errors
    /// If the device cannot be one.
    pub fn virtio(backend: impl Backend + 'static) -> Result<Self, SetupError> {
        Self::new(VirtioPci::new(backend, Self::no_memory())?)
    }

    /// The same as a virtio device of another type.
    #[must_use]
    pub fn with_device_type(self, device_type: u32) -> Self {
        Self { device_type, ..self }
    }

    /// Memory of which there is none.
    #[must_use]
    pub fn no_memory() -> Arc<dyn Memory> {
        Arc::new(MemoryMap::new(Vec::new()).expect("invariant: no region is none that cannot be mapped"))
    }

    pub(crate) fn function(&self) -> SharedFunction {
        self.function.clone()
    }
}

impl DeviceModel for PciDev {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::new(self.device_type, "virtio-pcidev", vec![Self::QUEUE_SIZE; 2])
    }

    fn handlers(&mut self, _negotiated: Features) -> Handlers {
        let commands = Commands { function: self.function.clone(), log: RateLimit::default() };
        let delivery = Delivery(self.outbox.clone());
        vec![
            (COMMAND_QUEUE..COMMAND_QUEUE + 1, Box::new(commands)),
            (INTERRUPT_QUEUE..INTERRUPT_QUEUE + 1, Box::new(delivery)),
        ]
    }

    /// A device that starts anew is a function that was plugged in anew. Its interrupts go with it.
    fn reset(&mut self) {
        let Self { device_type: _, function, outbox: _ } = self;
        lock(function).reset();
    }
}
