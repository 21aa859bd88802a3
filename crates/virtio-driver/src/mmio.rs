//! Virtio over MMIO, version 2 (virtio 1.3 §4.2).

use crate::register_window::RegisterWindow;
use crate::transport::config_access::{read_fields, write_fields};
use crate::transport::{Interrupts, RESET_POLLS, Transport, TransportError, notification_word};
use core::fmt;
use core::hint::spin_loop;
use vioduct_spec::mmio::*;
use vioduct_spec::ring::MAX_QUEUE_SIZE;
use vioduct_spec::{Features, Status};
use vioduct_virtqueue::{IoAddr, RingLayout};

/// Features that say something of a PCI function and nothing of a register window.
const PCI_ONLY: Features = Features::NOTIF_CONFIG_DATA.with(Features::SR_IOV);

/// Why a register window is not one of a virtio device that can be driven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MmioError {
    /// The window is shorter than its registers: this many bytes.
    TooShort(u64),
    /// No virtio device: this stands in place of the magic value.
    Magic(u32),
    /// A version other than 2; 1 is the legacy interface, which is not spoken.
    Version(u32),
    /// A window with no device behind it (virtio 1.3 §4.2.3.1.1: device id 0), to be passed over silently.
    NoDevice,
}

impl fmt::Display for MmioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort(len) => {
                write!(f, "a register window of {len} bytes, where virtio-mmio has {CONFIG} or more")
            }
            Self::Magic(found) => write!(f, "no virtio device: magic value {found:#x}, not {MAGIC:#x}"),
            Self::Version(1) => {
                f.write_str("a legacy virtio-mmio device (version 1); give it the modern interface")
            }
            Self::Version(found) => write!(f, "virtio-mmio version {found}, not {VERSION}"),
            Self::NoDevice => f.write_str("no device behind this register window"),
        }
    }
}

impl core::error::Error for MmioError {}

/// A device behind a register window.
#[derive(Debug)]
pub struct MmioTransport<W: RegisterWindow> {
    window: W,
    device_type: u32,
    negotiated: Features,
}

impl<W: RegisterWindow> MmioTransport<W> {
    /// Looks whether a device is there: magic value, version and device id, in this order (virtio 1.3 §4.2.3.1.1).
    ///
    /// # Errors
    /// [`MmioError`].
    pub fn new(window: W) -> Result<Self, MmioError> {
        let len = window.window_len();
        if len < CONFIG {
            return Err(MmioError::TooShort(len));
        }
        match window.read_u32(MAGIC_VALUE) {
            MAGIC => {}
            found => return Err(MmioError::Magic(found)),
        }
        match window.read_u32(DEVICE_VERSION) {
            VERSION => {}
            found => return Err(MmioError::Version(found)),
        }
        match window.read_u32(DEVICE_ID) {
            0 => Err(MmioError::NoDevice),
            device_type => Ok(Self { window, device_type, negotiated: Features::NONE }),
        }
    }

    /// The device's vendor.
    pub fn vendor(&self) -> u32 {
        self.window.read_u32(VENDOR_ID)
    }

    fn write_area(&self, low: u64, high: u64, at: IoAddr) {
        self.window.write_u32(low, at.0 as u32);
        self.window.write_u32(high, (at.0 >> 32) as u32);
    }
}

impl<W: RegisterWindow> Transport for MmioTransport<W> {
    fn device_type(&self) -> u32 {
        self.device_type
    }

    fn device_features(&mut self) -> Features {
        let word = |features: Features, select: u32| {
            self.window.write_u32(DEVICE_FEATURES_SEL, select);
            features.with_word(select, self.window.read_u32(DEVICE_FEATURES))
        };
        word(word(Features::NONE, 0), 1).without(PCI_ONLY)
    }

    fn set_driver_features(&mut self, features: Features) -> Result<(), TransportError> {
        let foreign = features & PCI_ONLY;
        if !foreign.is_empty() {
            return Err(TransportError::Unsupported(foreign));
        }
        for select in [0, 1] {
            self.window.write_u32(DRIVER_FEATURES_SEL, select);
            self.window.write_u32(DRIVER_FEATURES, features.word(select));
        }
        self.negotiated = features;
        Ok(())
    }

