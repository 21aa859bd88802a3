//! The kernel's calls for interfaces (`linux/if_tun.h`, netdevice(7)).
//!
//! This module holds `unsafe` because `ioctl` knows nothing of its argument.
#![allow(unsafe_code)]

use rustix::net::{AddressFamily, SocketType, socket};
use std::fs::OpenOptions;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use vioduct_spec::net::*;
use vioduct_virtio_device::Features;

/// Whether an interface has several queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Queues {
    One,
    Many,
}

/// One queue of an interface.
pub(super) struct Interface {
    pub(super) fd: OwnedFd,
    pub(super) name: String,
}

/// Bits of `TUNSETOFFLOAD` by feature.
const OFFLOADS: [(Features, u32); 4] = [
    (GUEST_CSUM, libc::TUN_F_CSUM),
    (GUEST_TSO4, libc::TUN_F_TSO4),
    (GUEST_TSO6, libc::TUN_F_TSO6),
    (GUEST_ECN, libc::TUN_F_TSO_ECN),
];
/// The kernel knows these together.
const UDP_SEGMENTS: u32 = libc::TUN_F_USO4 | libc::TUN_F_USO6;

impl Interface {
    /// A queue of interface `name`, which is made if it is not there.
    pub(super) fn open(control: &str, name: &str, queues: Queues) -> io::Result<Self> {
        let fd =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(control)?.into();
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        let flags = match queues {
            Queues::One => flags,
            Queues::Many => flags | libc::IFF_MULTI_QUEUE,
        };
        let mut request = request(name);
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        call(&fd, libc::TUNSETIFF, &mut request)?;
        let name = request.ifr_name.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0);
        let name = String::from_utf8_lossy(&name.collect::<Vec<_>>()).into_owned();
        let mut header_len = HEADER_LEN as libc::c_int;
        call(&fd, libc::TUNSETVNETHDRSZ, &mut header_len)?;
        Ok(Self { fd, name })
    }

    /// What the kernel can do for, and expect of, a card on this interface; nothing is set then.
    pub(super) fn probe(&self) -> io::Result<Features> {
        let tcp = OFFLOADS.iter().fold(0, |all, (_, bit)| all | bit);
        let mut features = Features::NONE;
        if set(&self.fd, tcp).is_ok() {
            let taken = CSUM | HOST_TSO4 | HOST_TSO6 | HOST_ECN;
            features = OFFLOADS.iter().fold(taken | CTRL_GUEST_OFFLOADS, |all, (feature, _)| all | *feature);
        }
        if set(&self.fd, tcp | UDP_SEGMENTS).is_ok() {
            features = features | GUEST_USO4 | GUEST_USO6 | HOST_USO;
        }
        set(&self.fd, 0)?;
        Ok(features)
    }
}

/// Has the kernel leave these offloads to the driver.
pub(super) fn set_offloads(fd: &OwnedFd, taken: Features) -> io::Result<()> {
    // virtio 1.3 §5.1.3.1: all others need this one, and a driver that says otherwise gets none.
    if !taken.contains(GUEST_CSUM) {
        return set(fd, 0);
    }
    let tcp =
        OFFLOADS.iter().filter(|(feature, _)| taken.contains(*feature)).fold(0, |all, (_, bit)| all | bit);
    let udp = if taken.contains(GUEST_USO4 | GUEST_USO6) { UDP_SEGMENTS } else { 0 };
    set(fd, tcp | udp)
}

fn set(fd: &OwnedFd, bits: u32) -> io::Result<()> {
    // SAFETY: the argument is a number.
    match unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(bits)) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// This queue gets packets.
pub(super) fn attach(fd: &OwnedFd) -> io::Result<()> {
    set_queue(fd, libc::IFF_ATTACH_QUEUE)
}

/// This queue gets no packets any more.
pub(super) fn detach(fd: &OwnedFd) -> io::Result<()> {
    set_queue(fd, libc::IFF_DETACH_QUEUE)
}

fn set_queue(fd: &OwnedFd, flags: libc::c_int) -> io::Result<()> {
    let mut request = request("");
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    call(fd, libc::TUNSETQUEUE, &mut request)
}

/// The number of the interface `name`.
pub(super) fn index(name: &str) -> io::Result<i32> {
    let mut request = request(name);
    call(&any_socket()?, libc::SIOCGIFINDEX, &mut request)?;
    // SAFETY: the call has put a number there.
    Ok(unsafe { request.ifr_ifru.ifru_ifindex })
}

pub(super) fn set_mtu(name: &str, mtu_bytes: u16) -> io::Result<()> {
    let mut request = request(name);
    request.ifr_ifru.ifru_mtu = mtu_bytes.into();
    call(&any_socket()?, libc::SIOCSIFMTU, &mut request)
}

pub(super) fn set_up(name: &str) -> io::Result<()> {
    let socket = any_socket()?;
    let mut request = request(name);
    call(&socket, libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: the call has put flags there.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
    call(&socket, libc::SIOCSIFFLAGS, &mut request)
}

/// Sockets of any kind can be asked of interfaces; a sandbox allows these.
fn any_socket() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::UNIX, SocketType::DGRAM, None)?)
}

/// A request about the interface `name`; what is too long of it is cut.
fn request(name: &str) -> libc::ifreq {
    // SAFETY: all zeroes is a request about no interface: it is made of arrays and numbers.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    let last = request.ifr_name.len() - 1;
    request
        .ifr_name
        .iter_mut()
        .take(last)
        .zip(name.bytes())
        .for_each(|(to, from)| *to = from as libc::c_char);
    request
}

fn call<T>(fd: &OwnedFd, number: libc::c_ulong, argument: &mut T) -> io::Result<()> {
    // SAFETY: callers pass what the kernel's headers name for `number`, which it reads and writes within this call.
    match unsafe { libc::ioctl(fd.as_raw_fd(), number, std::ptr::from_mut(argument)) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
