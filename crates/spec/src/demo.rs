//! `virtio-demo`: one stored `u32`, read and written by requests of 8 device-readable and 8 device-writable bytes.
//! All fields are little-endian.

/// Size of the one virtqueue, in descriptors.
pub const QUEUE_SIZE: u16 = 128;
/// Size of either half of a request, in bytes: `u32` opcode, `u32` operand.
pub const HALF_LEN: usize = 8;
/// Size of the configuration space, in bytes: `u32`, the current value.
pub const CONFIG_LEN: usize = 4;
/// The value stored at first.
pub const INITIAL_VALUE: u32 = 0x1333;
/// The reply's operand is the stored value.
pub const OP_READ: u32 = 0;
/// The operand is stored and repeated in the reply.
pub const OP_WRITE: u32 = 1;
/// The opcode of the reply to an unknown opcode.
pub const OP_INVALID: u32 = 0xffff_ffff;
/// `_IO(0xB7, 0xD0)`, an ioctl of Linux's node for the device: how often its driver has notified it, as the call's result.
pub const COUNT_DOORBELLS: u32 = 0xb7d0;
/// Values that the lab writes and reads back.
pub const LAB_VALUES: [u32; 3] = [0x1333, 0x2333, 0x3333];
