//! `vhost-demo`: what Linux's `/dev/vhost-demo` has beside the ioctls that every vhost device has. The requests are those of
//! [`demo`](super::demo).
//!
//! Every argument is a pointer to 4 bytes in the machine's own byte order.

use super::vhost::{Direction, request};

/// The device node of the kernel's back-end.
pub const NODE: &str = "/dev/vhost-demo";
/// The back-end's one virtqueue, as the ring's ioctls count.
pub const QUEUE: u32 = 0;
/// Bytes of an argument.
const ARGUMENT_LEN: u32 = 4;

/// `_IOW(0xAF, 0xA0, int)`: 1 starts the queue, 0 stops it.
pub const SET_RUNNING: u32 = request(Direction::Write, 0xa0, ARGUMENT_LEN);
/// `_IOR(0xAF, 0xA1, u32)`: the value that is stored.
pub const GET_VALUE: u32 = request(Direction::Read, 0xa1, ARGUMENT_LEN);
/// `_IOW(0xAF, 0xA2, u32)`: stores a value, as a request would.
pub const SET_VALUE: u32 = request(Direction::Write, 0xa2, ARGUMENT_LEN);

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_those_of_the_kernels_macros() {
        assert_eq!(super::SET_RUNNING, 0x4004_afa0);
        assert_eq!(super::GET_VALUE, 0x8004_afa1);
        assert_eq!(super::SET_VALUE, 0x4004_afa2);
    }
}
