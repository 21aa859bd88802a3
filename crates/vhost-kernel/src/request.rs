//! [`Request`]: what is asked of a vhost device, and its argument as bytes (`linux/vhost_types.h`).

use std::os::fd::{AsRawFd, BorrowedFd};
use vioduct_spec::{vhost, vhost_demo};

/// One request. `ring` counts within the device node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request<'a> {
    /// The memory of this process is meant from now on.
    SetOwner,
    GetFeatures,
    SetFeatures(u64),
    /// Features of the interface.
    GetBackendFeatures,
    SetBackendFeatures(u64),
    SetMemTable(&'a [Slot]),
    /// Where the log is, in this process.
    SetLogBase(u64),
    /// What is signalled when something is logged.
    SetLogFd(BorrowedFd<'a>),
    NewWorker,
    AttachVringWorker {
        ring: u32,
        worker: u32,
    },
    SetVringNum {
        ring: u32,
        size: u16,
    },
    SetVringBase {
        ring: u32,
        base: u16,
    },
    GetVringBase {
        ring: u32,
    },
    SetVringAddr {
        ring: u32,
        areas: Areas,
    },
    SetVringKick {
        ring: u32,
        event: BorrowedFd<'a>,
    },
    SetVringCall {
        ring: u32,
        event: BorrowedFd<'a>,
    },
    SetVringErr {
        ring: u32,
        event: BorrowedFd<'a>,
    },
    /// The TAP that a queue is connected to; none: no more.
    NetSetBackend {
        ring: u32,
        tap: Option<BorrowedFd<'a>>,
    },
    VsockSetGuestCid(u64),
    VsockSetRunning(Running),
    DemoSetRunning(Running),
    DemoGetValue,
    DemoSetValue(u32),
}

/// Whether a device that starts all its queues at once serves them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Running {
    Stopped = 0,
    Started = 1,
}

/// A part of the guest's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    /// Guest-physical address.
    pub(crate) guest: u64,
    /// In bytes.
    pub(crate) len: u64,
    /// Where it is mapped in this process.
    pub(crate) user: u64,
}

/// A ring's areas by their addresses in this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Areas {
    pub(crate) descriptor: u64,
    pub(crate) driver: u64,
    pub(crate) device: u64,
    /// The device area's guest-physical address, if writes to it are logged.
    pub(crate) log: Option<u64>,
}

