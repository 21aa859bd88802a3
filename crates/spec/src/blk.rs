//! Block device (virtio 1.3 §5.2): one or more queues of requests. All fields are little-endian.

use crate::features::Features;

/// Bytes that a sector number counts (virtio 1.3 §5.2.6), whatever the device's block size.
pub const SECTOR_LEN: usize = 512;

/// [`SIZE_MAX_LEN`] in the configuration space is valid.
pub const SIZE_MAX: Features = Features::bit(1);
/// [`SEG_MAX_COUNT`] in the configuration space is valid.
pub const SEG_MAX: Features = Features::bit(2);
/// The geometry in the configuration space is valid.
pub const GEOMETRY: Features = Features::bit(4);
/// The device can only be read.
pub const RO: Features = Features::bit(5);
/// [`BLOCK_SIZE`] in the configuration space is valid.
pub const BLK_SIZE: Features = Features::bit(6);
/// Written data can be flushed to stable storage.
pub const FLUSH: Features = Features::bit(9);
/// The fields of optimal access from [`PHYSICAL_BLOCK_EXP`] on are valid.
pub const TOPOLOGY: Features = Features::bit(10);
/// [`WRITEBACK`] in the configuration space says how writes are cached, and can be written.
pub const CONFIG_WCE: Features = Features::bit(11);
/// The device has several queues, and [`NUM_QUEUES`] in the configuration space is valid.
pub const MQ: Features = Features::bit(12);
/// The device supports [`T_DISCARD`], and its limits in the configuration space are valid.
pub const DISCARD: Features = Features::bit(13);
/// The device supports [`T_WRITE_ZEROES`], and its limits in the configuration space are valid.
pub const WRITE_ZEROES: Features = Features::bit(14);
/// The device tells how worn it is.
pub const LIFETIME: Features = Features::bit(15);
/// The device supports [`T_SECURE_ERASE`].
pub const SECURE_ERASE: Features = Features::bit(16);
/// The device is a zoned one.
pub const ZONED: Features = Features::bit(17);

/// Offset of the capacity in sectors in the configuration space, `u64` (virtio 1.3 §5.2.4).
pub const CAPACITY: usize = 0;
/// Offset of the largest length of a segment in bytes, `u32`.
pub const SIZE_MAX_LEN: usize = 8;
/// Offset of the largest number of segments in a request, `u32`.
pub const SEG_MAX_COUNT: usize = 12;
/// Offset of the block size in bytes, `u32`.
pub const BLOCK_SIZE: usize = 20;
/// Offset of the number of logical blocks in a physical one, as an exponent of 2, `u8`.
pub const PHYSICAL_BLOCK_EXP: usize = 24;
/// Offset of the first aligned logical block, `u8`.
pub const ALIGNMENT_OFFSET: usize = 25;
/// Offset of the suggested least length of an access in logical blocks, `u16`.
pub const MIN_IO_SIZE: usize = 26;
/// Offset of the suggested greatest length of an access in logical blocks, `u32`.
pub const OPT_IO_SIZE: usize = 28;
/// Offset of the cache mode, `u8`: [`WRITETHROUGH_CACHE`] or [`WRITEBACK_CACHE`].
pub const WRITEBACK: usize = 32;
/// Offset of the number of queues, `u16`.
pub const NUM_QUEUES: usize = 34;
/// Offset of the greatest number of sectors in a discarded range, `u32`.
pub const MAX_DISCARD_SECTORS: usize = 36;
/// Offset of the greatest number of ranges in a discard, `u32`.
pub const MAX_DISCARD_SEG: usize = 40;
/// Offset of the number of sectors that discarded ranges are best aligned to, `u32`.
pub const DISCARD_SECTOR_ALIGNMENT: usize = 44;
/// Offset of the greatest number of sectors in a range of zeroes, `u32`.
pub const MAX_WRITE_ZEROES_SECTORS: usize = 48;
/// Offset of the greatest number of ranges in a write of zeroes, `u32`.
pub const MAX_WRITE_ZEROES_SEG: usize = 52;
/// Offset of whether a write of zeroes with [`RANGE_UNMAP`] may deallocate sectors, `u8`.
pub const WRITE_ZEROES_MAY_UNMAP: usize = 56;
/// Length of the configuration space up to the last field of virtio 1.0 to 1.2 devices, in bytes.
pub const CONFIG_LEN: usize = 60;

/// A completed write is on stable storage.
pub const WRITETHROUGH_CACHE: u8 = 0;
/// A completed write is on stable storage once a flush has completed.
pub const WRITEBACK_CACHE: u8 = 1;

/// Length of what precedes the data of a request: type `u32`, reserved `u32`, sector `u64` (virtio 1.3 §5.2.6).
pub const HEADER_LEN: usize = 16;
/// Length of the status, which is the last that the device writes.
pub const STATUS_LEN: usize = 1;
/// Length of the answer to [`T_GET_ID`]: a text, and zeros unless it is that long.
pub const ID_LEN: usize = 20;
/// Length of a range in the data of [`T_DISCARD`] and [`T_WRITE_ZEROES`]: sector `u64`, number of sectors `u32`, flags `u32`.
pub const RANGE_LEN: usize = 16;
/// Flag of a range: its sectors may be deallocated.
pub const RANGE_UNMAP: u32 = 1;

/// Request type: read.
pub const T_IN: u32 = 0;
/// Request type: write.
pub const T_OUT: u32 = 1;
/// Request type: flush.
pub const T_FLUSH: u32 = 4;
/// Request type: read the device's identification.
pub const T_GET_ID: u32 = 8;
/// Request type: read how worn the device is.
pub const T_GET_LIFETIME: u32 = 10;
/// Request type: the content of ranges is needed no more.
pub const T_DISCARD: u32 = 11;
/// Request type: ranges are to read as zeroes.
pub const T_WRITE_ZEROES: u32 = 13;
/// Request type: erase ranges, and every copy of them.
pub const T_SECURE_ERASE: u32 = 14;

/// Status: done.
pub const S_OK: u8 = 0;
/// Status: an error of the device or its medium.
pub const S_IOERR: u8 = 1;
/// Status: the device does not know the request.
pub const S_UNSUPP: u8 = 2;
