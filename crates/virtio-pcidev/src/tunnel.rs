//! [`Tunnel`]: the back-end of a tunnelled function.
//!
//! A device model knows no memory beyond its buffers, and a function may use all of the guest's. A back-end is given it, so this
//! is one: around whatever runs the model, it passes the memory on, and lets the function use it while commands are served.

use crate::device::{PciDev, SharedFunction, lock};
use crate::protocol::COMMAND_QUEUE;
use vioduct_virtio_device::{Backend, BackendError, DeviceInfo, Features, Host, QueueSetup};
use vioduct_virtqueue::QueuePosition;

/// A [`PciDev`] with whatever runs it, such as [`Workers`](vioduct_virtio_device::Workers). The function uses memory only while
/// the command queue runs; so whoever has stopped all queues may change the memory, or take it away.
pub struct Tunnel<B> {
    runner: B,
    function: SharedFunction,
}

impl<B: Backend> Tunnel<B> {
    /// The device, run as `run` says, such as `Workers::new`.
    pub fn new(device: PciDev, run: impl FnOnce(PciDev) -> B) -> Self {
        let function = device.function();
        Self { runner: run(device), function }
    }

    /// What runs the device.
    pub fn runner_mut(&mut self) -> &mut B {
        &mut self.runner
    }

    fn pause(&self) {
        lock(&self.function).function_mut().pause();
    }
}

impl<B: Backend> Backend for Tunnel<B> {
    fn info(&self) -> &DeviceInfo {
        self.runner.info()
    }

    fn features(&self) -> Features {
        self.runner.features()
    }

    fn read_config(&self, offset: usize, out: &mut [u8]) {
        self.runner.read_config(offset, out);
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        self.runner.write_config(offset, data);
    }

    /// No queue is running, so the function is paused.
    fn connect(&mut self, host: Host) {
        lock(&self.function).function_mut().replace_memory(host.memory.clone());
        self.runner.connect(host);
    }

    /// Queues that run are stopped by this.
    fn set_features(&mut self, negotiated: Features) -> Result<(), BackendError> {
        self.runner.set_features(negotiated)?;
        self.pause();
        Ok(())
    }

    fn start_queue(&mut self, q: u16, setup: QueueSetup) -> Result<(), BackendError> {
        self.runner.start_queue(q, setup)?;
        if q == COMMAND_QUEUE {
            lock(&self.function).function_mut().resume();
        }
        Ok(())
    }

    fn stop_queue(&mut self, q: u16) -> Result<Option<QueuePosition>, BackendError> {
        let position = self.runner.stop_queue(q)?;
        if q == COMMAND_QUEUE {
            self.pause();
        }
        Ok(position)
    }

    fn kick(&mut self, q: u16) {
        self.runner.kick(q);
    }

    fn reset(&mut self) -> Result<(), BackendError> {
        self.runner.reset()?;
        self.pause();
        Ok(())
    }

    /// What a function is, is more than its model's bytes.
    fn save_state(&mut self) -> Result<Vec<u8>, BackendError> {
        Err(BackendError::Other(
            "a tunnelled PCI function cannot be saved: unplug it before migrating".to_owned(),
        ))
    }
}