impl Request<'_> {
    pub(crate) fn number(&self) -> u32 {
        match self {
            Self::SetOwner => vhost::SET_OWNER,
            Self::GetFeatures => vhost::GET_FEATURES,
            Self::SetFeatures(_) => vhost::SET_FEATURES,
            Self::GetBackendFeatures => vhost::GET_BACKEND_FEATURES,
            Self::SetBackendFeatures(_) => vhost::SET_BACKEND_FEATURES,
            Self::SetMemTable(_) => vhost::SET_MEM_TABLE,
            Self::SetLogBase(_) => vhost::SET_LOG_BASE,
            Self::SetLogFd(_) => vhost::SET_LOG_FD,
            Self::NewWorker => vhost::NEW_WORKER,
            Self::AttachVringWorker { .. } => vhost::ATTACH_VRING_WORKER,
            Self::SetVringNum { .. } => vhost::SET_VRING_NUM,
            Self::SetVringBase { .. } => vhost::SET_VRING_BASE,
            Self::GetVringBase { .. } => vhost::GET_VRING_BASE,
            Self::SetVringAddr { .. } => vhost::SET_VRING_ADDR,
            Self::SetVringKick { .. } => vhost::SET_VRING_KICK,
            Self::SetVringCall { .. } => vhost::SET_VRING_CALL,
            Self::SetVringErr { .. } => vhost::SET_VRING_ERR,
            Self::NetSetBackend { .. } => vhost::NET_SET_BACKEND,
            Self::VsockSetGuestCid(_) => vhost::VSOCK_SET_GUEST_CID,
            Self::VsockSetRunning(_) => vhost::VSOCK_SET_RUNNING,
            Self::DemoSetRunning(_) => vhost_demo::SET_RUNNING,
            Self::DemoGetValue => vhost_demo::GET_VALUE,
            Self::DemoSetValue(_) => vhost_demo::SET_VALUE,
        }
    }

    /// For a person: `the kernel does not …`.
    pub(crate) fn action(&self) -> &'static str {
        match self {
            Self::SetOwner => "take this process as the device's owner",
            Self::GetFeatures | Self::SetFeatures(_) => "agree on features",
            Self::GetBackendFeatures | Self::SetBackendFeatures(_) => "agree on messages",
            Self::SetMemTable(_) => "take the guest's memory",
            Self::SetLogBase(_) | Self::SetLogFd(_) => "log what it writes",
            Self::NewWorker | Self::AttachVringWorker { .. } => "give a queue a thread of its own",
            Self::SetVringNum { .. } | Self::SetVringBase { .. } | Self::SetVringAddr { .. } => {
                "take a queue"
            }
            Self::SetVringKick { .. } | Self::SetVringCall { .. } | Self::SetVringErr { .. } => {
                "take a queue's events"
            }
            Self::GetVringBase { .. } => "give a queue back",
            Self::NetSetBackend { tap: Some(_), .. } => "serve a queue with the TAP",
            Self::NetSetBackend { tap: None, .. } => "let go of the TAP",
            Self::VsockSetGuestCid(_) => "give the guest its context id (is another guest using it?)",
            Self::VsockSetRunning(Running::Started) | Self::DemoSetRunning(Running::Started) => "start",
            Self::VsockSetRunning(Running::Stopped) | Self::DemoSetRunning(Running::Stopped) => "stop",
            Self::DemoGetValue | Self::DemoSetValue(_) => "hand the stored value over",
        }
    }

    /// What the kernel reads, or room for what it writes; in this machine's byte order.
    pub(crate) fn argument(&self) -> Vec<u8> {
        match *self {
            Self::SetOwner => Vec::new(),
            Self::GetFeatures | Self::GetBackendFeatures => longs(&[0]),
            Self::SetFeatures(number)
            | Self::SetBackendFeatures(number)
            | Self::SetLogBase(number)
            | Self::VsockSetGuestCid(number) => longs(&[number]),
            Self::SetMemTable(slots) => table(slots),
            Self::SetLogFd(event) => words(&[descriptor(Some(event))]),
            Self::NewWorker | Self::DemoGetValue => words(&[0]),
            Self::AttachVringWorker { ring, worker } => words(&[ring, worker]),
            Self::SetVringNum { ring, size } => words(&[ring, size.into()]),
            Self::SetVringBase { ring, base } => words(&[ring, base.into()]),
            Self::GetVringBase { ring } => words(&[ring, 0]),
            Self::SetVringAddr { ring, areas } => addresses(ring, areas),
            Self::SetVringKick { ring, event }
            | Self::SetVringCall { ring, event }
            | Self::SetVringErr { ring, event } => words(&[ring, descriptor(Some(event))]),
            Self::NetSetBackend { ring, tap } => words(&[ring, descriptor(tap)]),
            Self::VsockSetRunning(running) | Self::DemoSetRunning(running) => words(&[running as u32]),
            Self::DemoSetValue(value) => words(&[value]),
        }
    }

    /// The answer, out of the argument as the kernel has left it; 0 where there is none.
    pub(crate) fn answer(&self, argument: &[u8]) -> u64 {
        let word = |at: usize| -> u64 {
            let bytes = argument.get(at..).and_then(<[u8]>::first_chunk);
            bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes).into())
        };
        match self {
            Self::GetFeatures | Self::GetBackendFeatures => {
                argument.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
            }
            Self::NewWorker | Self::DemoGetValue => word(0),
            // `struct vhost_vring_state`: the ring, then its base.
            Self::GetVringBase { .. } => word(4),
            _ => 0,
        }
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

/// -1 stands for no file.
fn descriptor(file: Option<BorrowedFd<'_>>) -> u32 {
    file.map_or(-1, |file| file.as_raw_fd()).cast_unsigned()
}

/// `struct vhost_memory`: how many regions, padding, and the regions: guest address, length, address here, padding.
fn table(slots: &[Slot]) -> Vec<u8> {
    let mut bytes = words(&[slots.len() as u32, 0]);
    bytes.extend(slots.iter().flat_map(|slot| longs(&[slot.guest, slot.len, slot.user, 0])));
    bytes
}

