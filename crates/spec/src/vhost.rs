//! Linux's vhost: requests to its devices by their numbers (`linux/vhost.h`). Of some, the header has the direction wrong; it is kept.

/// Where an argument goes, as the program sees it.
pub(super) enum Direction {
    None = 0,
    Write = 1,
    Read = 2,
    Both = 3,
}

/// Vhost's letter among the ioctls.
const MAGIC: u32 = 0xaf;

/// `_IOC`: a request with an argument of `len` bytes.
pub(super) const fn request(direction: Direction, number: u32, len: u32) -> u32 {
    (direction as u32) << 30 | len << 16 | MAGIC << 8 | number
}

/// `VHOST_GET_FEATURES`: the features that the kernel's back-end has.
pub const GET_FEATURES: u32 = request(Direction::Read, 0x00, 8);
/// `VHOST_SET_FEATURES`: the features that were negotiated.
pub const SET_FEATURES: u32 = request(Direction::Write, 0x00, 8);
/// `VHOST_SET_OWNER`: the caller's memory is the device's.
pub const SET_OWNER: u32 = request(Direction::None, 0x01, 0);
/// `VHOST_RESET_OWNER`: nobody's is.
pub const RESET_OWNER: u32 = request(Direction::None, 0x02, 0);
/// `VHOST_SET_MEM_TABLE`: the guest's memory, as many regions as the argument says.
pub const SET_MEM_TABLE: u32 = request(Direction::Write, 0x03, 8);
/// `VHOST_SET_LOG_BASE`: where the log of writes is.
pub const SET_LOG_BASE: u32 = request(Direction::Write, 0x04, 8);
/// `VHOST_SET_LOG_FD`: what is signalled when the log was written.
pub const SET_LOG_FD: u32 = request(Direction::Write, 0x07, 4);
/// `VHOST_NEW_WORKER`: makes a thread for queues.
pub const NEW_WORKER: u32 = request(Direction::Read, 0x08, 4);
/// `VHOST_FREE_WORKER`: ends it.
pub const FREE_WORKER: u32 = request(Direction::Write, 0x09, 4);
/// `VHOST_SET_VRING_NUM`: a queue's size.
pub const SET_VRING_NUM: u32 = request(Direction::Write, 0x10, 8);
/// `VHOST_SET_VRING_ADDR`: a queue's addresses.
pub const SET_VRING_ADDR: u32 = request(Direction::Write, 0x11, 40);
/// `VHOST_SET_VRING_BASE`: where a queue goes on.
pub const SET_VRING_BASE: u32 = request(Direction::Write, 0x12, 8);
/// `VHOST_GET_VRING_BASE`: stops a queue, and says where it would go on.
pub const GET_VRING_BASE: u32 = request(Direction::Both, 0x12, 8);
/// `VHOST_SET_VRING_ENDIAN`: a queue's byte order.
pub const SET_VRING_ENDIAN: u32 = request(Direction::Write, 0x13, 8);
/// `VHOST_GET_VRING_ENDIAN`: the same, read.
pub const GET_VRING_ENDIAN: u32 = request(Direction::Write, 0x14, 8);
/// `VHOST_ATTACH_VRING_WORKER`: gives a queue to a thread.
pub const ATTACH_VRING_WORKER: u32 = request(Direction::Write, 0x15, 8);
/// `VHOST_GET_VRING_WORKER`: which thread has it.
pub const GET_VRING_WORKER: u32 = request(Direction::Both, 0x16, 8);
/// `VHOST_SET_VRING_KICK`: the driver's notifications.
pub const SET_VRING_KICK: u32 = request(Direction::Write, 0x20, 8);
/// `VHOST_SET_VRING_CALL`: the device's.
pub const SET_VRING_CALL: u32 = request(Direction::Write, 0x21, 8);
/// `VHOST_SET_VRING_ERR`: what is signalled when a queue is broken.
pub const SET_VRING_ERR: u32 = request(Direction::Write, 0x22, 8);
/// `VHOST_SET_VRING_BUSYLOOP_TIMEOUT`: how long a queue is polled.
pub const SET_VRING_BUSYLOOP_TIMEOUT: u32 = request(Direction::Write, 0x23, 8);
/// `VHOST_GET_VRING_BUSYLOOP_TIMEOUT`: the same, read.
pub const GET_VRING_BUSYLOOP_TIMEOUT: u32 = request(Direction::Write, 0x24, 8);
/// `VHOST_SET_BACKEND_FEATURES`: features of the interface, as negotiated.
pub const SET_BACKEND_FEATURES: u32 = request(Direction::Write, 0x25, 8);
/// `VHOST_GET_BACKEND_FEATURES`: features of the interface.
pub const GET_BACKEND_FEATURES: u32 = request(Direction::Read, 0x26, 8);
/// `VHOST_NET_SET_BACKEND`: the socket or TAP of a queue of a network card.
pub const NET_SET_BACKEND: u32 = request(Direction::Write, 0x30, 8);
/// `VHOST_VSOCK_SET_GUEST_CID`: the guest's address.
pub const VSOCK_SET_GUEST_CID: u32 = request(Direction::Write, 0x60, 8);
/// `VHOST_VSOCK_SET_RUNNING`: 1 starts the queues, 0 stops them.
pub const VSOCK_SET_RUNNING: u32 = request(Direction::Write, 0x61, 4);

