//! The fields of the common configuration structure (virtio 1.3 §4.1.4.3) as a table.

use vioduct_spec::pci::common_config as at;
use vioduct_virtio_device::{Area, Half};

/// A field, or half of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Register {
    DeviceFeatureSelect,
    DeviceFeature,
    DriverFeatureSelect,
    DriverFeature,
    ConfigVector,
    NumQueues,
    DeviceStatus,
    ConfigGeneration,
    QueueSelect,
    QueueSize,
    QueueVector,
    QueueEnable,
    QueueNotifyOff,
    QueueAddress(Area),
    QueueAddressHalf(Area, Half),
    QueueNotifConfigData,
    QueueReset,
    AdminQueueIndex,
    AdminQueueNum,
}

/// What a driver may do with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    ReadOnly,
    ReadWrite,
}

/// One row: a register, its offset and width in bytes, and its access.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row(pub(crate) Register, pub(crate) u64, pub(crate) usize, pub(crate) Access);

use Access::{ReadOnly, ReadWrite};
use Area::{Descriptor, Device, Driver};
use Half::{High, Low};
use Register::*;

/// virtio 1.3 §4.1.3.2 has 64-bit fields accessible by halves; whole ones are accepted too, which some drivers use.
pub(crate) const TABLE: &[Row] = &[
    Row(DeviceFeatureSelect, at::DEVICE_FEATURE_SELECT, 4, ReadWrite),
    Row(DeviceFeature, at::DEVICE_FEATURE, 4, ReadOnly),
    Row(DriverFeatureSelect, at::DRIVER_FEATURE_SELECT, 4, ReadWrite),
    Row(DriverFeature, at::DRIVER_FEATURE, 4, ReadWrite),
    Row(ConfigVector, at::CONFIG_MSIX_VECTOR, 2, ReadWrite),
    Row(NumQueues, at::NUM_QUEUES, 2, ReadOnly),
    Row(DeviceStatus, at::DEVICE_STATUS, 1, ReadWrite),
    Row(ConfigGeneration, at::CONFIG_GENERATION, 1, ReadOnly),
    Row(QueueSelect, at::QUEUE_SELECT, 2, ReadWrite),
    Row(QueueSize, at::QUEUE_SIZE, 2, ReadWrite),
    Row(QueueVector, at::QUEUE_MSIX_VECTOR, 2, ReadWrite),
    Row(QueueEnable, at::QUEUE_ENABLE, 2, ReadWrite),
    Row(QueueNotifyOff, at::QUEUE_NOTIFY_OFF, 2, ReadOnly),
    Row(QueueAddress(Descriptor), at::QUEUE_DESC, 8, ReadWrite),
    Row(QueueAddressHalf(Descriptor, Low), at::QUEUE_DESC, 4, ReadWrite),
    Row(QueueAddressHalf(Descriptor, High), at::QUEUE_DESC + 4, 4, ReadWrite),
    Row(QueueAddress(Driver), at::QUEUE_DRIVER, 8, ReadWrite),
    Row(QueueAddressHalf(Driver, Low), at::QUEUE_DRIVER, 4, ReadWrite),
    Row(QueueAddressHalf(Driver, High), at::QUEUE_DRIVER + 4, 4, ReadWrite),
    Row(QueueAddress(Device), at::QUEUE_DEVICE, 8, ReadWrite),
    Row(QueueAddressHalf(Device, Low), at::QUEUE_DEVICE, 4, ReadWrite),
    Row(QueueAddressHalf(Device, High), at::QUEUE_DEVICE + 4, 4, ReadWrite),
    Row(QueueNotifConfigData, at::QUEUE_NOTIF_CONFIG_DATA, 2, ReadOnly),
    Row(QueueReset, at::QUEUE_RESET, 2, ReadWrite),
    Row(AdminQueueIndex, at::ADMIN_QUEUE_INDEX, 2, ReadOnly),
    Row(AdminQueueNum, at::ADMIN_QUEUE_NUM, 2, ReadOnly),
];

impl Register {
    /// The register that an access is to, if its width is right.
    pub(crate) fn readable(offset: u64, len: usize) -> Option<Self> {
        find(offset, len).map(|Row(register, ..)| *register)
    }

    /// As [`readable`](Self::readable), if it may also be written.
    pub(crate) fn writable(offset: u64, len: usize) -> Option<Self> {
        find(offset, len).filter(|Row(.., access)| *access == ReadWrite).map(|Row(register, ..)| *register)
    }
}

fn find(offset: u64, len: usize) -> Option<&'static Row> {
    TABLE.iter().find(|Row(_, at, width, _)| (*at, *width) == (offset, len))
}