    fn status(&mut self) -> Status {
        Status(self.window.read_u32(STATUS) as u8)
    }

    fn set_status(&mut self, status: Status) {
        self.window.write_u32(STATUS, u32::from(status.0));
    }

    fn queue_count(&mut self) -> u16 {
        let missing = (0..u16::MAX).find(|queue| self.queue_size_max(*queue) == 0);
        missing.unwrap_or(u16::MAX)
    }

    fn queue_size_max(&mut self, queue: u16) -> u16 {
        self.window.write_u32(QUEUE_SEL, u32::from(queue));
        self.window.read_u32(QUEUE_SIZE_MAX).min(u32::from(MAX_QUEUE_SIZE)) as u16
    }

    /// In the order of virtio 1.3 §4.2.3.2.
    fn enable_queue(&mut self, queue: u16, layout: RingLayout) -> Result<(), TransportError> {
        self.window.write_u32(QUEUE_SEL, u32::from(queue));
        if self.window.read_u32(QUEUE_READY) != 0 {
            return Err(TransportError::QueueInUse(queue));
        }
        let max = self.queue_size_max(queue);
        if max == 0 {
            return Err(TransportError::NoQueue(queue));
        }
        if layout.size == 0 || layout.size > max {
            return Err(TransportError::QueueSize { queue, wanted: layout.size, max });
        }
        self.window.write_u32(QUEUE_SIZE, u32::from(layout.size));
        self.write_area(QUEUE_DESC_LOW, QUEUE_DESC_HIGH, layout.descriptor_area);
        self.write_area(QUEUE_DRIVER_LOW, QUEUE_DRIVER_HIGH, layout.driver_area);
        self.write_area(QUEUE_DEVICE_LOW, QUEUE_DEVICE_HIGH, layout.device_area);
        self.window.write_u32(QUEUE_READY, 1);
        if self.window.read_u32(QUEUE_READY) == 1 { Ok(()) } else { Err(TransportError::QueueRefused(queue)) }
    }

    fn reset_queue(&mut self, queue: u16) -> Result<(), TransportError> {
        if !self.negotiated.contains(Features::RING_RESET) {
            return Err(TransportError::NotNegotiated(Features::RING_RESET));
        }
        self.window.write_u32(QUEUE_SEL, u32::from(queue));
        self.window.write_u32(QUEUE_RESET, 1);
        // virtio 1.3 §4.2.2.1: QueueReset reads as 1 until the reset is done; then it and QueueReady read as 0.
        for _ in 0..RESET_POLLS {
            if self.window.read_u32(QUEUE_RESET) == 0 && self.window.read_u32(QUEUE_READY) == 0 {
                return Ok(());
            }
            spin_loop();
        }
        Err(TransportError::QueueResetTimeout(queue))
    }

    /// virtio 1.3 §4.2.3.3: 32 bits, of which the upper half carries the position when that is negotiated.
    fn notify(&mut self, queue: u16, next: u16) -> Result<(), TransportError> {
        self.window.write_u32(QUEUE_NOTIFY, notification_word(self.negotiated, queue, next));
        Ok(())
    }

    fn config_generation(&mut self) -> u32 {
        self.window.read_u32(CONFIG_GENERATION)
    }

    fn read_config_field(&mut self, offset: u64, out: &mut [u8]) -> Result<(), TransportError> {
        read_fields(&self.window, (CONFIG, self.window.window_len() - CONFIG), offset, out)
    }

    fn write_config_field(&mut self, offset: u64, data: &[u8]) -> Result<(), TransportError> {
        write_fields(&self.window, (CONFIG, self.window.window_len() - CONFIG), offset, data)
    }

    /// virtio 1.3 §4.2.3.4: reads the reasons, and acknowledges those.
    fn take_interrupts(&mut self) -> Interrupts {
        let reasons = self.window.read_u32(INTERRUPT_STATUS) & u32::from(INTERRUPT_QUEUE | INTERRUPT_CONFIG);
        if reasons != 0 {
            self.window.write_u32(INTERRUPT_ACK, reasons);
        }
        Interrupts::from_reasons(reasons as u8)
    }
}

#[cfg(test)]
mod tests;