/// A feature of the interface: messages about translations have the second layout (`VHOST_BACKEND_F_IOTLB_MSG_V2`).
pub const BACKEND_IOTLB_MSG_V2: u64 = 1 << 1;

/// Messages about translations (`struct vhost_msg_v2`), written to the node and read from it, in this machine's byte order.
pub mod translation {
    /// Length of a message in bytes.
    pub const LEN: usize = 72;
    /// `u32`: what follows, which is [`KIND`]'s number.
    pub const TYPE: usize = 0;
    /// `u64`: the first address, as the driver has it.
    pub const IOVA: usize = 8;
    /// `u64`: how many bytes.
    pub const SIZE: usize = 16;
    /// `u64`: the same place in this process.
    pub const USER: usize = 24;
    /// `u8`: what the device may do there.
    pub const PERMISSION: usize = 32;
    /// `u8`: which of the messages it is.
    pub const MESSAGE: usize = 33;
    /// `VHOST_IOTLB_MSG_V2`.
    pub const KIND: u32 = 2;
    /// To read and to write (`VHOST_ACCESS_RW`).
    pub const READ_WRITE: u8 = 3;
    /// The kernel lacks a translation (`VHOST_IOTLB_MISS`).
    pub const MISS: u8 = 1;
    /// This is a translation (`VHOST_IOTLB_UPDATE`).
    pub const UPDATE: u8 = 2;
    /// It is one no more (`VHOST_IOTLB_INVALIDATE`).
    pub const INVALIDATE: u8 = 3;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a C program prints the macros of `linux/vhost.h`.
    #[test]
    fn numbers_are_those_of_the_kernels_headers() {
        let rows = [
            (GET_FEATURES, 0x8008_af00),
            (SET_FEATURES, 0x4008_af00),
            (SET_OWNER, 0xaf01),
            (RESET_OWNER, 0xaf02),
            (SET_MEM_TABLE, 0x4008_af03),
            (SET_LOG_BASE, 0x4008_af04),
            (SET_LOG_FD, 0x4004_af07),
            (NEW_WORKER, 0x8004_af08),
            (FREE_WORKER, 0x4004_af09),
            (SET_VRING_NUM, 0x4008_af10),
            (SET_VRING_ADDR, 0x4028_af11),
            (SET_VRING_BASE, 0x4008_af12),
            (GET_VRING_BASE, 0xc008_af12),
            (SET_VRING_ENDIAN, 0x4008_af13),
            (GET_VRING_ENDIAN, 0x4008_af14),
            (ATTACH_VRING_WORKER, 0x4008_af15),
            (GET_VRING_WORKER, 0xc008_af16),
            (SET_VRING_KICK, 0x4008_af20),
            (SET_VRING_CALL, 0x4008_af21),
            (SET_VRING_ERR, 0x4008_af22),
            (SET_VRING_BUSYLOOP_TIMEOUT, 0x4008_af23),
            (GET_VRING_BUSYLOOP_TIMEOUT, 0x4008_af24),
            (SET_BACKEND_FEATURES, 0x4008_af25),
            (GET_BACKEND_FEATURES, 0x8008_af26),
            (NET_SET_BACKEND, 0x4008_af30),
            (VSOCK_SET_GUEST_CID, 0x4008_af60),
            (VSOCK_SET_RUNNING, 0x4004_af61),
        ];
        for (ours, theirs) in rows {
            assert_eq!(ours, theirs, "{ours:#x} is not {theirs:#x}");
        }
    }
}
