//! `virtio-test`: two request formats on one virtqueue. All fields are little-endian.

use crate::Features;

/// Size of the one virtqueue, in descriptors.
pub const QUEUE_SIZE: u16 = 128;
/// Without this feature the driver uses no queue.
pub const F_CAN_PRINT: Features = Features::bit(0);
/// Size of the configuration space, in bytes: `u32` `num_pages`, `actual`, `event`.
pub const CONFIG_LEN: usize = 12;
/// Size of the text in either request, in bytes; it ends at its first NUL.
pub const TEXT_LEN: usize = 32;

/// Factorial, device-readable part: `u32 arg1`, text.
pub const FACTORIAL_READABLE_LEN: usize = 4 + TEXT_LEN;
/// Factorial, device-writable part: `u32 ret`, the factorial of `arg1` modulo 2^32.
pub const FACTORIAL_WRITABLE_LEN: usize = 4;

/// Echo+100, device-readable part: `u32 type, arg1, arg2, arg3`, text.
pub const ECHO_READABLE_LEN: usize = 16 + TEXT_LEN;
/// Echo+100, device-writable part: `u32 ret, arg1, arg2`.
pub const ECHO_WRITABLE_LEN: usize = 12;
/// What the device adds to each argument, wrapping.
pub const ECHO_INCREMENT: u32 = 100;
/// What the driver sends as text in an echo+100 request.
pub const ECHO_TEXT: &str = "hello back end!";
