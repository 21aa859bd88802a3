//! `/dev/vhost-demo`, its ioctls and their arguments.
//!
//! Unsafe code makes the calls, with arguments in a buffer that is larger than any of them, or at addresses that are none.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::Error;
use std::os::fd::{AsRawFd, OwnedFd};

use vioduct_spec::vhost::{
    self, ATTACH_VRING_WORKER, FREE_WORKER, GET_FEATURES, GET_VRING_BASE, GET_VRING_BUSYLOOP_TIMEOUT,
    GET_VRING_WORKER, NEW_WORKER, SET_FEATURES, SET_LOG_BASE, SET_LOG_FD, SET_MEM_TABLE, SET_OWNER,
    SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_BUSYLOOP_TIMEOUT, SET_VRING_CALL, SET_VRING_ERR,
    SET_VRING_KICK, SET_VRING_NUM,
};
use vioduct_spec::vhost_demo::{GET_VALUE, NODE, SET_RUNNING, SET_VALUE};

use super::memory::Memory;

/// Those with a queue's number in front.
pub(super) const OF_QUEUES: [u32; 11] = [
    SET_VRING_NUM,
    SET_VRING_ADDR,
    SET_VRING_BASE,
    GET_VRING_BASE,
    SET_VRING_KICK,
    SET_VRING_CALL,
    SET_VRING_ERR,
    SET_VRING_BUSYLOOP_TIMEOUT,
    GET_VRING_BUSYLOOP_TIMEOUT,
    ATTACH_VRING_WORKER,
    GET_VRING_WORKER,
];
/// Those of the device whose argument is a pointer, and that are the owner's alone.
pub(super) const OF_DEVICES: [u32; 9] = [
    SET_FEATURES,
    SET_MEM_TABLE,
    SET_LOG_BASE,
    SET_LOG_FD,
    NEW_WORKER,
    FREE_WORKER,
    SET_RUNNING,
    GET_VALUE,
    SET_VALUE,
];
/// Those that it has not, of the vhost core's and of other devices'.
pub(super) const OF_OTHERS: [u32; 8] = [
    vhost::SET_VRING_ENDIAN,
    vhost::GET_VRING_ENDIAN,
    vhost::SET_BACKEND_FEATURES,
    vhost::GET_BACKEND_FEATURES,
    vhost::NET_SET_BACKEND,
    vhost::VSOCK_SET_RUNNING,
    0x4004_afa3, // what would be next here
    0xffff_ffff,
];

/// No descriptor.
pub(super) const NONE: i32 = -1;
/// Flag of a ring's addresses: what is written to the used ring is logged.
pub(super) const LOG_USED: u32 = 1;

/// Addresses at which this process has nothing: the first page, beyond what is canonical, the kernel's, the last.
pub(super) const NOWHERE: [u64; 6] =
    [0, 8, 0x8000_0000_0000_0000, 0xffff_8000_0000_0000, 0xffff_ffff_8000_0000, 0xffff_ffff_ffff_fffc];

/// No argument is longer.
const ARGUMENT_LEN: usize = 4096;
#[repr(align(8))]
struct Argument([u8; ARGUMENT_LEN]);

/// An open device.
#[derive(Debug)]
pub(super) struct Device(File);

impl Device {
    pub(super) fn open() -> Result<Self, Error> {
        Ok(Self(OpenOptions::new().read(true).write(true).open(NODE)?))
    }

    /// One that this process was given.
    pub(super) fn given(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }

    pub(super) fn file(&self) -> &File {
        &self.0
    }

    /// A call with an argument, which is what the kernel made of it afterwards.
    pub(super) fn call(&self, number: u32, bytes: &mut [u8]) -> Result<(), Error> {
        let mut argument = Argument([0; ARGUMENT_LEN]);
        argument.0[..bytes.len()].copy_from_slice(bytes);
        // SAFETY: no ioctl of the device's reads or writes more than the argument holds.
        let result = unsafe { self.raw_call(number, (&raw mut argument).expose_provenance() as u64) };
        bytes.copy_from_slice(&argument.0[..bytes.len()]);
        result
    }

    /// A call with an argument in shared memory, or in part beyond its end.
    pub(super) fn call_in(&self, number: u32, memory: &Memory, offset: usize) -> Result<(), Error> {
        // SAFETY: such memory is only reached in ways that bear changes.
        unsafe { self.raw_call(number, memory.address(offset)) }
    }

