//! The requests to vhost devices by their numbers (`linux/vhost.h`): a sandbox allows these.

use vioduct_spec::vhost_demo;

/// Vhost's letter among the ioctls.
const MAGIC: u32 = 0xaf;

/// Where an argument goes, as this process sees it.
enum Direction {
    None = 0,
    Write = 1,
    Read = 2,
    Both = 3,
}

/// `_IOC`: a request with an argument of `len` bytes.
const fn request(direction: Direction, number: u32, len: u32) -> u32 {
    (direction as u32) << 30 | len << 16 | MAGIC << 8 | number
}

pub(crate) const GET_FEATURES: u32 = request(Direction::Read, 0x00, 8);
pub(crate) const SET_FEATURES: u32 = request(Direction::Write, 0x00, 8);
pub(crate) const SET_OWNER: u32 = request(Direction::None, 0x01, 0);
pub(crate) const SET_MEM_TABLE: u32 = request(Direction::Write, 0x03, 8);
pub(crate) const SET_LOG_BASE: u32 = request(Direction::Write, 0x04, 8);
pub(crate) const SET_LOG_FD: u32 = request(Direction::Write, 0x07, 4);
pub(crate) const NEW_WORKER: u32 = request(Direction::Read, 0x08, 4);
pub(crate) const SET_VRING_NUM: u32 = request(Direction::Write, 0x10, 8);
pub(crate) const SET_VRING_ADDR: u32 = request(Direction::Write, 0x11, 40);
pub(crate) const SET_VRING_BASE: u32 = request(Direction::Write, 0x12, 8);
pub(crate) const GET_VRING_BASE: u32 = request(Direction::Both, 0x12, 8);
pub(crate) const ATTACH_VRING_WORKER: u32 = request(Direction::Write, 0x15, 8);
pub(crate) const SET_VRING_KICK: u32 = request(Direction::Write, 0x20, 8);
pub(crate) const SET_VRING_CALL: u32 = request(Direction::Write, 0x21, 8);
pub(crate) const SET_VRING_ERR: u32 = request(Direction::Write, 0x22, 8);
pub(crate) const NET_SET_BACKEND: u32 = request(Direction::Write, 0x30, 8);
pub(crate) const VSOCK_SET_GUEST_CID: u32 = request(Direction::Write, 0x60, 8);
pub(crate) const VSOCK_SET_RUNNING: u32 = request(Direction::Write, 0x61, 4);

/// What is asked when a device is made, before its driver is there.
pub const SET_UP: &[u32] = &[GET_FEATURES, SET_OWNER, NEW_WORKER, ATTACH_VRING_WORKER, VSOCK_SET_GUEST_CID];

/// What is asked while a driver uses the device, from whichever thread it traps into.
pub const RUNNING: &[u32] = &[
    SET_FEATURES,
    SET_MEM_TABLE,
    SET_LOG_BASE,
    SET_LOG_FD,
    SET_VRING_NUM,
    SET_VRING_ADDR,
    SET_VRING_BASE,
    GET_VRING_BASE,
    SET_VRING_KICK,
    SET_VRING_CALL,
    SET_VRING_ERR,
    NET_SET_BACKEND,
    VSOCK_SET_RUNNING,
    vhost_demo::SET_RUNNING,
    vhost_demo::GET_VALUE,
    vhost_demo::SET_VALUE,
];

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
            (SET_MEM_TABLE, 0x4008_af03),
            (SET_LOG_BASE, 0x4008_af04),
            (SET_LOG_FD, 0x4004_af07),
            (NEW_WORKER, 0x8004_af08),
            (SET_VRING_NUM, 0x4008_af10),
            (SET_VRING_ADDR, 0x4028_af11),
            (SET_VRING_BASE, 0x4008_af12),
            (GET_VRING_BASE, 0xc008_af12),
            (ATTACH_VRING_WORKER, 0x4008_af15),
            (SET_VRING_KICK, 0x4008_af20),
            (SET_VRING_CALL, 0x4008_af21),
            (SET_VRING_ERR, 0x4008_af22),
            (NET_SET_BACKEND, 0x4008_af30),
            (VSOCK_SET_GUEST_CID, 0x4008_af60),
            (VSOCK_SET_RUNNING, 0x4004_af61),
        ];
        for (ours, theirs) in rows {
            assert_eq!(ours, theirs, "{ours:#x} is not {theirs:#x}");
        }
    }
}
