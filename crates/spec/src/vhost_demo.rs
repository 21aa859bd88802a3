//! `vhost-demo`: what Linux's `/dev/vhost-demo` has beside the ioctls that every vhost device has. The requests are those of
//! [`demo`](super::demo).
//!
//! Every argument is a pointer to 4 bytes in the machine's own byte order.

/// The device node of the kernel's back-end.
pub const NODE: &str = "/dev/vhost-demo";
/// The back-end's one virtqueue, as the ring's ioctls count.
pub const QUEUE: u32 = 0;

/// `_IOW(0xAF, 0xA0, int)`: 1 starts the queue, 0 stops it.
pub const SET_RUNNING: u32 = ioctl(Direction::Write, 0xa0);
/// `_IOR(0xAF, 0xA1, u32)`: the value that is stored.
pub const GET_VALUE: u32 = ioctl(Direction::Read, 0xa1);
/// `_IOW(0xAF, 0xA2, u32)`: stores a value, as a request would.
pub const SET_VALUE: u32 = ioctl(Direction::Write, 0xa2);

/// Vhost's letter among the ioctls.
const MAGIC: u32 = 0xaf;
/// Bytes of an argument.
const ARGUMENT_LEN: u32 = 4;

/// Which way an argument goes, as the program sees it.
enum Direction {
    Write = 1,
    Read = 2,
}

const fn ioctl(direction: Direction, number: u32) -> u32 {
    (direction as u32) << 30 | ARGUMENT_LEN << 16 | MAGIC << 8 | number
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_those_of_the_kernels_macros() {
        assert_eq!(super::SET_RUNNING, 0x4004_afa0);
        assert_eq!(super::GET_VALUE, 0x8004_afa1);
        assert_eq!(super::SET_VALUE, 0x4004_afa2);
    }
}
