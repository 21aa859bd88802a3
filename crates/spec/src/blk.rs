//! Block device (virtio 1.3 §5.2): one or more queues of requests. All fields are little-endian.

use crate::features::Features;

/// Bytes that a sector number counts (virtio 1.3 §5.2.6), whatever the device's block size.
pub const SECTOR_LEN: usize = 512;

/// The device can only be read.
pub const RO: Features = Features::bit(5);
/// [`BLOCK_SIZE`] in the configuration space is valid.
pub const BLK_SIZE: Features = Features::bit(6);
/// Written data can be flushed to stable storage.
pub const FLUSH: Features = Features::bit(9);
/// The device has several queues, and [`NUM_QUEUES`] in the configuration space is valid.
pub const MQ: Features = Features::bit(12);

/// Offset of the capacity in sectors in the configuration space, `u64` (virtio 1.3 §5.2.4).
pub const CAPACITY: usize = 0;
/// Offset of the block size in bytes, `u32`.
pub const BLOCK_SIZE: usize = 20;
/// Offset of the number of queues, `u16`.
pub const NUM_QUEUES: usize = 34;
/// Length of the configuration space up to the last field of virtio 1.0 to 1.2 devices, in bytes.
pub const CONFIG_LEN: usize = 60;

/// Length of what precedes the data of a request: type `u32`, reserved `u32`, sector `u64` (virtio 1.3 §5.2.6).
pub const HEADER_LEN: usize = 16;
/// Length of the status, which is the last that the device writes.
pub const STATUS_LEN: usize = 1;

/// Request type: read.
pub const T_IN: u32 = 0;
/// Request type: write.
pub const T_OUT: u32 = 1;
/// Request type: flush.
pub const T_FLUSH: u32 = 4;

/// Status: done.
pub const S_OK: u8 = 0;
/// Status: an error of the device or its medium.
pub const S_IOERR: u8 = 1;
/// Status: the device does not know the request.
pub const S_UNSUPP: u8 = 2;