/// `struct vhost_vring_addr`: ring, flags, descriptor table, used ring, available ring, where writes to the used ring are logged.
fn addresses(ring: u32, areas: Areas) -> Vec<u8> {
    const LOGGED: u32 = 1;
    let Areas { descriptor, driver, device, log } = areas;
    let mut bytes = words(&[ring, if log.is_some() { LOGGED } else { 0 }]);
    bytes.extend(longs(&[descriptor, device, driver, log.unwrap_or_default()]));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ioctl;
    use std::os::fd::AsFd;

    /// One of each.
    fn every<'a>(slots: &'a [Slot], event: BorrowedFd<'a>) -> Vec<Request<'a>> {
        let areas = Areas { descriptor: 1, driver: 2, device: 3, log: None };
        vec![
            Request::SetOwner,
            Request::GetFeatures,
            Request::SetFeatures(1),
            Request::GetBackendFeatures,
            Request::SetBackendFeatures(1),
            Request::SetMemTable(slots),
            Request::SetLogBase(1),
            Request::SetLogFd(event),
            Request::NewWorker,
            Request::AttachVringWorker { ring: 0, worker: 0 },
            Request::SetVringNum { ring: 0, size: 1 },
            Request::SetVringBase { ring: 0, base: 1 },
            Request::GetVringBase { ring: 0 },
            Request::SetVringAddr { ring: 0, areas },
            Request::SetVringKick { ring: 0, event },
            Request::SetVringCall { ring: 0, event },
            Request::SetVringErr { ring: 0, event },
            Request::NetSetBackend { ring: 0, tap: None },
            Request::VsockSetGuestCid(3),
            Request::VsockSetRunning(Running::Started),
            Request::DemoSetRunning(Running::Started),
            Request::DemoGetValue,
            Request::DemoSetValue(1),
        ]
    }

    /// Bits 16 to 29 of a number are the length of its argument; the table of memory goes on behind it.
    #[test]
    fn arguments_are_as_long_as_their_numbers_say_and_all_are_known_to_sandboxes() {
        let slots = [Slot { guest: 0, len: 4096, user: 4096 }; 2];
        let event = std::io::stderr();
        let all = every(&slots, event.as_fd());
        for request in &all {
            let declared = (request.number() >> 16 & 0x3fff) as usize;
            let more = if let Request::SetMemTable(slots) = request { slots.len() * 32 } else { 0 };
            assert_eq!(request.argument().len(), declared + more, "{request:?}");
            let listed = [ioctl::SET_UP, ioctl::RUNNING].concat();
            assert!(listed.contains(&request.number()), "{request:?}");
        }
        assert_eq!(all.len(), ioctl::SET_UP.len() + ioctl::RUNNING.len());
    }

    #[test]
    fn arguments_have_the_kernels_layout() {
        let slots = [Slot { guest: 1 << 32, len: 4096, user: 0x7f00_0000_1000 }];
        let expected = [words(&[1, 0]), longs(&[1 << 32, 4096, 0x7f00_0000_1000, 0])].concat();
        assert_eq!(Request::SetMemTable(&slots).argument(), expected);
        let areas = Areas { descriptor: 1, driver: 2, device: 3, log: Some(4) };
        let expected = [words(&[5, 1]), longs(&[1, 3, 2, 4])].concat();
        assert_eq!(Request::SetVringAddr { ring: 5, areas }.argument(), expected);
        assert_eq!(Request::NetSetBackend { ring: 1, tap: None }.argument(), words(&[1, u32::MAX]));
    }

    #[test]
    fn answers_are_where_the_kernel_puts_them() {
        assert_eq!(Request::GetFeatures.answer(&longs(&[1 << 40])), 1 << 40);
        assert_eq!(Request::GetVringBase { ring: 7 }.answer(&words(&[7, 9])), 9);
        assert_eq!(Request::DemoGetValue.answer(&words(&[0x2333])), 0x2333);
        assert_eq!(Request::SetOwner.answer(&[]), 0);
    }
}