    /// A call with an argument at one of the addresses that are none.
    pub(super) fn call_nowhere(&self, number: u32, nowhere: usize) -> Result<(), Error> {
        // SAFETY: there is nothing at the address that could change.
        unsafe { self.raw_call(number, NOWHERE[nowhere % NOWHERE.len()]) }
    }

    /// # Safety
    ///
    /// What the kernel writes to the address must be no surprise.
    unsafe fn raw_call(&self, number: u32, argument: u64) -> Result<(), Error> {
        // SAFETY: the descriptor is open; for the argument the caller answers.
        let result =
            unsafe { libc::syscall(libc::SYS_ioctl, self.0.as_raw_fd(), u64::from(number), argument) };
        if result < 0 { Err(Error::last_os_error()) } else { Ok(()) }
    }

    pub(super) fn set_owner(&self) -> Result<(), Error> {
        self.call(SET_OWNER, &mut [])
    }

    pub(super) fn features(&self) -> Result<u64, Error> {
        let mut bytes = [0; 8];
        self.call(GET_FEATURES, &mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    pub(super) fn set_features(&self, features: u64) -> Result<(), Error> {
        self.call(SET_FEATURES, &mut features.to_ne_bytes())
    }

    pub(super) fn set_running(&self, running: i32) -> Result<(), Error> {
        self.call(SET_RUNNING, &mut running.to_ne_bytes())
    }

    pub(super) fn value(&self) -> Result<u32, Error> {
        let mut bytes = [0; 4];
        self.call(GET_VALUE, &mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    pub(super) fn set_value(&self, value: u32) -> Result<(), Error> {
        self.call(SET_VALUE, &mut value.to_ne_bytes())
    }

    /// Another thread for queues, by its number.
    pub(super) fn new_worker(&self) -> Result<u32, Error> {
        let mut bytes = [0; 4];
        self.call(NEW_WORKER, &mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    pub(super) fn free_worker(&self, worker: u32) -> Result<(), Error> {
        self.call(FREE_WORKER, &mut worker.to_ne_bytes())
    }

    /// Gives the queue to a thread.
    pub(super) fn attach_worker(&self, worker: u32) -> Result<(), Error> {
        self.call(ATTACH_VRING_WORKER, &mut pair(0, worker))
    }

    /// The thread that has the queue.
    pub(super) fn worker(&self) -> Result<u32, Error> {
        self.number_of_queue(GET_VRING_WORKER)
    }

    /// Where the queue goes on.
    pub(super) fn position(&self) -> Result<u32, Error> {
        self.number_of_queue(GET_VRING_BASE)
    }

    fn number_of_queue(&self, ioctl: u32) -> Result<u32, Error> {
        let mut bytes = pair(0, 0);
        self.call(ioctl, &mut bytes)?;
        let [_, _, _, _, number @ ..] = bytes;
        Ok(u32::from_ne_bytes(number))
    }

    pub(super) fn set_table(&self, regions: &[Region]) -> Result<(), Error> {
        self.call(SET_MEM_TABLE, &mut table(regions.len() as u32, 0, regions))
    }
}

/// A queue's number and a number, as most ioctls of queues have it.
pub(super) fn pair(index: u32, number: u32) -> [u8; 8] {
    (u64::from(number) << 32 | u64::from(index)).to_ne_bytes()
}

/// A queue's number and a descriptor.
pub(super) fn event(index: u32, descriptor: i32) -> [u8; 8] {
    pair(index, descriptor.cast_unsigned())
}

/// A queue's addresses.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Addresses {
    pub(super) index: u32,
    pub(super) flags: u32,
    pub(super) descriptors: u64,
    pub(super) used: u64,
    pub(super) available: u64,
    pub(super) log: u64,
}

impl Addresses {
    pub(super) fn bytes(self) -> [u8; 40] {
        let mut bytes = [0; 40];
        let (front, words) = bytes.split_at_mut(8);
        front.copy_from_slice(&pair(self.index, self.flags));
        for (to, word) in
            words.chunks_exact_mut(8).zip([self.descriptors, self.used, self.available, self.log])
        {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

/// A piece of the guest's memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Region {
    pub(super) guest: u64,
    pub(super) len: u64,
    pub(super) address: u64,
}

/// A memory table that says that it has so many regions.
pub(super) fn table(count: u32, padding: u32, regions: &[Region]) -> Vec<u8> {
    let mut bytes = pair(count, padding).to_vec();
    for Region { guest, len, address } in regions {
        bytes.extend([*guest, *len, *address, 0].into_iter().flat_map(u64::to_ne_bytes));
    }
    bytes
}
