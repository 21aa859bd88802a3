//! Offsets to registers (virtio 1.3 §4.2.2, table 4.1).

use vioduct_spec::mmio;
use vioduct_virtio_device::{Area, Half};

/// What lies at an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Register {
    Magic,
    Version,
    DeviceType,
    Vendor,
    DeviceFeatures,
    DeviceFeaturesSelect,
    DriverFeatures,
    DriverFeaturesSelect,
    QueueSelect,
    QueueSizeMax,
    QueueSize,
    QueueReady,
    QueueNotify,
    QueueAddress(Area, Half),
    QueueReset,
    InterruptStatus,
    InterruptAck,
    Status,
    /// Length or address of the selected shared memory region.
    SharedMemory,
    ConfigGeneration,
    /// Reserved, or written without effect.
    Nothing,
}

/// An access by the driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// To one register, of the full 32 bits.
    Register(Register),
    /// To the configuration space, from this byte of it on.
    Config(u64),
    /// Of a width or alignment that virtio 1.3 §4.2.2.2 forbids.
    Invalid,
}

impl Access {
    pub(crate) fn decode(offset: u64, len: usize) -> Self {
        match (offset.checked_sub(mmio::CONFIG), len) {
            (Some(config), 1 | 2 | 4 | 8) => Self::Config(config),
            (None, 4) if offset.is_multiple_of(4) => Self::Register(Register::at(offset)),
            _ => Self::Invalid,
        }
    }
}

impl Register {
    fn at(offset: u64) -> Self {
        match offset {
            mmio::MAGIC_VALUE => Self::Magic,
            mmio::DEVICE_VERSION => Self::Version,
            mmio::DEVICE_ID => Self::DeviceType,
            mmio::VENDOR_ID => Self::Vendor,
            mmio::DEVICE_FEATURES => Self::DeviceFeatures,
            mmio::DEVICE_FEATURES_SEL => Self::DeviceFeaturesSelect,
            mmio::DRIVER_FEATURES => Self::DriverFeatures,
            mmio::DRIVER_FEATURES_SEL => Self::DriverFeaturesSelect,
            mmio::QUEUE_SEL => Self::QueueSelect,
            mmio::QUEUE_SIZE_MAX => Self::QueueSizeMax,
            mmio::QUEUE_SIZE => Self::QueueSize,
            mmio::QUEUE_READY => Self::QueueReady,
            mmio::QUEUE_NOTIFY => Self::QueueNotify,
            mmio::INTERRUPT_STATUS => Self::InterruptStatus,
            mmio::INTERRUPT_ACK => Self::InterruptAck,
            mmio::STATUS => Self::Status,
            mmio::QUEUE_DESC_LOW => Self::QueueAddress(Area::Descriptor, Half::Low),
            mmio::QUEUE_DESC_HIGH => Self::QueueAddress(Area::Descriptor, Half::High),
            mmio::QUEUE_DRIVER_LOW => Self::QueueAddress(Area::Driver, Half::Low),
            mmio::QUEUE_DRIVER_HIGH => Self::QueueAddress(Area::Driver, Half::High),
            mmio::QUEUE_DEVICE_LOW => Self::QueueAddress(Area::Device, Half::Low),
            mmio::QUEUE_DEVICE_HIGH => Self::QueueAddress(Area::Device, Half::High),
            mmio::SHM_LEN_LOW | mmio::SHM_LEN_HIGH => Self::SharedMemory,
            mmio::SHM_ADDR_LOW | mmio::SHM_ADDR_HIGH => Self::SharedMemory,
            mmio::QUEUE_RESET => Self::QueueReset,
            mmio::CONFIG_GENERATION => Self::ConfigGeneration,
            _ => Self::Nothing,
        }
    }
}
